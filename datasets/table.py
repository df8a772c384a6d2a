"""A CSV or Parquet table of paths and labels."""

import csv
from pathlib import Path
from typing import Any

from twonines.datasets.layout import class_name, finish, holding, warn_without_good
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="table",
    title="a CSV or Parquet table: path, label; optional group, mask, reference, split",
    licence="your own",
    source="your own",
    official_split="the column split (train or test), where it is there",
    traps="Fill the column group where one part has several pictures, and reference (a picture of "
    "the part without defects) in every row or in none.",
    tasks=("classify", "segment"),
)


def read(root: Path) -> Dataset:
    """Read a table; paths are relative to its folder. ``root`` is the table or its folder."""
    root = _find_table(root)
    if not root.is_file() or root.suffix.lower() not in (".csv", ".parquet"):
        raise DatasetError(f"root: must be a .csv or .parquet file, got {root}")
    rows = _read_csv(root) if root.suffix.lower() == ".csv" else _read_parquet(root)
    records = []
    for number, row in enumerate(rows, start=1):
        path, label = row.get("path"), row.get("label")
        if not path or label in (None, ""):
            raise DatasetError(f"{root.name} row {number}: must have path and label, got {row}")
        side = row.get("split") or None
        if side not in (None, "train", "test"):
            raise DatasetError(f"{root.name} row {number}: split must be train or test: {side!r}")
        mask, reference = row.get("mask"), row.get("reference")
        records.append(
            Record(
                root.parent / str(path),
                class_name(str(label)),
                group=str(row["group"]) if row.get("group") not in (None, "") else None,
                official_split=side,
                mask=MaskFile(root.parent / str(mask), "palette") if mask else None,
                reference=root.parent / str(reference) if reference else None,
            )
        )
    return finish(warn_without_good(CARD, records), root.parent, records)


def _find_table(root: Path) -> Path:
    """``root``, or the one table in the folder ``root``."""
    if not root.is_dir():
        return root
    tables = sorted(p for p in root.iterdir() if p.suffix.lower() in (".csv", ".parquet"))
    if len(tables) != 1:
        raise DatasetError(
            f"root: must be a .csv or .parquet file, or a folder with one, {root} holds "
            f"{len(tables)} tables and {holding(root)}"
        )
    return tables[0]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DatasetError(f"root: {path} must be a CSV in UTF-8 ({exc})") from exc


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as exc:
        raise DatasetError("root: Parquet needs pip install 'twonines[parquet]'") from exc
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except Exception as exc:  # pyarrow's errors share no public base below OSError
        raise DatasetError(f"root: {path} must be a Parquet file ({exc})") from exc
    return rows
