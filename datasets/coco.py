"""COCO: one JSON of boxes and outlines for many pictures."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from twonines.datasets.coco_runs import read_runs
from twonines.datasets.layout import (
    Side,
    find_by,
    finish,
    holding,
    picture_class,
    read_json,
    side_of,
    size_of,
)
from twonines.datasets.mask_sources import MaskPolygons, MaskSource, MaskUnion
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="coco",
    title="COCO: JSON in annotations or beside the pictures",
    licence="your own",
    source="your own",
    official_split="train, val and test in the names of the JSON files or their folders",
    traps="A picture without annotation is good; one with several categories is of the class "
    "several.",
    tasks=("detect", "segment"),
)


def read(root: Path) -> Dataset:
    """Read a JSON, or all below a folder: ``*.json``, ``annotations/*.json``, ``*/*.coco.json``."""
    if root.is_file():
        files = [root]
        root = root.parents[1] if root.parent.name == "annotations" else root.parent
    else:
        root = find_by(root, "COCO", "a JSON with images and annotations", lambda p: bool(_all(p)))
        files = _all(root)
    names = [path.relative_to(root).as_posix() for path in files]
    has_test = any(side_of(name, has_test=True) == "test" for name in names)
    return finish(
        CARD,
        root,
        [
            record
            for path, name in zip(files, names, strict=True)
            for record in _read(path, root, side_of(name, has_test=has_test))
        ],
    )


def _all(folder: Path) -> list[Path]:
    found = [*folder.glob("*.json"), *folder.glob("annotations/*.json")]
    return sorted(p for p in (*found, *folder.glob("*/*.coco.json")) if _is_coco(p))


def _is_coco(path: Path) -> bool:
    try:
        return {"images", "annotations"} <= set(read_json(path))
    except DatasetError:
        return False


def _read(path: Path, root: Path, side: Side | None) -> list[Record]:
    content = read_json(path)
    try:
        kinds = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        marks: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for one in content["annotations"]:
            marks[one["image_id"]].append(one)
        return [
            _record(path, root, image, marks[image["id"]], kinds, side)
            for image in content["images"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatasetError(
            f"{path}: must be COCO with images, annotations, categories: {exc!r}"
        ) from exc


def _record(
    path: Path,
    root: Path,
    image: dict[str, Any],
    marks: list[dict[str, Any]],
    kinds: dict[Any, str],
    side: Side | None,
) -> Record:
    boxes = []
    for one in marks:
        if "bbox" in one:
            x, y, width, height = (float(value) for value in one["bbox"])
            boxes.append(Box(x, y, x + width, y + height, kinds[one["category_id"]]))
    kind = picture_class(kinds[one["category_id"]] for one in marks)
    return Record(
        _picture(path, root, str(image["file_name"])),
        kind,
        official_split=side,
        mask=_mask(marks),
        boxes=tuple(boxes),
        annotated_size=size_of(image.get("height"), image.get("width")),
    )


def _mask(marks: list[dict[str, Any]]) -> MaskSource | None:
    """None unless every mark is outlined: a mask with holes would call defects good."""
    outlines: list[MaskSource] = []
    for one in marks:
        found = one.get("segmentation")
        if not found:
            return None
        if isinstance(found, dict):
            outlines.append(read_runs(found))
        else:
            rings = tuple(
                tuple(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True))
                for ring in found
            )
            outlines.append(MaskPolygons(rings))
    if len(outlines) < 2:
        return outlines[0] if outlines else None
    return MaskUnion(tuple(outlines))


def _picture(path: Path, root: Path, name: str) -> Path:
    """The picture of a file name: beside the JSON, in the root, or in the usual folders."""
    word = path.stem.removeprefix("instances_")
    places = (path.parent, root, root / "images", root / "images" / word, root / word)
    for place in places:
        if (place / name).is_file():
            return place / name
    raise DatasetError(
        f"{path.name}: {name} must lie beside it, in images or in {word}; {root} holds "
        f"{holding(root)}"
    )
