"""Records as a table, or as a COCO set to teach a model from."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from twonines.errors import ImageError, SettingsError, UnknownError
from twonines.models.image import decode
from twonines.serving.showing import media_type
from twonines.serving.store.entries import Finding, Recorded, shown_time
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.serving.tables import check_table, harmless, load_pyarrow
from twonines.types import DEFECTIVE, GOOD, Verdict

_NUMBERS = ("score", "novelty")
_ROWS = 5000
_SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/bmp": ".bmp",
    "image/tiff": ".tiff", "image/webp": ".webp",
}  # fmt: skip


def export_table(records: Records, filters: Filters, out: Path) -> int:
    """Write a .csv or .parquet with one row for each inspection, oldest first.

    In .csv, text that a spreadsheet would run as a formula gets an apostrophe in front.

    Returns:
        How many rows there are.

    Raises:
        SettingsError: the table cannot be written there.
        StoreError: the database does not work.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise SettingsError(f"out: must end in .csv or .parquet, got {out.name!r}")
    check_table(out)
    partial = out.with_name(out.name + ".tmp")
    write = _write_parquet if out.suffix == ".parquet" else _write_csv
    count = write(batched_rows(records.iterate(filters)), partial)
    os.replace(partial, out)
    return count


def batched_rows(found: Iterable[Recorded]) -> Iterator[list[dict[str, Any]]]:
    """Rows of a table, some thousand at a time; lists and mappings are JSON."""
    rest = iter(found)
    while rows := [_flat(one.public()) for one in islice(rest, _ROWS)]:
        yield rows


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for name, value in told.items()
    }


def _columns() -> list[str]:
    fields = list(Recorded.__dataclass_fields__)
    empty = Recorded(**{name: 0 for name in fields})  # type: ignore[arg-type]
    return list(empty.public())


def _write_csv(batches: Iterable[list[dict[str, Any]]], out: Path) -> int:
    count = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns())
        writer.writeheader()
        for rows in batches:
            writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
            count += len(rows)
    return count


def _write_parquet(batches: Iterable[list[dict[str, Any]]], out: Path) -> int:
    pyarrow = load_pyarrow()
    kinds = dict.fromkeys(_NUMBERS, pyarrow.float64()) | {"due": pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in _columns()])
    count = 0
    with pyarrow.parquet.ParquetWriter(out, schema) as writer:
        for rows in batches:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def export_coco(
    records: Records, filters: Filters, out: Path, *, all_labels: bool = False
) -> tuple[int, int]:
    """Write a folder that ``--dataset coco`` reads: ``annotations/records.json`` and ``images``.

    A label is what a finding says, else what persons have decided; with ``all_labels`` else the
    model's own verdict, which teaches a model its own faults. A defective picture bears the
    regions that the model has seen, or one box around all of it. A picture lies there once.

    Returns:
        How many pictures there are, and how many were left out since theirs is not kept.

    Raises:
        SettingsError: ``out`` is there already.
        StoreError: the database or the picture store does not work.
    """
    try:
        (out / "images").mkdir(parents=True)
        (out / "annotations").mkdir()
    except OSError as exc:
        raise SettingsError(f"out: must be a folder that is not there yet, got {out}") from exc
    images: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    classes: dict[str, int] = {}
    seen: set[str] = set()
    left_out = 0
    for one in records.iterate(filters):
        if one.picture_digest is None or one.picture_digest in seen:
            continue
        label = _label(one, records.findings_of(one.id), all_labels)
        if label is None:
            continue
        try:
            data = records.pictures.get(one.picture_digest)
            height, width = decode(data).shape[:2]
        except (UnknownError, ImageError):
            left_out += 1
            continue
        seen.add(one.picture_digest)
        name = one.picture_digest + _SUFFIXES.get(media_type(data), "")
        (out / "images" / name).write_bytes(data)
        number = len(images) + 1
        images.append(
            {"id": number, "file_name": name, "width": width, "height": height,
             "inspection": one.id, "date_captured": shown_time(one.time_us),
             "part_id": one.part_id, "lot": one.lot, "station": one.station}
        )  # fmt: skip
        if label != GOOD:
            for box in _boxes(one, width, height):
                marks.append(
                    {"id": len(marks) + 1, "image_id": number, "iscrowd": 0, "bbox": box,
                     "area": box[2] * box[3],
                     "category_id": classes.setdefault(label, len(classes) + 1)}
                )  # fmt: skip
    found = {
        "images": images,
        "annotations": marks,
        "categories": [{"id": number, "name": name} for name, number in classes.items()],
    }
    text = json.dumps(found, ensure_ascii=False)
    (out / "annotations" / "records.json").write_text(text, encoding="utf-8")
    return len(images), left_out


def _label(one: Recorded, findings: Sequence[Finding], all_labels: bool) -> str | None:
    """The class of a picture; None where nobody has said it."""
    if findings:
        last = findings[-1]
        return GOOD if last.kind == "overkill" else last.defect_class or DEFECTIVE
    if one.decision == Verdict.OK:
        return GOOD
    if one.decision == Verdict.NG:
        return one.decision_class or _seen_class(one)
    if not all_labels or one.verdict not in (Verdict.OK, Verdict.NG):
        return None
    return GOOD if one.verdict == Verdict.OK else _seen_class(one)


def _seen_class(one: Recorded) -> str:
    return one.defect_class if one.defect_class not in (None, GOOD) else DEFECTIVE


def _boxes(one: Recorded, width: int, height: int) -> list[list[int]]:
    boxes = [region.box for region in one.inspection.regions] or [(0, 0, width, height)]
    return [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes]
