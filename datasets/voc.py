"""Pascal VOC: boxes in XML, in a folder of their own or beside the pictures."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from twonines.datasets.layout import (
    Side,
    find_by,
    finish,
    leave_out,
    picture_class,
    pictures,
    read_text,
    size_of,
)
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="voc",
    title="Pascal VOC: JPEGImages and Annotations, or XML beside the pictures",
    licence="your own",
    source="your own",
    official_split="ImageSets/Main (train, val, trainval, test) where it is complete",
    traps="A picture whose boxes are of several classes is of the class several; a file without "
    "an object is good. Boxes marked difficult count as any other.",
    tasks=("detect",),
)


def read(root: Path) -> Dataset:
    """Read ``Annotations/*.xml`` with ``JPEGImages``, or a flat folder of both."""
    root = find_by(root, "Pascal VOC", "'Annotations' or XML files", _fits)
    flat = not (root / "Annotations").is_dir()
    shown = root if flat else root / "JPEGImages"
    marks = root if flat else root / "Annotations"
    sides = _sides(root / "ImageSets" / "Main")
    records = []
    every = pictures(shown)
    for path in every:
        xml = marks / f"{path.stem}.xml"
        if xml.is_file():
            boxes, size = read_voc(xml)
            kind = picture_class(box.defect_class for box in boxes)
            side = sides.get(path.stem)
            records.append(
                Record(path, kind, official_split=side, boxes=boxes, annotated_size=size)
            )
    left = len(every) - len(records)
    return finish(leave_out(CARD, left, "pictures without an XML file"), root, records)


def _fits(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() or any(folder.glob("*.xml"))


def _sides(folder: Path) -> dict[str, Side]:
    """Side by picture; validation trains where there is a test list, else it tests."""
    has_test = (folder / "test.txt").is_file()
    order: tuple[tuple[str, Side], ...] = (
        ("trainval", "train"),
        ("val", "train" if has_test else "test"),
        ("train", "train"),
        ("test", "test"),
    )
    sides: dict[str, Side] = {}
    for name, side in order:
        if (folder / f"{name}.txt").is_file():
            for line in read_text(folder / f"{name}.txt").splitlines():
                if line.strip():
                    sides[line.split()[0]] = side
    return sides


class Annotation(NamedTuple):
    """Boxes, and the size (height, width) of the picture that they were drawn on, if told."""

    boxes: tuple[Box, ...] = ()
    size: tuple[int, int] | None = None


def read_voc(path: Path) -> Annotation:
    """A Pascal VOC file; its corners are 1-based and inclusive.

    Raises:
        DatasetError: the file is there but cannot be read; a missing one gives no boxes.
    """
    if not path.exists():
        return Annotation()
    try:
        boxes = []
        top = ElementTree.parse(path).getroot()
        for item in top.iter("object"):
            corners = {k: float(item.findtext(f"bndbox/{k}", "")) for k in
                       ("xmin", "ymin", "xmax", "ymax")}  # fmt: skip
            boxes.append(
                Box(
                    corners["xmin"] - 1,
                    corners["ymin"] - 1,
                    corners["xmax"],
                    corners["ymax"],
                    item.findtext("name", ""),
                )
            )
        size = size_of(top.findtext("size/height"), top.findtext("size/width"))
        return Annotation(tuple(boxes), size)
    except (ElementTree.ParseError, ValueError) as exc:
        raise DatasetError(f"annotation: {path} must be Pascal VOC ({exc})") from exc
