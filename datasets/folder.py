"""A folder per class."""

from pathlib import Path

from twonines.datasets.layout import class_name, finish, folders, holding, warn_without_good
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import PICTURE_SUFFIXES

CARD = DatasetCard(
    name="folder",
    title="a folder per class; good, ok, normal or free holds good parts",
    licence="your own",
    source="your own",
    official_split="none",
    traps="Without groups, pictures of one part may stand on both sides of the split.",
    tasks=("classify",),
)


def read(root: Path) -> Dataset:
    """Read ``<class>/**/*``; every folder right below ``root`` is a class."""
    if not root.is_dir():
        raise DatasetError(f"root: must hold a folder per class, {root} is no folder")
    records = [
        Record(path, class_name(folder.name))
        for folder in folders(root)
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    ]
    if not records:
        raise DatasetError(
            f"root: must hold a folder of pictures per class, {root} holds {holding(root)}"
        )
    return finish(warn_without_good(CARD, records), root, records)
