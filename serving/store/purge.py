"""Forget what is old, and never a picture that somebody still needs."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, or_, select

from twonines.errors import StoreError
from twonines.serving.store.database import Database, lock_pictures
from twonines.serving.store.ids import least_id, now_us
from twonines.serving.store.pictures import PictureStore
from twonines.serving.store.records import Records, ours
from twonines.serving.store.tables import case_pictures, findings, inspections, pictures, reviews
from twonines.serving.store.writing import stored
from twonines.types import Verdict

log = logging.getLogger(__name__)
_NEVER_US = 1 << 57
_CHUNK = 200
"""Rows in one transaction: inspections wait for no longer one than this."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What is gone now."""

    records: int
    pictures: int
    bytes: int
    orphans: int = 0


def days_ago(days: float | None) -> int:
    """Microseconds since 1970; 0, which purges nothing, where there is no limit."""
    return 0 if days is None else now_us() - round(days * 86_400e6)


def purge(
    records: Records,
    *,
    before_us: int = 0,
    ok_pictures_before_us: int = 0,
    orphans: bool = False,
) -> Purged:
    """Delete old records, and pictures that no record needs any more; safe to be killed.

    A record stays, whatever its age, while a person must still look at it or a finding names it.
    A picture stays while a record needs it: one that is NG, REVIEW or ERROR, was decided NG or is
    due, an OK one that is younger than ``ok_pictures_before_us``, and every one of the regression
    set.

    Args:
        records: where to purge.
        before_us: records older than this go; microseconds since 1970 (UTC).
        ok_pictures_before_us: pictures of OK records older than this go.
        orphans: also look for pictures that no row names, which a kill may have left.

    Raises:
        StoreError: the database or the picture store does not work.
    """
    database, store = records.database, records.pictures
    with ours():
        gone = _purge_records(database, before_us)
        count, size = _purge_pictures(database, store, max(before_us, ok_pictures_before_us))
        swept = _sweep_all(database, store) if orphans else 0
    return Purged(gone, count, size, swept)


def _purge_records(database: Database, before_us: int) -> int:
    column, total = inspections.c, 0
    named = or_(
        exists().where(findings.c.inspection_id == column.id),
        exists().where(case_pictures.c.inspection_id == column.id),
    )
    old = select(column.id).where(column.id < least_id(before_us), column.due == 0, ~named)
    while True:
        with database.writing() as connection:
            keys = list(connection.scalars(old.order_by(column.id).limit(_CHUNK)))
            connection.execute(delete(reviews).where(reviews.c.inspection_id.in_(keys)))
            connection.execute(delete(inspections).where(column.id.in_(keys)))
        total += len(keys)
        if len(keys) < _CHUNK:
            return total


def _needed(ok_before_us: int) -> ColumnElement[bool]:
    """Whether a picture is needed, as SQL on its row."""
    digest, one, case = pictures.c.digest, inspections.c, case_pictures.c
    wanted = or_(
        one.verdict != Verdict.OK.value,
        one.decision == Verdict.NG.value,
        one.due > 0,
        one.id >= least_id(ok_before_us),
    )
    return or_(
        exists().where(and_(one.picture_digest == digest, wanted)),
        exists().where(and_(one.reference_digest == digest, wanted)),
        exists().where(case.picture_digest == digest),
        exists().where(case.reference_digest == digest),
    )


def still_needed(connection: Connection, digest: str) -> bool:
    """Whether a record or the regression set needs a picture that is noted as stored."""
    query = select(pictures.c.digest).where(pictures.c.digest == digest, _needed(_NEVER_US))
    return connection.scalar(query) is not None


def _purge_pictures(database: Database, store: PictureStore, ok_before_us: int) -> tuple[int, int]:
    """First the rows, then the files: killed in between it leaves files that no row names."""
    count = size = 0
    last = ""
    while True:
        query = (
            select(pictures.c.digest, pictures.c.size)
            .where(pictures.c.digest > last, ~_needed(ok_before_us))
            .order_by(pictures.c.digest)
            .limit(_CHUNK)
        )
        with database.writing() as connection:
            lock_pictures(connection, shared=False)
            found = {digest: int(n) for digest, n in connection.execute(query)}
            connection.execute(delete(pictures).where(pictures.c.digest.in_(list(found))))
        _sweep(database, store, list(found))
        count, size = count + len(found), size + sum(found.values())
        if len(found) < _CHUNK:
            return count, size
        last = max(found)


def _sweep(database: Database, store: PictureStore, digests: Sequence[str]) -> int:
    """Delete those files that no row names, while nobody can add such a row."""
    with database.writing() as connection:
        lock_pictures(connection, shared=False)
        unnamed = set(digests) - stored(connection, digests)
        for digest in unnamed:
            store.delete(digest)
    return len(unnamed)


def _sweep_all(database: Database, store: PictureStore) -> int:
    digests = list(store.all())
    chunks = (digests[i : i + _CHUNK] for i in range(0, len(digests), _CHUNK))
    return sum(_sweep(database, store, chunk) for chunk in chunks)


def analyse(connection: Connection) -> None:
    """Let the database count its values, so that it chooses the right index."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
    connection.exec_driver_sql("ANALYZE")


class Maintenance:
    """A thread that purges and analyses from time to time."""

    def __init__(self, work: Callable[[], None], every_s: float = 6 * 3600) -> None:
        """Do the work now and every ``every_s``, until :meth:`close`."""
        self._work, self._every_s = work, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="maintenance", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the step that runs."""
        self._end.set()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            try:
                self._work()
            except StoreError as exc:
                log.error("maintenance of the records has failed: %s", exc)
            except Exception:
                log.exception("maintenance of the records has failed")
            if self._end.wait(self._every_s):
                return
