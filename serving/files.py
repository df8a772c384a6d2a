"""The pictures that inputs name, and their bytes."""

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twonines.errors import ImageError, InputError, TooLargeError
from twonines.types import PICTURE_SUFFIXES

MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What inputs name.

    ``left_out`` counts files of other kinds in folders, ``linked`` folders behind links, which
    are not entered since they may lead in circles.
    """

    paths: tuple[Path, ...]
    left_out: int = 0
    linked: int = 0


def find_pictures(inputs: Sequence[str], argument: str = "inputs") -> Found:
    """Pictures of folders (recursive), and every file of globs or named; sorted, each once.

    What only has a picture's name (a broken link, a pipe) is found too: it gets its row, with an
    error. A file that two inputs reach is kept as the first of them writes it.

    Raises:
        InputError: an input names nothing, or a folder cannot be listed; the message names
            ``argument``.
    """
    found: dict[str, Path] = {}
    others: set[str] = set()
    linked: set[str] = set()
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            files, skipped, links = _walk(path, argument)
            others |= skipped
            linked |= links
        elif os.path.lexists(item):
            files = [path]
        else:
            files = sorted(Path(p) for p in glob.glob(item, recursive=True) if not os.path.isdir(p))
        if not files:
            raise InputError(f"{argument}: {item!r} must be a folder, glob or file with pictures")
        for file in files:
            # Links are kept apart: they are other names, and a table lists names.
            found.setdefault(os.path.abspath(file), file)
    others -= found.keys()
    return Found(tuple(sorted(found.values())), len(others), len(linked))


def _walk(folder: Path, argument: str) -> tuple[list[Path], set[str], set[str]]:
    """Pictures below a folder, and absolute names of other files and of linked folders."""

    def refuse(exc: OSError) -> None:
        raise InputError(
            f"{argument}: {exc.filename} must be a folder that can be listed ({exc.strerror})"
        ) from exc

    pictures: list[Path] = []
    others: set[str] = set()
    linked: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=refuse):
        linked |= {os.path.abspath(p) for n in folders if os.path.islink(p := _at(place, n))}
        for name in files:
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                pictures.append(Path(place, name))
            else:
                others.add(os.path.abspath(_at(place, name)))
    return sorted(pictures), others, linked


def _at(place: str, name: str) -> str:
    return os.path.join(place, name)


def state(paths: Iterable[Path]) -> str:
    """One line a file: name, size and time of change, which tell a file from its replacement."""
    return "\n".join(f"{path}\0{_stamp(path)}" for path in paths)


def _stamp(path: Path) -> str:
    for look in (os.stat, os.lstat):  # a broken link has only its own
        try:
            seen = look(path)
        except OSError:
            continue
        return f"{seen.st_size} {seen.st_mtime_ns}"
    return "none"


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file; other kinds are not even opened, for a pipe would wait.

    Raises:
        TooLargeError: it is larger than ``max_bytes``, or does not fit into memory.
        ImageError: it is no regular file, cannot be read, or grows meanwhile.
    """
    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            raise ImageError("file: must be a regular file, got a folder, pipe, socket or device")
        if seen.st_size > max_bytes:
            raise TooLargeError(
                f"file: must have at most {max_bytes} bytes (max_bytes), got {seen.st_size}"
            )
        with path.open("rb") as file:
            data = file.read(seen.st_size + 1)
    except OSError as exc:
        raise ImageError(f"file: cannot be read ({exc.strerror or exc})") from exc
    except MemoryError as exc:
        raise TooLargeError("file: does not fit into memory") from exc
    if len(data) > seen.st_size:
        raise ImageError(f"file: must not grow while it is read, had {seen.st_size} bytes")
    return data
