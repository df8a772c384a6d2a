"""Look at one picture, its mask and its boxes, and say what is wrong."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from twonines.datasets.duplicates import Bits, Thumb, fingerprint
from twonines.datasets.masks import read_mask
from twonines.datasets.orientation import upright_size
from twonines.datasets.record import DEFECTIVE, SEVERAL, Record
from twonines.errors import MaskError, TwoninesError
from twonines.types import Image as Pixels

Decoder = Callable[[bytes], Pixels]
"""A file's bytes to (H, W, 3) uint8 RGB, upright; it raises on what it refuses."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one picture.

    ``kind`` is unreadable, annotation_size, turned, mask_missing, mask_unreadable, mask_size,
    mask_empty, mask_on_good, box_outside, box_class, box_on_good, reference_unreadable or
    reference_size.
    """

    path: Path
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture showed; ``size`` (height, width) is None where it is unreadable."""

    size: tuple[int, int] | None = None
    mode: str = ""
    faults: tuple[Fault, ...] = ()
    bits: Bits | None = None
    thumb: Thumb | None = None


@dataclass(slots=True)
class _Notes:
    path: Path
    faults: list[Fault] = field(default_factory=list)

    def add(self, kind: str, detail: str) -> None:
        self.faults.append(Fault(self.path, kind, detail))


def look(record: Record, decode: Decoder | None = None) -> Look:
    """Decode the whole picture and its mask, and compare them with the label.

    ``decode`` is the models' decoder, which refuses more than Pillow does; without it Pillow's
    own is used.
    """
    notes = _Notes(record.path)
    try:
        size, mode, (bits, thumb) = _read(record.path.read_bytes(), decode)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        notes.add("unreadable", _why(exc))
        return Look(faults=tuple(notes.faults))
    _check_mask(record, size, notes)
    _check_boxes(record, size, notes)
    _check_reference(record, size, notes)
    return Look(size, mode, tuple(notes.faults), bits, thumb)


def _read(data: bytes, decode: Decoder | None) -> tuple[tuple[int, int], str, tuple[Bits, Thumb]]:
    """Upright (height, width), mode in the file, and fingerprint."""
    pixels = None if decode is None else decode(data)
    with Image.open(io.BytesIO(data)) as image:
        if pixels is None:
            image.load()
            return upright_size(image), image.mode, fingerprint(image)
        size = (pixels.shape[0], pixels.shape[1])
        return size, image.mode, fingerprint(Image.fromarray(pixels))


def _why(exc: Exception) -> str:
    if isinstance(exc, TwoninesError):
        return str(exc)
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    return f"{type(exc).__name__}: {exc}"


def _check_mask(record: Record, size: tuple[int, int], notes: _Notes) -> None:
    try:
        mask = read_mask(record, size)
    except MaskError as exc:
        notes.add(exc.kind, str(exc))
        return
    if mask is None:
        return
    marked = int(mask.sum())
    if record.is_defective and marked == 0:
        notes.add("mask_empty", "no pixel is marked on a defective part")
    if not record.is_defective and marked > 0:
        notes.add("mask_on_good", f"{marked} pixels are marked on a good part")


def _check_reference(record: Record, size: tuple[int, int], notes: _Notes) -> None:
    if record.reference is None:
        return
    try:
        with Image.open(record.reference) as image:
            image.load()
            found = upright_size(image)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        notes.add("reference_unreadable", f"{record.reference}: {_why(exc)}")
        return
    if found != size:
        notes.add("reference_size", f"reference is {found}, picture is {size} (height, width)")


def _check_boxes(record: Record, size: tuple[int, int], notes: _Notes) -> None:
    height, width = size
    for box in record.boxes:
        corners = (box.x_min, box.y_min, box.x_max, box.y_max)
        inside = 0 <= box.x_min < box.x_max <= width and 0 <= box.y_min < box.y_max <= height
        if not inside:
            notes.add("box_outside", f"box {corners} is not inside {size} (height, width)")
        if not record.is_defective:
            notes.add("box_on_good", f"box {corners} of {box.defect_class!r} on a good part")
        elif record.defect_class not in (DEFECTIVE, SEVERAL, box.defect_class):
            notes.add("box_class", f"box says {box.defect_class!r}, {record.defect_class!r} wanted")
