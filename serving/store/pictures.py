"""Pictures by their content: each lies once, under its SHA-256."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from twonines.errors import SettingsError, StoreError, UnknownError

_NAME = re.compile(r"[0-9a-f]{64}")
_THREADS = 4
"""Waits for disk or network that overlap."""
_PATIENCE_S = 15.0
"""Longest wait for one picture over a network."""


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class PictureStore:
    """A folder, or any place that fsspec knows: ``s3://bucket/folder``, ``memory://name``.

    A picture is there whole or not at all, and what is read is checked against its digest. On the
    local disk it is there to stay when :meth:`put` returns.
    """

    def __init__(self, url: str) -> None:
        """Nothing is made before the first picture.

        Raises:
            SettingsError: no such place is known, or its package is not installed.
        """
        try:
            # Another process may have written since a listing was made.
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as exc:
            raise SettingsError(
                f"pictures_url: must be a folder or a URL that fsspec knows ({exc}); s3:// needs "
                "pip install 'twonines[s3]'"
            ) from exc
        # Else a place that hangs would hold an inspection for as long as it likes.
        self._limit = {"timeout": _PATIENCE_S} if self._fs.async_impl else {}
        self._pool = ThreadPoolExecutor(_THREADS, "pictures")

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def put(self, pictures: Mapping[str, bytes]) -> None:
        """Store pictures by digest; one that is there is written again.

        Raises:
            StoreError: one could not be stored.
        """
        try:
            with _faults():
                list(self._pool.map(self._put, pictures, pictures.values()))
        except FileNotFoundError as exc:  # the bucket
            raise StoreError(f"pictures: {exc}") from exc

    def get(self, digest: str) -> bytes:
        """The bytes of a picture.

        Raises:
            UnknownError: it is not there.
            StoreError: it cannot be read, or it is damaged.
        """
        try:
            with _faults():
                data: bytes = self._fs.cat_file(self._path(digest), **self._limit)
        except FileNotFoundError as exc:
            raise UnknownError(f"picture: must be in the store, {digest} is not") from exc
        if digest_of(data) != digest:
            raise StoreError(f"picture {digest} is damaged: its bytes have another digest")
        return data

    def has(self, digest: str) -> bool:
        """Whether it is there."""
        with _faults():
            return bool(self._fs.exists(self._path(digest), **self._limit))

    def delete(self, digest: str) -> None:
        """Delete it, where it is there."""
        with _faults():
            try:
                self._fs.rm_file(self._path(digest), **self._limit)
            except FileNotFoundError:
                pass

    def all(self) -> Iterator[str]:
        """Digests of all pictures, in order."""
        with _faults():
            names = self._fs.find(self._root)
        for name in sorted(str(name).rsplit("/", 1)[-1] for name in names):
            if _NAME.fullmatch(name):
                yield name

    def _path(self, digest: str) -> str:
        assert _NAME.fullmatch(digest), digest
        return f"{self._root}/{digest[:2]}/{digest}"

    def _put(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        if isinstance(self._fs, LocalFileSystem):
            _write_through(Path(path), data)
        else:
            self._fs.pipe_file(path, data, **self._limit)


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever a file system raises becomes ours, but for a file that is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as exc:
        told = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        raise StoreError(f"pictures: {told}") from exc


def _write_through(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, also after a power cut."""
    folder = path.parent
    is_new = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    for place in (folder, folder.parent) if is_new else (folder,):
        _sync_folder(place)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
