"""GC10-DET: steel strip, ten defects with boxes (Lv et al. 2020)."""

import re
from dataclasses import replace
from pathlib import Path

from twonines.datasets.layout import find_root, finish, pictures
from twonines.datasets.record import Box, Dataset, DatasetCard, Record
from twonines.datasets.voc import read_voc
from twonines.errors import DatasetError

NAMES = {
    1: "punching_hole",
    2: "welding_line",
    3: "crescent_gap",
    4: "water_spot",
    5: "oil_spot",
    6: "silk_spot",
    7: "inclusion",
    8: "rolled_pit",
    9: "crease",
    10: "waist_folding",
}
CARD = DatasetCard(
    name="gc10-det",
    title="GC10-DET, steel strip, ten classes with boxes",
    licence="none stated; cite Lv et al. 2020",
    source="Lv et al., Sensors 20:1562, 2020",
    official_split="none",
    traps="No good class. Pictures follow one another along a coil: the file name without its last "
    "number is the group. Boxes carry pinyin names (1_chongkong), read as English here; some "
    "are of another class than their folder, and some pictures have no XML.",
    folder="GC10-DET",
    tasks=("classify", "detect"),
    classes=tuple(NAMES.values()),
    download="Get GC10-DET from Kaggle alex000kim/gc10det or github.com/lvxiaoming2019/"
    "GC10-DET-Metallic-Surface-Defect-Datasets and unpack it, so that the folders 1 to 10 and "
    "lable lie side by side.",
)


def read(root: Path) -> Dataset:
    """Read ``<1..10>/*.jpg`` with ``lable/*.xml``."""
    root = find_root(root, "GC10-DET", "lable")
    records = []
    for number, name in NAMES.items():
        for path in pictures(root / str(number)):
            found, size = read_voc(root / "lable" / f"{path.stem}.xml")
            boxes = tuple(_english(box) for box in found)
            coil = re.sub(r"_\d+$", "", path.stem)
            records.append(Record(path, name, group=coil, boxes=boxes, annotated_size=size))
    return finish(CARD, root, records)


def _english(box: Box) -> Box:
    """The box under the folder's name: its own starts with the folder's number."""
    number = box.defect_class.partition("_")[0]
    if not number.isdigit() or int(number) not in NAMES:
        raise DatasetError(f"box: must be named after 1 to 10, got {box.defect_class!r}")
    return replace(box, defect_class=NAMES[int(number)])
