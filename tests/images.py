"""Tiny generated pictures."""

import io

import numpy as np
from PIL import Image


def png(value: int, size: tuple[int, int] = (40, 60), image_format: str = "PNG") -> bytes:
    """One uniform grey picture; ``size`` is (height, width)."""
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, image_format)
    return out.getvalue()
