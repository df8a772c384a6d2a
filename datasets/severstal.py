"""Severstal: flat sheet steel, four defects as run lengths (Kaggle 2019)."""

from collections import defaultdict
from pathlib import Path

from twonines.datasets.layout import find_root, finish, picture_class, pictures, read_rows
from twonines.datasets.mask_sources import MaskRuns
from twonines.datasets.record import SEVERAL, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

CARD = DatasetCard(
    name="severstal",
    title="Severstal, 12,568 sheets of steel, good and four defects with masks",
    licence="competition rules of Kaggle; no redistribution",
    source="Kaggle, Severstal: Steel Defect Detection, 2019",
    official_split="none that is labelled",
    traps="Some pictures carry several classes of defect (class several). Neighbouring pictures "
    "are strips of one sheet but no sheet is named, so a split may leak; the check lists "
    "near-duplicates.",
    folder="Severstal",
    tasks=("classify", "segment"),
    classes=(GOOD, "defect-1", "defect-2", "defect-3", "defect-4", SEVERAL),
    download="Log in to Kaggle, accept the rules of the competition "
    "severstal-steel-defect-detection, download its archive and unpack it, so that train.csv and "
    "train_images lie side by side.",
)


def read(root: Path) -> Dataset:
    """Read ``train_images/*.jpg`` and ``train.csv``; a picture without a run is good."""
    root = find_root(root, "Severstal", "train.csv")
    marks = _marks(root / "train.csv")
    records = []
    for path in pictures(root / "train_images"):
        found = marks.get(path.name, {})
        runs = tuple(run for name in sorted(found) for run in found[name])
        mask = MaskRuns(runs) if runs else None
        records.append(Record(path, picture_class(found), mask=mask))
    return finish(CARD, root, records)


def _marks(path: Path) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """Runs by picture and class; ``ImageId_ClassId`` is one column in the older file."""
    marks: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(dict)
    for number, row in enumerate(read_rows(path, "EncodedPixels"), start=2):
        if not row.get("EncodedPixels"):
            continue
        joined = row.get("ImageId_ClassId", "").rpartition("_")
        image, kind = row.get("ImageId") or joined[0], row.get("ClassId") or joined[2]
        if not image or not kind:
            raise DatasetError(f"train.csv line {number}: must have ImageId and ClassId, got {row}")
        runs = _runs(row["EncodedPixels"], number)
        marks[image].setdefault(f"defect-{kind}", []).extend(runs)
    return marks


def _runs(text: str, number: int) -> list[tuple[int, int]]:
    try:
        values = [int(one) for one in text.split()]
        return [(s - 1, n) for s, n in zip(values[::2], values[1::2], strict=True)]
    except ValueError as exc:
        raise DatasetError(
            f"train.csv line {number}: EncodedPixels must be pairs of start and length"
        ) from exc
