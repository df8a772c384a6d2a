"""Unpack a zip or tar that may be hostile."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from twonines.errors import FetchError


def unpack(archive: Path, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Unpack below ``folder``; nothing is written outside it.

    ``progress(done, whole)`` counts bytes of the archive.

    Raises:
        FetchError: no zip or tar, damaged, too large for the disk, or a member that is a link out
            or leads outside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder, progress)
        elif tarfile.is_tarfile(archive):
            _untar(archive, folder, progress)
        else:
            raise FetchError(f"{archive}: must be a zip or tar")
    except FetchError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ValueError) as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise FetchError(f"{archive}: cannot be unpacked ({exc})") from exc


def _unzip(archive: Path, folder: Path, progress: Callable[[int, int], None]) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _fits(archive, folder, sum(one.file_size for one in members))
        for one in members:
            _inside(archive, one.filename)
            if stat.S_ISLNK(one.external_attr >> 16):
                raise FetchError(f"{archive}: holds a link, {one.filename}: refused")
        done, whole = 0, sum(one.compress_size for one in members)
        for one in members:
            opened.extract(one, folder)
            done += one.compress_size
            progress(done, whole)


def _untar(archive: Path, folder: Path, progress: Callable[[int, int], None]) -> None:
    """One pass, since listing a compressed tar first would unpack it twice."""
    whole = archive.stat().st_size
    with archive.open("rb") as file, tarfile.open(fileobj=file) as opened:
        for one in opened:
            _inside(archive, one.name)
            opened.extract(one, folder, filter="data")
            progress(file.tell(), whole)


def _inside(archive: Path, name: str) -> None:
    """Refuse what would lead outside on any system."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            raise FetchError(f"{archive}: holds {name!r}, which leads outside: refused")


def _fits(archive: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FetchError(f"{archive}: needs {size} bytes unpacked, {free} are free")
