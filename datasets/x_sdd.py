"""X-SDD: hot-rolled strip, seven classes (Feng et al. 2021)."""

from pathlib import Path

from twonines.datasets.layout import find_root, finish, folders, pictures
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record

CARD = DatasetCard(
    name="x-sdd",
    title="X-SDD, hot-rolled strip, seven classes",
    licence="Apache-2.0",
    source="Feng et al., Symmetry 13:706, 2021",
    official_split="none",
    traps="No good class. Nine exact duplicates; two pictures are not 128 x 128.",
    folder="X-SDD",
    tasks=("classify",),
    classes=(
        "finishing roll printing",
        "iron sheet ash",
        "oxide scale of plate system",
        "oxide scale of temperature system",
        "red iron",
        "slag inclusion",
        "surface scratch",
    ),
    published=("95.10 % accuracy, macro F1 93.25 (RepVGG + SA), Symmetry 13:706",),
    download="From github.com/Fighter20092392/X-SDD-A-New-benchmark.",
    archives=(
        Archive(
            "X-SDD.zip",
            "https://github.com/Fighter20092392/X-SDD-A-New-benchmark/archive/HEAD.zip",
        ),
    ),
)


def read(root: Path) -> Dataset:
    """Read ``datas/<class with spaces>/NNNN.{jpg,png}``."""
    root = find_root(root, "X-SDD", "datas")
    records = [Record(p, f.name) for f in folders(root / "datas") for p in pictures(f)]
    return finish(CARD, root, records)
