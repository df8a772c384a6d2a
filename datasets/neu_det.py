"""NEU-DET: hot-rolled strip, six classes (Song & Yan 2013; He et al. 2020)."""

from pathlib import Path

from twonines.datasets.layout import Side, existing, find_root, finish, pictures
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.neu_cls import NAMES
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.datasets.voc import read_voc
from twonines.types import PICTURE_SUFFIXES

CARD = DatasetCard(
    name="neu-det",
    title="NEU-DET, hot-rolled strip, six classes with boxes",
    licence="research use; cite Song & Yan 2013 and He et al. 2020",
    source="Northeastern University; He et al., IEEE TIM 69, 2020",
    official_split="the Kaggle copy has train and validation",
    traps="No good class: it tests typing, not accept or reject. patches_101 equals patches_105; "
    "188 boxes carry another class than their file; 81 are marked difficult and count as any other "
    "here, which the protocol of Pascal VOC leaves out.",
    turns=2,
    folder="NEU-DET",
    tasks=("classify", "detect", "segment"),
    classes=tuple(NAMES.values()),
    published=(
        "boxes, mAP50: 75-78 (YOLOv8n), 81.4 (YOLO-ADS), 82.3 (DDN), He et al. 2020 and later",
        "the same pictures as NEU-CLS: typing 98.93 % (AECLBP) to about 100 % (EfficientNet)",
    ),
    download="Get NEU-DET from Song Kechen's page at Northeastern University (search for 'NEU "
    "surface defect database') or its Kaggle copy and unpack it, so that IMAGES and ANNOTATIONS, "
    "or train and validation, lie side by side. Masks of SD-saliency-900, renamed to "
    "inclusion_1.png and so on, are read from MASKS-SD-saliency-900 in or beside it.",
)
_MASKS = "MASKS-SD-saliency-900"


def read(root: Path) -> Dataset:
    """Read the publisher's layout, or the Kaggle copy with ``train`` and ``validation``."""
    root = find_root(root, "NEU-DET", "IMAGES", "train/images")
    return _read_publisher(root) if (root / "IMAGES").is_dir() else _read_kaggle(root)


def _read_publisher(root: Path) -> Dataset:
    records = []
    for path in pictures(root / "IMAGES"):
        kind = path.stem.rsplit("_", 1)[0]
        records.append(_record(root, path, kind, root / "ANNOTATIONS"))
    return finish(CARD, root, records)


def _read_kaggle(root: Path) -> Dataset:
    sides: dict[str, Side] = {"train": "train", "validation": "test"}
    records = [
        _record(root, path, path.parent.name, root / name / "annotations", side)
        for name, side in sides.items()
        for path in sorted((root / name / "images").glob("*/*"))
        if path.suffix.lower() in PICTURE_SUFFIXES
    ]
    return finish(CARD, root, records)


def _record(root: Path, path: Path, kind: str, marks: Path, side: Side | None = None) -> Record:
    boxes, size = read_voc(marks / f"{path.stem}.xml")
    return Record(
        path,
        kind,
        official_split=side,
        mask=_mask(root, path),
        boxes=boxes,
        annotated_size=size,
    )


def _mask(root: Path, picture: Path) -> MaskFile | None:
    """The mask of the same index, in the folder of masks in or beside the set."""
    inside = existing(root / _MASKS / f"{picture.stem}.png")
    return inside or existing(root.parent / _MASKS / f"{picture.stem}.png")
