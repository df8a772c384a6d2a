"""elpv: 2,624 solar cells by electroluminescence (Deitsch et al. 2019)."""

from pathlib import Path

from twonines.datasets.layout import find_root, finish
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

CARD = DatasetCard(
    name="elpv",
    title="elpv, 2,624 solar cells by electroluminescence",
    licence="CC BY-NC-SA 4.0 (pictures), Apache-2.0 (code)",
    source="PyPI elpv-dataset; Deitsch et al., Solar Energy 185, 2019",
    official_split="none",
    traps="Labels are graded opinions: defective is a probability of 1/2 or more; 1/3 and 2/3 "
    "are unsure. The set names no modules to group by, and about 90 clusters of cells are "
    "near-duplicates, so a split may leak a little; the check lists them.",
    turns=4,
    folder="elpv",
    tasks=("classify",),
    classes=(GOOD, "defective"),
    published=(
        "88.42 % CNN, 82.44 % SVM (75/25, probability >= 1/2), Deitsch et al. 2019",
        "90.13 % ResNet-152, PMC12391306",
    ),
    download="pip install elpv-dataset; the reader then needs no --root.",
)

# by three times the probability, which the file rounds to 16 digits
_GRADES = {0.0: 0.0, 1.0: 1 / 3, 2.0: 2 / 3, 3.0: 1.0}


def packaged_root() -> Path:
    """The folder that the PyPI package ships.

    Raises:
        DatasetError: the package is not installed.
    """
    try:
        import elpv_dataset
    except ImportError as exc:
        raise DatasetError(
            "root: elpv needs --root, or the package: pip install elpv-dataset"
        ) from exc
    return Path(str(elpv_dataset.__file__)).parent / "data"


def read(root: Path) -> Dataset:
    """Read ``labels.csv`` (path, defect probability, cell type)."""
    root = find_root(root, "elpv", "labels.csv")
    try:
        lines = (root / "labels.csv").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(f"labels.csv: must be text in UTF-8 ({exc})") from exc
    records = [
        _record(root, number, line) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    return finish(CARD, root, records)


def _record(root: Path, number: int, line: str) -> Record:
    try:
        path, text, kind = line.split()
        probability = _GRADES[round(float(text) * 3, 2)]
    except (KeyError, ValueError, OverflowError) as exc:
        raise DatasetError(
            f"labels.csv line {number}: must be 'path probability type' with a probability of "
            f"0, 1/3, 2/3 or 1, got {line!r}"
        ) from exc
    return Record(
        root / path,
        "defective" if probability >= 1 / 2 else GOOD,
        certainty=1.0 if probability in (0.0, 1.0) else 2 / 3,
        attributes={"probability": f"{probability:.2f}", "type": kind},
    )
