"""Open the store that the settings name."""

import logging
from pathlib import Path

from twonines.errors import SettingsError, StoreError
from twonines.serving.store.database import FILE_NAME, Database
from twonines.serving.store.findings import Lookup
from twonines.serving.store.pictures import PictureStore
from twonines.serving.store.records import Records

log = logging.getLogger(__name__)
PICTURES = "pictures"


def check_exists(data_dir: Path, url: str | None) -> None:
    """Raise ``SettingsError`` where a data directory holds no database, and no URL names one."""
    if url is None and not (data_dir / FILE_NAME).is_file():
        raise SettingsError(f"data_dir: must hold {FILE_NAME}, {data_dir} does not")


def open_database(data_dir: Path, url: str | None = None, *, exists: bool = False) -> Database:
    """The database of a data directory; nothing is migrated.

    Args:
        data_dir: made where it is missing.
        url: of a database elsewhere.
        exists: it must be there already; nothing is made.

    Raises:
        SettingsError: the directory or the URL cannot be used.
    """
    try:
        if exists:
            check_exists(data_dir, url)
        else:
            data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"data_dir: {data_dir} must be a folder ({exc.strerror})") from exc
    return Database(url) if url else Database.in_folder(data_dir)


def open_records(
    database: Database,
    data_dir: Path,
    pictures_url: str | None = None,
    *,
    reviewers: int = 1,
    lookup: Lookup = lambda _: None,
) -> Records:
    """The records of a data directory, migrated to this version.

    A server that cannot be reached is tried again until it is there.

    Raises:
        SettingsError: the database or the place of the pictures cannot be used.
    """
    pictures = PictureStore(pictures_url or str((data_dir / PICTURES).absolute()))
    fault = None
    try:
        database.migrate_once()
    except StoreError as exc:
        if database.dialect == "sqlite":
            raise SettingsError(
                f"data_dir: {data_dir} must hold a usable database ({exc})"
            ) from exc
        log.error("inspections are not recorded until the database is there: %s", exc)
        fault = str(exc)
    return Records(database, pictures, reviewers=reviewers, lookup=lookup, fault=fault)
