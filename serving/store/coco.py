"""Records as a COCO set to teach a model from: a folder, or an archive as a stream."""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from zipfile import ZipFile

from twonines.errors import ImageError, SettingsError, UnknownError
from twonines.models.image import decode
from twonines.serving.showing import media_type
from twonines.serving.store.entries import Finding, Recorded, shown_time
from twonines.serving.store.export import Sink, Tally
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.types import DEFECTIVE, GOOD, Verdict

_PIECE = 1 << 20
_PATIENCE = 500
_SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/bmp": ".bmp",
    "image/tiff": ".tiff", "image/webp": ".webp",
}  # fmt: skip


def export_coco(
    records: Records, filters: Filters, out: Path, *, all_labels: bool = False
) -> tuple[int, int]:
    """Write a folder that ``--dataset coco`` reads: ``annotations/records.json`` and ``images``.

    Args:
        records: whose inspections.
        filters: which of them.
        out: the folder.
        all_labels: also the model's own verdict, which teaches a model its own faults.

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
    tally = Tally()
    for name, pieces in filter(None, _files(records, filters, tally, all_labels)):
        with (out / name).open("wb") as file:
            file.writelines(pieces)
    return tally.count, tally.left_out


def coco_chunks(
    records: Records, filters: Filters, tally: Tally, *, all_labels: bool = False
) -> Generator[bytes, None, None]:
    """The bytes of a .zip that holds the folder of :func:`export_coco`, picture by picture.

    Raises:
        StoreError: the database or the picture store does not work.
    """
    sink = Sink()
    with (
        closing(_files(records, filters, tally, all_labels)) as files,
        ZipFile(sink, "w") as archive,
    ):
        for found in files:
            if found is None:
                yield b""
                continue
            name, pieces = found
            # Nobody knows the size of the list before it is written.
            with archive.open(name, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    yield sink.take()
    yield sink.take()


class _Rows:
    """Rows of JSON in a temporary file: those of a million pictures do not belong in memory."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115
        self.count = 0

    def close(self) -> None:
        self._file.close()

    def add(self, **row: Any) -> int:
        self.count += 1
        comma = b",\n" if self.count > 1 else b""
        row = {"id": self.count, **row}
        self._file.write(comma + json.dumps(row, ensure_ascii=False).encode())
        return self.count

    def pieces(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece


def _files(
    records: Records, filters: Filters, tally: Tally, all_labels: bool
) -> Generator[tuple[str, Iterable[bytes]] | None, None, None]:
    """Name and bytes of each file of a set; the list comes last.

    None comes after many inspections, so that one who has gone away can end a long search.

    A label is what a finding says, else what persons have decided, else with ``all_labels`` the
    model's own verdict. A defective picture bears the regions that the model has seen, or one box
    around all of it. A picture lies there once.
    """
    classes: dict[str, int] = {}
    seen: set[str] = set()
    with closing(_Rows()) as images, closing(_Rows()) as marks:
        for number, one in enumerate(records.iterate(filters), 1):
            if number % _PATIENCE == 0:
                yield None
            if one.picture_digest is None or one.picture_digest in seen:
                continue
            label = _label(one, records.findings_of(one.id), all_labels)
            if label is None:
                continue
            try:
                data = records.pictures.get(one.picture_digest)
                height, width = decode(data).shape[:2]
            except (UnknownError, ImageError):
                tally.left_out += 1
                continue
            seen.add(one.picture_digest)
            name = one.picture_digest + _SUFFIXES.get(media_type(data), "")
            yield f"images/{name}", (data,)
            tally.count += 1
            image_id = images.add(
                file_name=name, width=width, height=height, inspection=one.id,
                date_captured=shown_time(one.time_us), part_id=one.part_id, lot=one.lot,
                station=one.station,
            )  # fmt: skip
            for box in [] if label == GOOD else _boxes(one, width, height):
                category = classes.setdefault(label, len(classes) + 1)
                marks.add(
                    image_id=image_id, iscrowd=0, bbox=box, area=box[2] * box[3],
                    category_id=category,
                )  # fmt: skip
        yield "annotations/records.json", _listing(images, marks, classes, tally)


def _listing(images: _Rows, marks: _Rows, classes: dict[str, int], tally: Tally) -> Iterator[bytes]:
    info = {"description": "twonines records", "left_out": tally.left_out}
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    yield f'{{"info": {json.dumps(info)},\n"images": ['.encode()
    yield from images.pieces()
    yield b'],\n"annotations": ['
    yield from marks.pieces()
    yield f'],\n"categories": {json.dumps(categories, ensure_ascii=False)}}}\n'.encode()


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
