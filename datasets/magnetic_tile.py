"""Magnetic-Tile: five defects and good tiles with masks (Huang et al. 2020)."""

from collections.abc import Sequence
from pathlib import Path

from twonines.datasets.layout import (
    class_name,
    existing,
    find_root,
    finish,
    folders,
    pictures,
    read_rows,
    warn,
)
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record
from twonines.types import GOOD

CARD = DatasetCard(
    name="magnetic-tile",
    title="Magnetic-Tile, good tiles and five defects with masks",
    licence="academic research only; cite Huang et al. 2020",
    source="Huang et al., The Visual Computer 36, 2020",
    official_split="none",
    traps="Every tile was shot about six times: without groups.csv a split leaks (98 % random "
    "against about 85 % by tile). Four masks of MT_Uneven are empty; mask edges are soft.",
    turns=2,
    folder="Magnetic-Tile",
    tasks=("classify", "segment"),
    classes=(GOOD, "Blowhole", "Break", "Crack", "Fray", "Uneven"),
    published=(
        "pixels: mIoU 66.9, F1 74.9 (DEU-Net), random splits, Applied Sciences 14:4724",
        "typing: 98 % on a random split, about 85 % by tile",
    ),
    download="From github.com/abin24/Magnetic-tile-defect-datasets. (the dot belongs to the name).",
    archives=(
        Archive(
            "Magnetic-Tile.zip",
            "https://github.com/abin24/Magnetic-tile-defect-datasets./archive/HEAD.zip",
        ),
    ),
)


def read(root: Path) -> Dataset:
    """Read ``MT_<Class>/Imgs/*.jpg`` with masks, and tile groups from ``groups.csv``."""
    root = find_root(root, "Magnetic-Tile", "MT_Free")
    groups = _read_groups(root / "groups.csv")
    records = []
    for folder in folders(root):
        if not folder.name.startswith("MT_"):
            continue
        name = class_name(folder.name)
        for path in pictures(folder / "Imgs"):
            if path.suffix.lower() == ".png":
                continue
            records.append(
                Record(
                    path,
                    name if name == GOOD else folder.name.removeprefix("MT_"),
                    group=groups.get(path.relative_to(root).as_posix()),
                    mask=existing(path.with_suffix(".png")),
                )
            )
    return finish(_card(records, bool(groups)), root, records)


def _card(records: Sequence[Record], has_file: bool) -> DatasetCard:
    """The card with a warning in front where a split will leak.

    The file name (``exp1_num_108719``) gives exposure and shot but no tile, so it cannot stand
    in for the groups.
    """
    missing = sum(record.group is None for record in records)
    if not missing:
        return CARD
    what = f"{missing} pictures are not in groups.csv" if has_file else "There is no groups.csv"
    return warn(CARD, f"{what}: a split WILL leak between shots of one tile.")


def _read_groups(path: Path) -> dict[str, str]:
    """Tile group by relative path; empty where the file is not there."""
    if not path.exists():
        return {}
    return {row["image"]: row["tile_group"] for row in read_rows(path, "image", "tile_group")}
