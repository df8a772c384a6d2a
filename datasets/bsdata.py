"""BSData: pitting on ball screw drives with outlines (Schlagenhauf & Landwehr 2021)."""

import re
from dataclasses import replace
from pathlib import Path

from twonines.datasets.labelme import read_record
from twonines.datasets.layout import Side, find_by, finish, pictures, read_json
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

CARD = DatasetCard(
    name="bsdata",
    title="BSData, pitting on ball screw drives, colour, outlines",
    licence="CC BY-SA 4.0",
    source="Schlagenhauf & Landwehr, Data in Brief 39, 2021",
    official_split="image_data.json names train and test for the pictures with pitting only",
    traps="The same place of a spindle was shot again and again while the pitting grew, and the "
    "official split has places on both sides. Here the place is the group, and as the pictures "
    "without pitting have no official side, the automatic split is by place.",
    folder="BSData",
    tasks=("segment", "detect"),
    classes=(GOOD, "Pitting"),
    download="From github.com/2Obe/BSData.",
    archives=(Archive("BSData.zip", "https://github.com/2Obe/BSData/archive/HEAD.zip"),),
)
_PLACE = re.compile(r"\d+_\d+_(\d+_\d+)_crop_\d+$")


def read(root: Path) -> Dataset:
    """Read ``data/*.jpg`` with ``label/*.json`` and sides from ``image_data.json``."""
    root = find_by(root, "BSData", "'data' and 'label'", _fits)
    sides = _sides(root / "image_data.json")
    records = []
    for path in pictures(root / "data"):
        outlines = root / "label" / f"{path.stem}.json"
        record = read_record(path, outlines) if outlines.is_file() else Record(path, GOOD)
        place = _PLACE.match(path.stem)
        group = place[1] if place else re.sub(r"_crop_\d+$", "", path.stem)
        records.append(replace(record, group=group, official_split=sides.get(path.name)))
    return finish(CARD, root, records)


def _fits(folder: Path) -> bool:
    return (folder / "data").is_dir() and (folder / "label").is_dir()


def _sides(path: Path) -> dict[str, Side]:
    """Official side by file name; null and validation are no side, as the paper has neither."""
    if not path.is_file():
        return {}
    names: dict[object, Side] = {"train": "train", "test": "test"}
    try:
        return {
            one["filename"]: names[one["train_test_split"]]
            for one in read_json(path)["images"]
            if one["train_test_split"] in names
        }
    except (KeyError, TypeError) as exc:
        raise DatasetError(f"{path}: must list filename and train_test_split ({exc!r})") from exc
