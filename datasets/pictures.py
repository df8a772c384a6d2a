"""Look at one picture, its mask and its boxes, and say what is wrong."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from twonines.datasets.duplicates import Bits, Thumb, fingerprint
from twonines.datasets.record import Record
from twonines.errors import DatasetError

MASK_THRESHOLD = 127
"""A mask pixel is defective above this: published masks have soft edges."""
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one picture.

    ``kind`` is unreadable, mask_missing, mask_unreadable, mask_size, mask_empty, mask_on_good,
    box_outside, box_class or box_on_good.
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


def look(record: Record) -> Look:
    """Decode the whole picture and its mask, and compare them with the label."""
    notes = _Notes(record.path)
    try:
        with Image.open(record.path) as image:
            image.load()
            size, mode = _upright_size(image), image.mode
            bits, thumb = fingerprint(image)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        notes.add("unreadable", _why(exc))
        return Look(faults=tuple(notes.faults))
    _check_mask(record, size, notes)
    _check_boxes(record, size, notes)
    return Look(size, mode, tuple(notes.faults), bits, thumb)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """The (H, W) boolean mask: True on defective pixels, above ``MASK_THRESHOLD``.

    Raises:
        DatasetError: it is missing or cannot be decoded.
    """
    return _grey_mask(path) > MASK_THRESHOLD


def _grey_mask(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            image.load()
            return np.asarray(image.convert("L"), np.uint8)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        raise DatasetError(f"mask: {path} must be a readable picture ({_why(exc)})") from exc


def _why(exc: Exception) -> str:
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    return f"{type(exc).__name__}: {exc}"


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) as the decoder of the models will see it, EXIF orientation applied."""
    turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def _check_mask(record: Record, size: tuple[int, int], notes: _Notes) -> None:
    if record.mask is None:
        return
    if not record.mask.is_file():
        notes.add("mask_missing", f"{record.mask} is no file")
        return
    try:
        grey = _grey_mask(record.mask)
    except DatasetError as exc:
        notes.add("mask_unreadable", str(exc))
        return
    if grey.shape != size:
        notes.add("mask_size", f"mask is {grey.shape}, picture is {size} (height, width)")
    marked = int((grey > MASK_THRESHOLD).sum())
    if record.is_defective and marked == 0:
        faint = int((grey > 0).sum())
        notes.add("mask_empty", f"no pixel above {MASK_THRESHOLD}, {faint} above 0")
    if not record.is_defective and marked > 0:
        notes.add("mask_on_good", f"{marked} pixels are marked on a good part")


def _check_boxes(record: Record, size: tuple[int, int], notes: _Notes) -> None:
    height, width = size
    for box in record.boxes:
        corners = (box.x_min, box.y_min, box.x_max, box.y_max)
        inside = 0 <= box.x_min < box.x_max <= width and 0 <= box.y_min < box.y_max <= height
        if not inside:
            notes.add("box_outside", f"box {corners} is not inside {size} (height, width)")
        if not record.is_defective:
            notes.add("box_on_good", f"box {corners} of {box.defect_class!r} on a good part")
        elif box.defect_class != record.defect_class:
            notes.add("box_class", f"box says {box.defect_class!r}, {record.defect_class!r} wanted")
