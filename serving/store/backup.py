"""A copy of the data directory in one file, made while the service writes."""

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, make_url, select

from twonines import __version__
from twonines.errors import InputError, SettingsError, StoreError, UnknownError
from twonines.serving.store.database import FILE_NAME, Database
from twonines.serving.store.opening import PICTURES, check_exists
from twonines.serving.store.pictures import PictureStore
from twonines.serving.store.purge import still_needed
from twonines.serving.store.tables import pictures

_DUMP, _MANIFEST = "twonines.pgdump", "manifest.json"
_FORM = 1
_PICTURE = re.compile(r"pictures/[0-9a-f]{2}/([0-9a-f]{64})")
_CHUNK = 1 << 20


def backup(
    data_dir: Path, out: Path, *, database_url: str | None = None, pictures_url: str | None = None
) -> dict[str, Any]:
    """Write the database, its pictures, reports and sets into one .tar; the service may go on.

    The database is copied as it is at one moment (SQLite's online backup, or ``pg_dump``); then
    every picture that the copy names, checked against its digest. The file is whole or not there.

    Returns:
        The manifest: what is in the file with digests.

    Raises:
        SettingsError: there is nothing to back up, ``out`` exists, or ``pg_dump`` is missing.
        StoreError: a picture that a record needs is missing or damaged.
    """
    if out.exists():
        raise SettingsError(f"out: must not exist yet, got {out}")
    url = database_url or f"sqlite:///{data_dir / FILE_NAME}"
    check_exists(data_dir, database_url)
    store = PictureStore(pictures_url or str((data_dir / PICTURES).absolute()))
    partial = out.with_name(out.name + ".tmp")
    files: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(dir=out.absolute().parent) as folder:
            name, copy = _copy_database(url, Path(folder))
            with partial.open("wb") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
                _add_file(tar, name, copy, files)
                source = f"sqlite:///{copy}" if name == FILE_NAME else url
                with closing(Database(source)) as database:
                    for digest, data in _read_pictures(database, store):
                        place = f"{PICTURES}/{digest[:2]}/{digest}"
                        _add(tar, place, data)
                        files[place] = digest
                for path in _others(data_dir):
                    _add_file(tar, path.relative_to(data_dir).as_posix(), path, files)
                manifest = {"form": _FORM, "twonines": __version__, "files": files}
                _add(tar, _MANIFEST, json.dumps(manifest).encode())  # last: it says all is there
                tar.close()
                raw.flush()
                os.fsync(raw.fileno())
        os.rename(partial, out)
    except OSError as exc:
        raise StoreError(f"backup: {out} must be writable ({exc.strerror or exc})") from exc
    finally:
        with suppress(OSError):  # of a folder that takes no files it must not hide the reason
            partial.unlink(missing_ok=True)
        store.close()
    return manifest


def restore(source: Path, data_dir: Path, *, database_url: str | None = None) -> dict[str, Any]:
    """Make a data directory from a backup; all is checked before anything is there.

    Raises:
        InputError: the file is no whole backup, or its content is not as the manifest says.
        SettingsError: the data directory or the database holds something already, or the backup
            is of another kind of database.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise SettingsError(f"data_dir: must be empty or not exist yet, got {data_dir}")
    data_dir.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir.absolute().parent) as folder:
        fresh = Path(folder) / "data"
        fresh.mkdir()
        manifest = _unpack(source, fresh)
        dump = fresh / _DUMP
        if dump.exists() != (database_url is not None):
            kind = "PostgreSQL: give --database-url" if dump.exists() else "SQLite: give no URL"
            raise SettingsError(f"database_url: this backup is of {kind}")
        if database_url is not None:
            _restore_postgres(database_url, dump)
            dump.unlink()
        if data_dir.exists():
            data_dir.rmdir()
        os.rename(fresh, data_dir)
    return manifest


def _copy_database(url: str, folder: Path) -> tuple[str, Path]:
    if make_url(url).get_backend_name() == "postgresql":
        copy = folder / _DUMP
        _run_tool(["pg_dump", "--format=custom", f"--file={copy}"], url)
        return _DUMP, copy
    copy = folder / FILE_NAME
    with (
        closing(sqlite3.connect(f"file:{make_url(url).database}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(copy)) as target,
    ):
        live.backup(target)  # all at once: in steps, each write would make it start again
        target.execute("PRAGMA journal_mode = DELETE")
    return FILE_NAME, copy


def _restore_postgres(url: str, dump: Path) -> None:
    with closing(Database(url)) as database, database.reading() as connection:
        tables = inspect(connection).get_table_names()
    if tables:
        raise SettingsError(f"database_url: must be an empty database, it has {', '.join(tables)}")
    _run_tool(
        ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", str(dump)], url
    )


def _plain(url: str) -> str:
    """The URL as the tools of PostgreSQL take it, without the password, which others can see."""
    parsed = make_url(url).set(drivername="postgresql", password=None)
    return parsed.render_as_string(hide_password=False)


def _run_tool(command: list[str], url: str) -> None:
    path = shutil.which(command[0])
    if path is None:
        raise SettingsError(
            f"{command[0]}: is needed for a PostgreSQL database and is not installed "
            "(postgresql-client)"
        )
    password = make_url(url).password
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    done = subprocess.run(
        [path, f"--dbname={_plain(url)}", *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StoreError(f"{command[0]}: {done.stderr.strip()[-500:]}")


def _read_pictures(database: Database, store: PictureStore) -> Iterator[tuple[str, bytes]]:
    with database.reading() as connection:
        digests = list(connection.scalars(select(pictures.c.digest).order_by(pictures.c.digest)))
    for digest in digests:
        try:
            yield digest, store.get(digest)
        except UnknownError:
            # Purged since the copy was made, or lost.
            with database.reading() as connection:
                if still_needed(connection, digest):
                    raise StoreError(f"picture {digest} is missing and a record needs it") from None


def _others(data_dir: Path) -> Iterator[Path]:
    for folder in ("reports", "sets"):
        yield from sorted(p for p in (data_dir / folder).rglob("*") if p.is_file())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: Path, files: dict[str, str]) -> None:
    with path.open("rb") as file:
        files[name] = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, file)


def _unpack(source: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, str] = {}
    manifest: Any = None
    try:
        with tarfile.open(source, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                if not member.isreg() or file is None:
                    raise InputError(f"backup: must hold files only, got {member.name!r}")
                if member.name == _MANIFEST:
                    manifest = json.load(file)
                else:
                    found[member.name] = _write(file.read, folder / _safe(member.name))
    except (OSError, tarfile.TarError, ValueError) as exc:
        raise InputError(f"backup: {source} must be a whole backup ({exc})") from exc
    if not isinstance(manifest, dict) or manifest.get("form") != _FORM:
        raise InputError(f"backup: {source} must be a whole backup, its manifest is missing")
    wrong = sorted(name for name in found.keys() | manifest["files"].keys()
                   if found.get(name) != manifest["files"].get(name))  # fmt: skip
    wrong += [n for n, d in found.items() if (m := _PICTURE.fullmatch(n)) and m[1] != d]
    if wrong:
        raise InputError(f"backup: must be as its manifest says, these are not: {wrong[:5]}")
    return manifest


def _safe(name: str) -> str:
    parts = name.split("/")
    known = name in (FILE_NAME, _DUMP) or parts[0] in (PICTURES, "reports", "sets")
    if not known or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise InputError(f"backup: must hold files of a data directory, got {name!r}")
    return name


def _write(read: Callable[[int], bytes], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while chunk := read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
