"""labelme: one JSON of outlines per picture."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twonines.datasets.coco_runs import crop_runs
from twonines.datasets.layout import (
    find_by,
    finish,
    leave_out,
    picture_class,
    pictures,
    read_json,
    size_of,
    warn,
)
from twonines.datasets.mask_sources import MaskPolygons, MaskRuns, MaskSource, MaskUnion, Point
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="labelme",
    title="labelme: a JSON of outlines beside each picture",
    licence="your own",
    source="your own",
    official_split="none",
    traps="A picture whose outlines are of several classes is of the class several; a JSON "
    "without an outline is a good part.",
    tasks=("segment", "detect"),
)
_CORNERS = 64
_NO_AREA = frozenset({"point", "points", "line", "linestrip"})


def read(root: Path) -> Dataset:
    """Read the pictures of a folder with ``<stem>.json`` beside them."""
    root = find_by(root, "labelme", "pictures with JSON files", _fits)
    every = pictures(root)
    records = [read_record(path, _beside(path)) for path in every if _beside(path).is_file()]
    card = leave_out(CARD, len(every) - len(records), "pictures without a JSON file")
    bare = sum(record.is_defective and not record.boxes for record in records)
    if bare:
        card = warn(card, f"{bare} pictures hold a point or line and are known by class alone.")
    return finish(card, root, records)


def read_record(picture: Path, outlines: Path) -> Record:
    """The record of a picture and its JSON.

    A shape without an area, a point or line, tells the class but not the place. Then the places
    of the other shapes are not told either: what is not marked would be taken as good.

    Raises:
        DatasetError: the file is no labelme JSON.
    """
    found = read_json(outlines)
    shapes = found.get("shapes")
    if not isinstance(shapes, list):
        raise DatasetError(f"{outlines}: must hold a list of shapes")
    try:
        size = size_of(found.get("imageHeight"), found.get("imageWidth"))
        labels = [str(one["label"]) for one in shapes]
        marks = [_mark(one, size, outlines) for one in shapes]
    except (KeyError, TypeError, ValueError, OSError) as exc:
        raise DatasetError(f"{outlines}: must be labelme JSON ({exc!r})") from exc
    placed = [mark for mark in marks if mark is not None]
    if len(placed) < len(marks):
        placed = []
    return Record(
        picture,
        picture_class(labels),
        mask=_mask([source for source, _ in placed]),
        boxes=tuple(box for _, box in placed),
        annotated_size=size,
    )


def _mask(sources: list[MaskPolygons | MaskRuns]) -> MaskSource | None:
    """All outlines in one, and painted masks beside them."""
    rings = [ring for one in sources if isinstance(one, MaskPolygons) for ring in one.polygons]
    painted = [one for one in sources if isinstance(one, MaskRuns)]
    if not painted:
        return MaskPolygons(tuple(rings)) if rings else None
    return MaskUnion((*painted, MaskPolygons(tuple(rings))))


def outline_box(polygon: tuple[Point, ...], name: str) -> Box:
    """The box around an outline."""
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return Box(min(xs), min(ys), max(xs), max(ys), name)


def _mark(
    shape: dict[str, Any], size: tuple[int, int] | None, outlines: Path
) -> tuple[MaskPolygons | MaskRuns, Box] | None:
    """Where a shape marks, and the box around it; None where it has no area."""
    # before version 4 polygons had no type, or null
    kind, label = shape.get("shape_type") or "polygon", str(shape["label"])
    points = tuple((float(x), float(y)) for x, y in shape["points"])
    if kind in _NO_AREA:
        return None
    if kind == "mask" and points:
        return _painted(shape["mask"], points[0], size, label)
    polygon = _polygon(kind, points, outlines)
    return MaskPolygons((polygon,)), outline_box(polygon, label)


def _painted(
    packed: str, corner: Point, size: tuple[int, int] | None, label: str
) -> tuple[MaskRuns, Box]:
    """A small mask as PNG in base64, and the upper left pixel where it lies."""
    if size is None:
        raise ValueError("a mask needs imageHeight and imageWidth")
    with Image.open(io.BytesIO(base64.b64decode(packed))) as image:
        crop = np.asarray(image.convert("L")) > 0
    left, top = int(corner[0]), int(corner[1])
    box = Box(left, top, left + crop.shape[1], top + crop.shape[0], label)
    return crop_runs(crop, left, top, size), box


def _polygon(kind: str, points: tuple[Point, ...], outlines: Path) -> tuple[Point, ...]:
    if kind == "polygon" and len(points) >= 3:
        return points
    if len(points) == 2 and kind in ("rectangle", "circle"):
        (x1, y1), (x2, y2) = points
        if kind == "rectangle":
            return (x1, y1), (x2, y1), (x2, y2), (x1, y2)
        reach = math.hypot(x2 - x1, y2 - y1)
        turns = [2 * math.pi * k / _CORNERS for k in range(_CORNERS)]
        return tuple((x1 + reach * math.cos(t), y1 + reach * math.sin(t)) for t in turns)
    raise DatasetError(
        f"{outlines}: a shape must be a polygon of 3 points or more, a rectangle, a circle, a "
        f"mask, a point or a line, got {kind!r} with {len(points)} points"
    )


def _beside(picture: Path) -> Path:
    return picture.with_suffix(".json")


def _fits(folder: Path) -> bool:
    return any(_beside(path).is_file() for path in pictures(folder))
