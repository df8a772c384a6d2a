"""X-SDD: hot-rolled strip, seven classes (Feng et al. 2021)."""

from pathlib import Path

from twonines.datasets.layout import find_root, finish, folders, pictures
from twonines.datasets.record import Dataset, DatasetCard, Record

CARD = DatasetCard(
    name="x-sdd",
    title="X-SDD, hot-rolled strip, seven classes",
    licence="Apache-2.0",
    source="Feng et al., Symmetry 13:706, 2021",
    official_split="none",
    traps="No good class. Nine exact duplicates; two pictures are not 128 x 128.",
)


def read(root: Path) -> Dataset:
    """Read ``datas/<class with spaces>/NNNN.{jpg,png}``."""
    root = find_root(root, "X-SDD", "datas")
    records = [Record(p, f.name) for f in folders(root / "datas") for p in pictures(f)]
    return finish(CARD, root, records)
