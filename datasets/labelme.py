"""labelme: one JSON of outlines per picture."""

import math
from pathlib import Path
from typing import Any

from twonines.datasets.layout import (
    find_by,
    finish,
    leave_out,
    picture_class,
    pictures,
    read_json,
    size_of,
)
from twonines.datasets.mask_sources import MaskPolygons, Point
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


def read(root: Path) -> Dataset:
    """Read the pictures of a folder with ``<stem>.json`` beside them."""
    root = find_by(root, "labelme", "pictures with JSON files", _fits)
    every = pictures(root)
    records = [read_record(path, _beside(path)) for path in every if _beside(path).is_file()]
    left = leave_out(CARD, len(every) - len(records), "pictures without a JSON file")
    return finish(left, root, records)


def read_record(picture: Path, outlines: Path) -> Record:
    """The record of a picture and its JSON.

    Raises:
        DatasetError: the file is no labelme JSON or has a shape without an area.
    """
    found = read_json(outlines)
    shapes = found.get("shapes")
    if not isinstance(shapes, list):
        raise DatasetError(f"{outlines}: must hold a list of shapes")
    try:
        marks = [(str(one["label"]), _polygon(one, outlines)) for one in shapes]
        size = size_of(found.get("imageHeight"), found.get("imageWidth"))
    except (KeyError, TypeError, ValueError) as exc:
        raise DatasetError(f"{outlines}: must be labelme JSON ({exc!r})") from exc
    return Record(
        picture,
        picture_class(label for label, _ in marks),
        mask=MaskPolygons(tuple(polygon for _, polygon in marks)) if marks else None,
        boxes=tuple(outline_box(polygon, label) for label, polygon in marks),
        annotated_size=size,
    )


def outline_box(polygon: tuple[Point, ...], name: str) -> Box:
    """The box around an outline."""
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return Box(min(xs), min(ys), max(xs), max(ys), name)


def _polygon(shape: dict[str, Any], outlines: Path) -> tuple[Point, ...]:
    points = tuple((float(x), float(y)) for x, y in shape["points"])
    kind = shape.get("shape_type", "polygon")
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
        f"{outlines}: a shape must be a polygon of 3 points or more, a rectangle or a circle, "
        f"got {kind!r} with {len(points)} points"
    )


def _beside(picture: Path) -> Path:
    return picture.with_suffix(".json")


def _fits(folder: Path) -> bool:
    return any(_beside(path).is_file() for path in pictures(folder))
