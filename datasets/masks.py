"""The mask of a record, whatever the publisher wrote it down in."""

from pathlib import Path
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from twonines.datasets.mask_sources import (
    MaskFile,
    MaskMat,
    MaskPolygons,
    MaskRule,
    MaskRuns,
    MaskSource,
    MaskUnion,
)
from twonines.datasets.orientation import orientation
from twonines.datasets.record import Record
from twonines.errors import MaskError

Mask = npt.NDArray[np.bool_]
"""(H, W) bool, True on defective pixels."""
MASK_THRESHOLD = 127
Size = tuple[int, int]


def read_mask(record: Record, size: Size) -> Mask | None:
    """The (H, W) boolean mask of a picture of ``size`` (height, width); None where it has none.

    Convention: masks and boxes are of the picture as the models see it, EXIF orientation applied.

    Raises:
        MaskError: the mask is missing, cannot be decoded or has another size; or mask or boxes
            were made for a picture of another size, or perhaps before it was turned.
    """
    if record.mask is not None or record.boxes:
        _check_fit(record, size)
    return None if record.mask is None else _read(record.mask, size)


def read_mask_file(source: MaskFile) -> Mask:
    """A mask picture in its own size.

    Raises:
        MaskError: it is missing, cannot be decoded or has an EXIF orientation.
    """
    _wants(source.path)
    if (turned := orientation(source.path)) != 1:
        raise MaskError(
            "turned",
            f"mask: {source.path} must lie as the models see its picture, got EXIF orientation "
            f"{turned}; save it upright, without it",
        )
    try:
        with Image.open(source.path) as image:
            image.load()
            return _marked(image, source.rule)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        raise _unreadable(source.path, exc) from exc


def _check_fit(record: Record, size: Size) -> None:
    """Refuse marks that would be laid over the picture at the wrong place."""
    known, turned = record.annotated_size, orientation(record.path)
    if known not in (None, size):
        why = "" if turned == 1 else f", turned by its EXIF orientation {turned}"
        raise MaskError(
            "annotation_size",
            f"{record.path} was marked at {known}, the picture is {size} (height, width){why}",
        )
    # Only a quarter turn shows, by the size of what was marked or drawn.
    told = known is not None or isinstance(record.mask, MaskFile | MaskMat)
    if turned != 1 and not (told and turned >= 5 and size[0] != size[1]):
        raise MaskError(
            "turned",
            f"{record.path} has EXIF orientation {turned}, and whether it was marked before or "
            "after it was turned cannot be told; save it upright, without it, and mark it so",
        )


def _read(source: MaskSource, size: Size) -> Mask:
    match source:
        case MaskFile():
            return _sized(read_mask_file(source), size, str(source.path))
        case MaskMat():
            return _sized(_read_mat(source), size, str(source.path))
        case MaskPolygons():
            return _draw(source, size)
        case MaskRuns():
            return _fill(source, size)
        case MaskUnion():
            marked = [_read(one, size) for one in source.sources]
            return np.asarray(np.logical_or.reduce(marked), bool)
    assert_never(source)


def _marked(image: Image.Image, rule: MaskRule) -> Mask:
    """Where a rule asks for them the stored values decide, else grey values of 8 bits."""
    if image.mode == "F":
        raise ValueError("must have 8 or 16 bits a value, got 32-bit float")
    palette, deep = image.mode == "P", image.mode.startswith("I")
    raw: npt.NDArray[Any] = np.asarray(image if palette or deep else image.convert("L"))
    if image.mode == "1":
        raw = (raw > 0).astype(np.uint8)
    if rule == "nonzero" or (rule == "palette" and (palette or raw.max(initial=0) <= 1)):
        return raw > 0
    return (_scaled(raw) if deep else np.asarray(image.convert("L"))) > MASK_THRESHOLD


def _scaled(raw: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """16 bits to 8, as pictures are read; Pillow would cut off what is above 255."""
    low, high = int(raw.min(initial=0)), int(raw.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"must have 8 or 16 bits a value, got [{low}, {high}]")
    scaled: npt.NDArray[np.uint32] = (raw.astype(np.uint32) + 128) // 257
    return scaled


def _read_mat(source: MaskMat) -> Mask:
    from scipy.io import loadmat

    _wants(source.path)
    try:
        structure = loadmat(source.path)[source.variable]
        values: npt.NDArray[Any] = np.asarray(structure[source.field].item())
        return values >= source.least
    except Exception as exc:  # scipy raises what its parser meets
        raise _unreadable(source.path, exc) from exc


def _draw(source: MaskPolygons, size: Size) -> Mask:
    canvas = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    for polygon in source.polygons:
        if len(polygon) < 3:
            raise MaskError("mask_unreadable", f"mask: a polygon needs 3 points, got {polygon}")
        pen.polygon(list(polygon), fill=1, outline=1)
    return np.asarray(canvas, bool)


def _fill(source: MaskRuns, size: Size) -> Mask:
    height, width = size
    if source.size not in (None, size):
        raise MaskError("mask_size", f"run lengths are of {source.size}, picture is {size}")
    flat = np.zeros(height * width, bool)
    for start, length in source.runs:
        if start < 0 or length < 0 or start + length > flat.size:
            raise MaskError(
                "mask_size", f"run ({start}, {length}) is not inside {size} (height, width)"
            )
        flat[start : start + length] = True
    return flat.reshape(width, height).T


def _sized(mask: Mask, size: Size, name: str) -> Mask:
    if mask.shape != size:
        raise MaskError(
            "mask_size", f"mask {name} is {mask.shape}, picture is {size} (height, width)"
        )
    return mask


def _wants(path: Path) -> None:
    if not path.is_file():
        raise MaskError("mask_missing", f"mask: {path} is no file")


def _unreadable(path: Path, exc: Exception) -> MaskError:
    return MaskError(
        "mask_unreadable", f"mask: {path} must be readable ({type(exc).__name__}: {exc})"
    )
