"""Casting: submersible pump impellers, good or defective, official split."""

from pathlib import Path

from twonines.datasets.layout import SIDES, class_name, find_root, finish, folders, pictures
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.types import GOOD

CARD = DatasetCard(
    name="casting",
    title="Casting, pump impellers from above, good or defective",
    licence="CC BY-NC-ND 4.0",
    source="Kaggle, real-life industrial dataset of casting product",
    official_split="train and test folders",
    traps="64 official test pictures equal training pictures and most are near-duplicates.",
    folder="casting_data",
    tasks=("classify",),
    classes=(GOOD, "defective"),
    published=("98.2-99.8 %, inflated by leakage, IJAMT 2022 and later",),
    download="Log in to Kaggle, download ravirajsinh45/"
    "real-life-industrial-dataset-of-casting-product and unpack it.",
)


def read(root: Path) -> Dataset:
    """Read ``casting_data/{train,test}/{def_front,ok_front}/*.jpeg``."""
    # Kaggle's archive holds casting_data in casting_data
    inner = root / "casting_data" / "casting_data"
    root = find_root(
        inner if inner.is_dir() else root,
        "Casting (casting_data)",
        "train/ok_front",
        "train/def_front",
    )
    records = []
    for side in SIDES:
        for folder in folders(root / side) if (root / side).is_dir() else []:
            name = GOOD if class_name(folder.name) == GOOD else "defective"
            records += [Record(path, name, official_split=side) for path in pictures(folder)]
    return finish(CARD, root, records)
