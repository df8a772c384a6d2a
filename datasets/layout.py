"""Steps that the readers share."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from twonines.datasets.mask_sources import MaskFile, MaskRule
from twonines.datasets.record import SEVERAL, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD, PICTURE_SUFFIXES

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")
_GOOD_NAMES = frozenset({"good", "ok", "ok_front", "normal", "free", "mt_free", "defect_free"})


def class_name(folder: str) -> str:
    """The defect class of a folder; every usual name of good parts becomes ``good``."""
    return GOOD if folder.lower().replace(" ", "_").replace("-", "_") in _GOOD_NAMES else folder


def find_root(root: Path, name: str, *wanted: str) -> Path:
    """The folder that holds any of ``wanted``: ``root`` itself or one at most two below it.

    Raises:
        DatasetError: none stands there, or several folders hold one; the message says what was
            found.
    """
    choice = " or ".join(repr(one) for one in wanted)
    return find_by(root, name, choice, lambda place: any((place / w).exists() for w in wanted))


def find_by(root: Path, name: str, choice: str, fits: Callable[[Path], bool]) -> Path:
    """The one folder that fits, as ``find_root``; ``choice`` says in words what it must hold.

    Raises:
        DatasetError: none or several fit.
    """
    if not root.is_dir():
        raise DatasetError(f"root: must be the folder of {name}, {root} is no folder")
    found = nearest(root, fits)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(place.relative_to(root).as_posix() for place in found[:20])
        raise DatasetError(
            f"root: must be one folder of {name} with {choice}, {root} holds several: {names}"
        )
    raise DatasetError(
        f"root: {name} must hold {choice} in the folder or just below it, "
        f"{root} holds {holding(root)}"
    )


def nearest(root: Path, fits: Callable[[Path], bool]) -> list[Path]:
    """``root`` if it fits, else the folders right below that fit, else those two below."""
    level = [root]
    for _ in range(3):
        found = [place for place in level if fits(place)]
        if found:
            return found
        level = [below for place in level for below in folders(place)]
    return []


def holding(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(p.name for p in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "nothing") + more


def existing(path: Path, rule: MaskRule = "above_127") -> MaskFile | None:
    """The mask file, where it is there."""
    return MaskFile(path, rule) if path.is_file() else None


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """The size that an annotation tells; None where it leaves one out or writes 0.

    Raises:
        TypeError, ValueError: one is no number.
    """
    known = int(float(height or 0)), int(float(width or 0))
    return known if min(known) > 0 else None


def picture_class(kinds: Iterable[str]) -> str:
    """The class of a picture by its marks: good without any, one kind, or several."""
    names = set(kinds)
    if len(names) > 1:
        return SEVERAL
    return names.pop() if names else GOOD


def side_of(name: str, *, has_test: bool) -> Side | None:
    """The official side that a folder or file name tells; validation tests where no test is."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & {"test"}:
        return "test"
    if words & {"val", "valid", "validation"}:
        return "train" if has_test else "test"
    return "train" if words & {"train", "trainval", "training"} else None


def warn(card: DatasetCard, trap: str) -> DatasetCard:
    """The card with a trap in front that the reader met in this copy of the set."""
    return replace(card, traps=f"{trap} {card.traps}")


def leave_out(card: DatasetCard, count: int, what: str) -> DatasetCard:
    """The card, saying in front how many pictures were left out and why."""
    return warn(card, f"{count} {what} were left out.") if count else card


def warn_without_good(card: DatasetCard, records: Sequence[Record]) -> DatasetCard:
    """The card, saying in front where no class of a set of one's own reads as good parts."""
    if any(not record.is_defective for record in records):
        return card
    names = sorted({record.defect_class for record in records})
    more = ", ..." if len(names) > 8 else ""
    return warn(
        card,
        f"No class is named good, ok or normal, but {', '.join(names[:8])}{more}: every part "
        "counts as defective.",
    )


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        DatasetError: it is missing or in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(f"{path}: must be text in UTF-8 ({exc})") from exc


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DatasetError: the file is missing or holds something else.
    """
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as exc:
        raise DatasetError(f"{path}: must be JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise DatasetError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def read_rows(path: Path, *wanted: str) -> list[dict[str, str]]:
    """The rows of a CSV that has the columns ``wanted``; absent cells are empty.

    Raises:
        DatasetError: the file is missing, no CSV or without one of the columns.
    """
    reader = csv.DictReader(read_text(path).splitlines(), restval="")
    if not set(wanted) <= set(reader.fieldnames or ()):
        raise DatasetError(f"{path}: must have {', '.join(wanted)}, got {reader.fieldnames}")
    return [{str(key): value or "" for key, value in row.items()} for row in reader]


def pictures(folder: Path) -> list[Path]:
    """Pictures right below a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file()
    )


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
