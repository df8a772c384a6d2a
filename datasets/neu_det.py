"""NEU-DET: hot-rolled strip, six classes (Song & Yan 2013; He et al. 2020)."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Literal

from twonines.datasets.layout import SUFFIXES, find_root, finish, pictures
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="neu-det",
    title="NEU-DET, hot-rolled strip, six classes with boxes",
    licence="research use; cite Song & Yan 2013 and He et al. 2020",
    source="Northeastern University; He et al., IEEE TIM 69, 2020",
    official_split="the Kaggle copy has train and validation",
    traps="No good class: it tests typing, not accept or reject. patches_101 equals patches_105; "
    "188 boxes carry another class than their file.",
    rotations_allowed=False,
)
_MASKS = "MASKS-SD-saliency-900"


def read(root: Path) -> Dataset:
    """Read the publisher's layout, or the Kaggle copy with ``train`` and ``validation``."""
    root = find_root(root, "NEU-DET", "IMAGES", "train/images")
    return _read_publisher(root) if (root / "IMAGES").is_dir() else _read_kaggle(root)


def _read_publisher(root: Path) -> Dataset:
    records = []
    for path in pictures(root / "IMAGES"):
        records.append(
            Record(
                path,
                path.stem.rsplit("_", 1)[0],
                mask=_mask(root, path),
                boxes=read_voc(root / "ANNOTATIONS" / f"{path.stem}.xml"),
            )
        )
    return finish(CARD, root, records)


def _read_kaggle(root: Path) -> Dataset:
    sides: dict[str, Literal["train", "test"]] = {"train": "train", "validation": "test"}
    records = [
        Record(
            path,
            path.parent.name,
            official_split=side,
            mask=_mask(root, path),
            boxes=read_voc(root / name / "annotations" / f"{path.stem}.xml"),
        )
        for name, side in sides.items()
        for path in sorted((root / name / "images").glob("*/*"))
        if path.suffix.lower() in SUFFIXES
    ]
    return finish(CARD, root, records)


def _mask(root: Path, picture: Path) -> Path | None:
    """The mask of the same index, in the folder of masks in or beside the set."""
    for place in (root / _MASKS, root.parent / _MASKS):
        mask = place / f"{picture.stem}.png"
        if mask.exists():
            return mask
    return None


def read_voc(path: Path) -> tuple[Box, ...]:
    """Boxes of a Pascal VOC file; its corners are 1-based and inclusive.

    Raises:
        DatasetError: the file is there but cannot be read; a missing one gives no boxes.
    """
    if not path.exists():
        return ()
    try:
        boxes = []
        for item in ElementTree.parse(path).getroot().iter("object"):
            corners = {k: float(item.findtext(f"bndbox/{k}", "")) for k in
                       ("xmin", "ymin", "xmax", "ymax")}  # fmt: skip
            boxes.append(
                Box(
                    corners["xmin"] - 1,
                    corners["ymin"] - 1,
                    corners["xmax"],
                    corners["ymax"],
                    item.findtext("name", ""),
                )
            )
        return tuple(boxes)
    except (ElementTree.ParseError, ValueError) as exc:
        raise DatasetError(f"annotation: {path} must be Pascal VOC ({exc})") from exc
