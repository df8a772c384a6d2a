"""Get a public set: download, check and unpack it, or say what to do by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

from twonines.datasets.content import file_digest
from twonines.datasets.download import download
from twonines.datasets.record import Archive, DatasetCard
from twonines.datasets.unpack import unpack
from twonines.errors import FetchError

Progress = Callable[[str, int, int], None]
"""Called with a stage, the bytes done and the whole, 0 where it is not known."""


def fetch(
    card: DatasetCard, root: Path, *, progress: Progress = lambda *_: None
) -> tuple[Path, tuple[str, ...]]:
    """Put a set below ``root``; an archive that lies there already is checked and unpacked.

    Returns:
        The folder of the set, and remarks for the user.

    Raises:
        FetchError: the set must be had by hand (the message says how), or the archive cannot be
            downloaded, has another digest or holds unsafe paths.
    """
    if card.folder is None:
        raise FetchError(f"{card.name}: is a layout for data of your own, nothing to download")
    folder = root / card.folder
    if folder.is_dir() and any(folder.iterdir()):
        return folder, (f"{folder} is there already; remove it to fetch it again",)
    missing = [a for a in card.archives if a.url is None and not (root / a.name).is_file()]
    if missing or not card.archives:
        raise FetchError(by_hand(card, root))
    root.mkdir(parents=True, exist_ok=True)
    remarks = []
    for archive in card.archives:
        remarks.append(_have(archive, card, root, progress))
    new = root / f".{card.folder}.part"
    shutil.rmtree(new, ignore_errors=True)
    for archive in card.archives:
        unpack(root / archive.name, new, lambda done, whole: progress("unpack", done, whole))
    if folder.is_dir():
        folder.rmdir()
    new.rename(folder)
    return folder, tuple(remarks)


def by_hand(card: DatasetCard, root: Path) -> str:
    """What to download and where to put it."""
    lines = [f"{card.name} must be fetched by hand. {card.download}"]
    lines.append(f"Put the unpacked set in {root / str(card.folder)}")
    for archive in card.archives:
        lines.append(
            f"or put {archive.name} in {root} and run this again: it is checked and unpacked"
        )
    lines.append(f"Licence: {card.licence}")
    return "\n".join(lines)


def _have(archive: Archive, card: DatasetCard, root: Path, progress: Progress) -> str:
    """Make sure of the archive below ``root``; the remark says how far it was checked."""
    path = root / archive.name
    if path.is_file():
        return _check(archive, path, path)
    assert archive.url is not None
    part = path.with_name(f"{path.name}.part")
    try:
        download(archive.url, part, lambda done, whole: progress("download", done, whole))
    except FetchError as exc:
        raise FetchError(f"{exc}\n{by_hand(card, root)}") from exc
    try:
        remark = _check(archive, part, path)
    except FetchError:
        part.unlink()
        raise
    part.rename(path)
    return remark


def _check(archive: Archive, got: Path, path: Path) -> str:
    """Compare with the known digest, else with that of the first download, else record it."""
    digest = file_digest(got)
    record = path.with_name(f"{path.name}.sha256")
    wanted, whose = archive.sha256, "the known one"
    if wanted is None and record.is_file():
        wanted, whose = record.read_text(encoding="utf-8").split()[0], "that of the first download"
    if wanted is None:
        record.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        return f"{path.name}: no digest is published; recorded this one in {record.name}: {digest}"
    if digest != wanted:
        raise FetchError(f"{path.name}: must have SHA-256 {wanted}, got {digest}: refused")
    return f"{path.name}: SHA-256 is {whose}"
