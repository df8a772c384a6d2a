"""Steps that the readers share."""

from collections.abc import Sequence
from pathlib import Path

from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_GOOD_NAMES = frozenset({"good", "ok", "ok_front", "normal", "free", "mt_free", "defect_free"})


def class_name(folder: str) -> str:
    """The defect class of a folder; every usual name of good parts becomes ``good``."""
    return GOOD if folder.lower().replace(" ", "_").replace("-", "_") in _GOOD_NAMES else folder


def find_root(root: Path, name: str, *wanted: str) -> Path:
    """The folder that holds any of ``wanted``: ``root`` itself or one folder below it.

    Raises:
        DatasetError: none stands in either, or several folders below hold one; the message says
            what was found.
    """
    if not root.is_dir():
        raise DatasetError(f"root: must be the folder of {name}, {root} is no folder")
    if _holds(root, wanted):
        return root
    below = [place for place in folders(root) if _holds(place, wanted)]
    if len(below) == 1:
        return below[0]
    choice = " or ".join(repr(one) for one in wanted)
    if below:
        names = ", ".join(place.name for place in below[:20])
        raise DatasetError(
            f"root: must be one folder of {name} with {choice}, {root} holds several: {names}"
        )
    raise DatasetError(
        f"root: {name} must hold {choice} in the folder or one below it, "
        f"{root} holds {holding(root)}"
    )


def holding(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(p.name for p in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "nothing") + more


def _holds(folder: Path, wanted: Sequence[str]) -> bool:
    return any((folder / one).exists() for one in wanted)


def pictures(folder: Path) -> list[Path]:
    """Pictures right below a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def folders(folder: Path) -> list[Path]:
    """Folders right below a folder, sorted by name, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def finish(card: DatasetCard, root: Path, records: Sequence[Record]) -> Dataset:
    """The data set in a stable order.

    Raises:
        DatasetError: there is no picture.
    """
    if not records:
        raise DatasetError(f"root: {card.name} must hold pictures, none below {root}")
    return Dataset(card, root, tuple(sorted(records, key=lambda record: str(record.path))))
