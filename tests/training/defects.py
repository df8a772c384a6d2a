"""Generated parts with one square or stripe each, with everything that can be known of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Dataset, DatasetCard, Record

SIDE = 64
CARD = DatasetCard(
    name="generated", title="generated", licence="CC0", source="", official_split="", traps="",
    turns=4,
)  # fmt: skip
KINDS = ("square", "stripe")
SHAPES = {"square": (12, 12), "stripe": (5, 26)}


def make_parts(
    root: Path,
    counts: dict[str, int],
    *,
    masks: bool = False,
    boxes: bool = False,
    pairs: bool = False,
    seed: int = 0,
) -> Dataset:
    """Noise with a bright square or a stripe; masks and boxes are exact where they are asked for.

    Args:
        root: where the pictures go.
        counts: pictures of ``good``, ``square`` and ``stripe``.
        masks: write and name masks.
        boxes: name boxes.
        pairs: write and name a reference without the defect.
        seed: of the noise and the places.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    records = []
    for name, count in counts.items():
        for index in range(count):
            path = root / f"{name}{index}.png"
            image = rng.normal(90, 10, (SIDE, SIDE))
            plain = image.copy()
            mask = np.zeros((SIDE, SIDE), np.uint8)
            box: tuple[Box, ...] = ()
            if name in SHAPES:
                height, width = SHAPES[name]
                y, x = int(rng.integers(0, SIDE - height)), int(rng.integers(0, SIDE - width))
                image[y : y + height, x : x + width] += 110
                mask[y : y + height, x : x + width] = 255
                box = (Box(x, y, x + width, y + height, name),)
            _save(image, path)
            reference = path.with_name(f"{path.stem}_reference.png") if pairs else None
            if reference is not None:
                _save(plain, reference)
            where = path.with_name(f"{path.stem}_mask.png")
            if masks:
                _save(mask, where)
            records.append(
                Record(
                    path,
                    name,
                    mask=MaskFile(where) if masks else None,
                    boxes=box if boxes else (),
                    reference=reference,
                )
            )
    return Dataset(CARD, root, tuple(records))


def _save(image: np.ndarray[tuple[int, ...], np.dtype[np.generic]], path: Path) -> None:
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert("RGB").save(path)
