"""The database of the service: SQLite in its data directory, or PostgreSQL by URL."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, MetaData, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from twonines.errors import SettingsError, StoreError

FILE_NAME = "twonines.db"
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of the service; names of keys are fixed, so that migrations can name them."""
_BUSY_MS = 5_000
# Any numbers that other programs do not use.
_MIGRATION_LOCK, _PICTURES_LOCK = 0x74776F39, 0x7477703A
_POSTGRES = {
    # A host that is gone must not hold inspections for minutes.
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",
    "options": "-c lock_timeout=5s -c statement_timeout=60s",
}


class Database:
    """One engine; safe to use from any thread.

    Write in :meth:`writing`, which takes SQLite's one write lock at the start: a transaction that
    first reads and then writes would else fail when another one has written in between.
    """

    def __init__(self, url: str) -> None:
        """Nothing is opened before it is used.

        Args:
            url: ``sqlite:///path/to/file``, or ``postgresql+psycopg://user:password@host/name``.

        Raises:
            SettingsError: it is no such URL, or the driver is not installed.
        """
        try:
            parsed = make_url(url)
            dialect = parsed.get_backend_name()
            if dialect not in ("sqlite", "postgresql") or not parsed.database:
                raise ArgumentError
            if dialect == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
                parsed = parsed.update_query_dict(_POSTGRES | dict(parsed.query))
            self.engine = create_engine(parsed, pool_pre_ping=dialect == "postgresql")
        except (ArgumentError, NoSuchModuleError, ValueError) as exc:
            raise SettingsError(
                "database_url: must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
            ) from exc  # what came may hold a password
        except ImportError as exc:
            raise SettingsError(
                f"database_url: this database needs more packages ({exc}): "
                "pip install 'twonines[postgres]'"
            ) from exc
        self.dialect, self._migrated = dialect, False
        self._migrating = threading.Lock()
        if dialect == "sqlite":
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @classmethod
    def in_folder(cls, folder: Path) -> "Database":
        """The SQLite database of a data directory."""
        return cls(f"sqlite:///{folder / FILE_NAME}")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes; it is on disk when the block has ended."""
        with self.engine.connect() as connection:
            connection = connection.execution_options(twonines_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that reads one state of the database."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this version's, all or nothing; two processes may try at once.

        Raises:
            StoreError: the database cannot be reached or is none of ours.
        """
        config = Config()
        config.set_main_option("script_location", "twonines.serving.store:migrations")
        try:
            with self.writing() as connection:
                if self.dialect == "postgresql":
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                    )
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            self._migrated = True
        except DBAPIError as exc:
            raise StoreError(f"database: {exc.orig}") from exc
        except CommandError as exc:  # a later version of this program has migrated it
            raise StoreError(f"database: {exc}") from exc

    def migrate_once(self) -> None:
        """As :meth:`migrate`, unless it has been done; for a database that comes up late."""
        with self._migrating:
            if not self._migrated:
                self.migrate()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def lock_pictures(connection: Connection, *, shared: bool) -> None:
    """Keep those who delete pictures away from those who add some, until the transaction ends.

    On SQLite the transaction that writes does so by itself.
    """
    if connection.dialect.name == "postgresql":
        kind = "_shared" if shared else ""
        statement = text(f"SELECT pg_advisory_xact_lock{kind}(:key)")
        connection.execute(statement, {"key": _PICTURES_LOCK})


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT that takes ON CONFLICT, which each database spells by itself."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    # The driver must leave transactions to us: by itself it would not put DDL into them.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a commit is on disk, also in WAL mode
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("twonines_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
