"""What a picture is by its bytes: digests, and copies of one file."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

from twonines.datasets.mask_sources import MaskFile, MaskMat, MaskSource, MaskUnion
from twonines.datasets.record import Record
from twonines.errors import DatasetError

WORKERS = 2


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        DatasetError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise DatasetError(f"picture: {path} must be a readable file ({exc.strerror})") from exc


def file_digests(records: Sequence[Record]) -> list[str]:
    """One digest per record, in order.

    A missing file counts as different from every other, so that a set with holes can still be
    split and checked; the check names the hole.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_digest_or_path, records))


def _digest_or_path(record: Record) -> str:
    return _digest_if_there(record.path) or f"missing {record.path}"


def _digest_if_there(path: Path) -> str | None:
    try:
        return file_digest(path)
    except DatasetError:
        return None


def relative(path: Path, root: Path) -> str:
    """The path below ``root`` with slashes; the whole path where it stands elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def content_digest(records: Sequence[Record], root: Path) -> str:
    """SHA-256 in hex over the records, in order.

    It covers relative path, file digest, label and all that decides a split (group, the
    publisher's side, certainty and attributes), so that one digest gives one split.

    Raises:
        DatasetError: a picture cannot be opened.
    """
    total = hashlib.sha256()
    with ThreadPoolExecutor(WORKERS) as pool:
        for record, digest in zip(
            records, pool.map(lambda record: file_digest(record.path), records), strict=True
        ):
            facts = (
                relative(record.path, root), digest, record.defect_class, record.group,
                record.official_split, float(record.certainty), sorted(record.attributes.items()),
            )  # fmt: skip
            total.update(json.dumps(facts).encode() + b"\n")
    return total.hexdigest()


def label_digest(records: Sequence[Record], root: Path) -> str:
    """SHA-256 in hex over what the records say of the places in their pictures, in order.

    It covers boxes, masks and references, with the bytes of their files, so that beside one
    :func:`content_digest` one digest teaches one model. A missing file differs from every other;
    who reads it refuses it by name.
    """
    files = {path for record in records for path in _label_files(record)}
    with ThreadPoolExecutor(WORKERS) as pool:
        digests = dict(zip(files, pool.map(_digest_if_there, files), strict=True))
    total = hashlib.sha256()
    for record in records:
        facts = (
            relative(record.path, root),
            [astuple(box) for box in record.boxes],
            [_without_path(source) for source in _sources(record.mask)],
            [(relative(path, root), digests[path]) for path in _label_files(record)],
        )
        total.update(json.dumps(facts).encode() + b"\n")
    return total.hexdigest()


def _sources(mask: MaskSource | None) -> list[MaskSource]:
    """The sources of a mask, those of a union one by one."""
    if isinstance(mask, MaskUnion):
        return [one for source in mask.sources for one in _sources(source)]
    return [] if mask is None else [mask]


def _label_files(record: Record) -> list[Path]:
    """Files of the mask, then the reference."""
    marked = [one.path for one in _sources(record.mask) if isinstance(one, MaskFile | MaskMat)]
    return marked if record.reference is None else [*marked, record.reference]


def _without_path(source: MaskSource) -> str:
    """A set that was moved is the same set; the path is told apart, below its root."""
    bare = replace(source, path=Path()) if isinstance(source, MaskFile | MaskMat) else source
    return repr(bare)


def join(links: Iterable[Sequence[int]], count: int) -> list[list[int]]:
    """Connected sets of the numbers below ``count``; each link joins its members.

    Both the sets and their members come in ascending order.
    """
    parent = list(range(count))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for link in links:
        for other in link[1:]:
            low, high = sorted((find(link[0]), find(other)))
            parent[high] = low
    sets: dict[int, list[int]] = {}
    for item in range(count):
        sets.setdefault(find(item), []).append(item)
    return list(sets.values())
