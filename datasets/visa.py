"""VisA: twelve objects, good or anomalous, official CSV split (Zou et al. 2022)."""

from pathlib import Path

from twonines.datasets.layout import class_name, find_root, finish, read_rows
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

CARD = DatasetCard(
    name="visa",
    title="VisA, twelve objects, good or anomaly with masks; any set with its CSV",
    licence="CC BY 4.0",
    source="Zou et al., ECCV 2022",
    official_split="split_csv/1cls.csv; train holds good parts only",
    traps="The official training split has no defects, so teaching classes needs --split grouped. "
    "Mask values are numbers of defect kinds from 1 on, nearly black to the eye. Choose objects "
    "by name, as in visa:candle,pcb1.",
    folder="VisA",
    tasks=("anomaly", "segment"),
    classes=(GOOD, "anomaly"),
    download="From the Registry of Open Data on AWS.",
    archives=(
        Archive(
            "VisA_20220922.tar",
            "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        ),
    ),
)
_COLUMNS = ("object", "split", "label", "image", "mask")


def read(root: Path) -> Dataset:
    """Read ``split_csv/1cls.csv`` (object, split, label, image, mask)."""
    root = find_root(root, "VisA", "split_csv/1cls.csv")
    table = root / "split_csv" / "1cls.csv"
    rows = enumerate(read_rows(table, *_COLUMNS), start=2)
    return finish(CARD, root, [_record(root, number, row) for number, row in rows])


def _record(root: Path, number: int, row: dict[str, str]) -> Record:
    side = row["split"]
    if side not in ("train", "test") or not row["image"] or not row["label"]:
        raise DatasetError(
            f"1cls.csv line {number}: must have image, label and a split of train or test: {row}"
        )
    return Record(
        root / row["image"],
        class_name(row["label"]),
        official_split="train" if side == "train" else "test",
        mask=MaskFile(root / row["mask"], "nonzero") if row["mask"] else None,
        attributes={"category": row["object"]},
    )
