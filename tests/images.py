"""Tiny generated pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(value: int, size: tuple[int, int] = (40, 60), image_format: str = "PNG") -> bytes:
    """One uniform grey picture; ``size`` is (height, width)."""
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, image_format)
    return out.getvalue()


def draw_part(path: Path, seed: int, *, defective: bool) -> None:
    """Dark noise; a defect is the bright left half, so that the mean is bright too."""
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 60, (6, 8)).astype(np.uint8)
    pixels = np.array(Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC))
    if defective:
        pixels = pixels // 2 + 70  # below the map's threshold
        pixels[:, :16] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
