"""Sets of pictures below the data directory: a folder per class, as ``--dataset folder`` reads."""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from twonines.errors import ConflictError, SettingsError
from twonines.models.image import decode
from twonines.types import GOOD, PICTURE_SUFFIXES

_NAME = re.compile(r"\w[\w .-]{0,79}")
"""Letters of any script, digits and a few signs; no separator of folders, no dot first."""
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class PictureSet:
    """One set: its folder, and the pictures of each class, sorted."""

    folder: Path
    classes: dict[str, list[Path]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def pictures(self) -> int:
        """Pictures of all classes."""
        return sum(len(paths) for paths in self.classes.values())


def check_name(name: str, what: str) -> str:
    """The name without spaces around it.

    Raises:
        SettingsError: it is none that a folder may have.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{what}: must be 1 to 80 letters, digits, spaces, dots, lines and underscores, a "
            f"letter or digit first, got {name!r}"
        )
    return name


def read_set(folder: Path) -> PictureSet:
    """What lies in a set's folder now; ``good`` stands first."""
    names = sorted((f.name for f in folder.iterdir() if f.is_dir()), key=lambda n: (n != GOOD, n))
    return PictureSet(
        folder,
        {
            name: sorted(
                p for p in (folder / name).rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES
            )
            for name in names
        },
    )


def list_sets(root: Path) -> list[str]:
    """Names of the sets, sorted."""
    return sorted(f.name for f in root.iterdir() if f.is_dir() and _NAME.fullmatch(f.name))


def open_set(root: Path, name: str) -> PictureSet:
    """The set of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in list_sets(root):
        raise SettingsError(f"set: must be one of {', '.join(list_sets(root))}, got {name!r}")
    return read_set(root / name)


def make_set(root: Path, name: str) -> str:
    """Make an empty set that has the class ``good``.

    Raises:
        SettingsError: the name is none that a folder may have.
        ConflictError: it is there already.
    """
    folder = root / check_name(name, "set")
    if folder.exists():
        raise ConflictError(f"set: must be new, {folder.name} is there already")
    (folder / GOOD).mkdir(parents=True)
    return folder.name


def add_class(chosen: PictureSet, name: str) -> None:
    """Add an empty class.

    Raises:
        SettingsError: the name is none that a folder may have.
    """
    (chosen.folder / check_name(name, "class")).mkdir(exist_ok=True)


def add_picture(chosen: PictureSet, name: str, file: str, data: bytes, max_pixels: int) -> Path:
    """Keep a picture under its name and digest, so that none is overwritten and none kept twice.

    Raises:
        ImageError: it is no picture that the models can read.
        SettingsError: the class is none that a folder may have.
    """
    decode(data, max_pixels=max_pixels)
    suffix = Path(file).suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        raise SettingsError(
            f"file: must end in {', '.join(sorted(PICTURE_SUFFIXES))}, got {file!r}"
        )
    stem = _UNSAFE.sub("_", Path(file).stem)[:60].lstrip(".") or "picture"
    digest = hashlib.sha256(data).hexdigest()[:10]
    folder = chosen.folder / check_name(name, "class")
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-{digest}{suffix}"
    if not path.exists():
        path.write_bytes(data)
    return path


def move_picture(chosen: PictureSet, path: Path, name: str) -> None:
    """Give a picture another class.

    Raises:
        SettingsError: it is not of this set, or the class is not.
    """
    if name not in chosen.classes or not any(path in paths for paths in chosen.classes.values()):
        raise SettingsError(f"class: must be one of {', '.join(chosen.classes)}, got {name!r}")
    shutil.move(path, chosen.folder / name / path.name)


def remove_picture(chosen: PictureSet, path: Path) -> None:
    """Take a picture out of the set.

    Raises:
        SettingsError: it is not of this set.
    """
    if not any(path in paths for paths in chosen.classes.values()):
        raise SettingsError(f"picture: must be of {chosen.name}, got {path.name!r}")
    path.unlink(missing_ok=True)
