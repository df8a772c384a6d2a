"""Readers by name."""

import os
from collections.abc import Callable
from pathlib import Path

from twonines.datasets import casting, elpv, folder, magnetic_tile, mvtec, neu_det, table, x_sdd
from twonines.datasets.record import Dataset, DatasetCard
from twonines.errors import DatasetError

Reader = Callable[[Path], Dataset]

READERS: dict[str, Reader] = {
    "elpv": elpv.read,
    "neu-det": neu_det.read,
    "x-sdd": x_sdd.read,
    "magnetic-tile": magnetic_tile.read,
    "casting": casting.read,
    "mvtec": mvtec.read,
    "folder": folder.read,
    "table": table.read,
}
CARDS: dict[str, DatasetCard] = {
    module.CARD.name: module.CARD
    for module in (elpv, neu_det, x_sdd, magnetic_tile, casting, mvtec, folder, table)
}
_FOLDERS = {
    "elpv": "elpv",
    "neu-det": "NEU-DET",
    "x-sdd": "X-SDD",
    "magnetic-tile": "Magnetic-Tile",
    "casting": "casting_data",
}


def load_dataset(name: str, root: Path | None = None) -> Dataset:
    """Read a set by name.

    Without ``root``, a public set comes from its folder below ``$TWONINES_DATA``; elpv that is
    not there comes from its package.

    Raises:
        DatasetError: no such name, no root, or the folder does not hold the set.
    """
    if name not in READERS:
        raise DatasetError(f"dataset: must be one of {', '.join(READERS)}, got {name!r}")
    if root is None:
        root = _default_root(name)
    return READERS[name](root)


def _default_root(name: str) -> Path:
    data = os.environ.get("TWONINES_DATA")
    if data and name in _FOLDERS and (name != "elpv" or (Path(data) / _FOLDERS[name]).is_dir()):
        return Path(data) / _FOLDERS[name]
    if name == "elpv":
        return elpv.packaged_root()
    raise DatasetError(
        f"root: {name} needs --root, the folder or table to read"
        + (" (or TWONINES_DATA, the folder above it)" if name in _FOLDERS else "")
    )


def dataset_names() -> tuple[str, ...]:
    """Names of all readers."""
    return tuple(READERS)
