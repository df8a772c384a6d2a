"""YOLO: a text file of boxes or outlines per picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twonines.datasets.labelme import outline_box
from twonines.datasets.layout import (
    Side,
    find_root,
    finish,
    picture_class,
    read_text,
    side_of,
    warn,
)
from twonines.datasets.mask_sources import MaskPolygons, Point
from twonines.datasets.orientation import read_upright_size
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import PICTURE_SUFFIXES

CARD = DatasetCard(
    name="yolo",
    title="YOLO: data.yaml or classes.txt, folders images and labels",
    licence="your own",
    source="your own",
    official_split="folders named train, val and test",
    traps="A picture without a label file is good, as YOLO takes it; one with several classes is "
    "of the class several.",
    tasks=("detect", "segment"),
)
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")


def read(root: Path) -> Dataset:
    """Read ``images/**`` with ``labels/**``, or ``<side>/images`` with ``<side>/labels``."""
    root = find_root(root, "YOLO", *_NAMES)
    names = _class_names(root)
    found = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and "images" in path.relative_to(root).parts[:-1]
    )
    folders = {path: path.parent.relative_to(root).as_posix() for path in found}
    has_test = any(side_of(name, has_test=True) == "test" for name in set(folders.values()))
    labels = {path: _label(root, path) for path in found}
    records = [
        _record(path, labels[path], names, side_of(folders[path], has_test=has_test))
        for path in found
    ]
    return finish(_card(root, labels), root, records)


def _card(root: Path, labels: Mapping[Path, Path]) -> DatasetCard:
    """The card, saying in front how many pictures have no label file.

    Raises:
        DatasetError: none has one: they lie elsewhere, and every defective part would be good.
    """
    missing = [path for path, label in labels.items() if not label.is_file()]
    if not missing:
        return CARD
    if len(missing) == len(labels):
        picture = missing[0].relative_to(root).as_posix()
        wanted = labels[missing[0]].relative_to(root).as_posix()
        raise DatasetError(
            f"root: YOLO must have text files of labels, such as {wanted} for {picture}, "
            f"{root} has none for {len(labels)} pictures"
        )
    what = f"{len(missing)} of {len(labels)} pictures have no label file and are taken as good."
    return warn(CARD, what)


def _class_names(root: Path) -> list[str]:
    path = next(root / name for name in _NAMES if (root / name).is_file())
    if path.suffix == ".txt":
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    names = _read_yaml(path).get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{path}: must name the classes 0, 1, ... under names, got {names!r}")
    return [str(name) for name in names]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as exc:
        raise DatasetError(f"{path}: YAML needs pip install 'twonines[bench]'") from exc
    try:
        value = yaml.safe_load(read_text(path))
    except yaml.YAMLError as exc:
        raise DatasetError(f"{path}: must be YAML ({exc})") from exc
    return value if isinstance(value, dict) else {}


def _label(root: Path, picture: Path) -> Path:
    """The text file: the last folder ``images`` on the way becomes ``labels``."""
    parts = list(picture.relative_to(root).parts)
    place = len(parts) - 1 - parts[::-1].index("images")
    parts[place] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _record(path: Path, label: Path, names: Sequence[str], side: Side | None) -> Record:
    lines = read_text(label).splitlines() if label.is_file() else []
    lines = [line for line in lines if line.strip()]
    if not lines:
        return Record(path, picture_class([]), official_split=side)
    size = _size(path)
    boxes, outlines = [], []
    for number, line in enumerate(lines, start=1):
        try:
            box, outline = _mark(line, size, names)
        except (IndexError, ValueError) as exc:
            raise DatasetError(
                f"{label} line {number}: must be a class below {len(names)} and 4 numbers, or 3 "
                f"points or more, got {line!r}"
            ) from exc
        boxes.append(box)
        if outline:
            outlines.append(outline)
    # a mask that lacks a mark would call it good
    mask = MaskPolygons(tuple(outlines)) if len(outlines) == len(boxes) else None
    kind = picture_class(box.defect_class for box in boxes)
    return Record(path, kind, official_split=side, mask=mask, boxes=tuple(boxes))


def _mark(
    line: str, size: tuple[int, int], names: Sequence[str]
) -> tuple[Box, tuple[Point, ...] | None]:
    """A box, or an outline and the box around it; numbers are shares of the picture."""
    kind, *rest = line.split()
    if int(kind) < 0:
        raise IndexError(kind)
    name = names[int(kind)]
    height, width = size
    values = [float(one) for one in rest]
    if len(values) == 4:
        x, y = values[0] * width, values[1] * height
        w, h = values[2] * width / 2, values[3] * height / 2
        return Box(x - w, y - h, x + w, y + h, name), None
    if len(values) < 6:
        raise ValueError(line)
    points = tuple((x * width, y * height) for x, y in zip(values[::2], values[1::2], strict=True))
    return outline_box(points, name), points


def _size(path: Path) -> tuple[int, int]:
    try:
        return read_upright_size(path)
    except Exception as exc:  # on broken bytes a decoder may raise anything
        raise DatasetError(f"picture: {path} must be readable ({type(exc).__name__})") from exc
