"""The records of a service: every inspection, what persons said of it, and its picture."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from twonines.errors import StoreError, UnknownError
from twonines.serving.store import counting, desk, findings, query
from twonines.serving.store.counting import Bucket, Span
from twonines.serving.store.database import Database
from twonines.serving.store.entries import Entry, Finding, Recorded, Review
from twonines.serving.store.findings import Case, Report
from twonines.serving.store.pictures import PictureStore
from twonines.serving.store.query import Filters, Page
from twonines.serving.store.writer import Writer
from twonines.serving.store.writing import try_to_write, write_entries

log = logging.getLogger(__name__)
T = TypeVar("T")
_PATIENCE_S = 5.0
"""Longest wait of an inspection for its row, where its deadline does not come before."""


class Records:
    """Everything but :meth:`append` blocks, and belongs to a thread; all methods may run at once.

    Every method raises ``StoreError`` where the database does not work. Names of persons come
    from whoever has made sure of them.
    """

    def __init__(
        self,
        database: Database,
        pictures: PictureStore,
        *,
        reviewers: int = 1,
        lookup: findings.Lookup = lambda _: None,
        fault: str | None = None,
    ) -> None:
        """Start the writer.

        Args:
            database: holds the rows; it is migrated before the first one is written.
            pictures: holds the pictures.
            reviewers: persons who must have looked at an inspection before it is decided.
            lookup: the picture and reference of a recent inspection that were not kept.
            fault: why the database is known not to work; it is tried until it does.
        """
        self.database, self.pictures, self.reviewers = database, pictures, reviewers
        self._lookup = lookup
        self._needs_pictures = False
        self._writer: Writer[Sequence[Entry]] = Writer(
            self._write, name="records", probe=self._try_to_write, fault=fault
        )

    def close(self) -> None:
        """Write what was taken, then stop; the database stays open."""
        self._writer.close()
        self.pictures.close()

    @property
    def fault(self) -> str | None:
        """Why inspections are not recorded now; None where they are."""
        return self._writer.fault

    async def append(self, entries: Sequence[Entry], deadline: float) -> None:
        """Record all entries or none; they are on disk when this returns.

        Args:
            entries: what one request brought.
            deadline: ``time.perf_counter`` until which it may take.

        Raises:
            StoreError: they are not recorded, and will not be.
        """
        future = self._writer.put(entries)
        done = asyncio.wrap_future(future)
        left = min(_PATIENCE_S, max(0.0, deadline - time.perf_counter()))
        await asyncio.wait([done], timeout=left)
        if not done.done() and future.cancel():
            raise StoreError("the store takes too long")
        await done  # what is being written comes to an end, since the database has time limits

    def _write(self, batch: Sequence[Sequence[Entry]]) -> None:
        entries = [entry for some in batch for entry in some]
        self._needs_pictures = any(entry.keeps and entry.picture is not None for entry in entries)
        write_entries(self.database, self.pictures, entries)

    def _try_to_write(self) -> None:
        # What failed without a picture has not failed by the store of pictures.
        try_to_write(self.database, self.pictures if self._needs_pictures else None)

    def get(self, key: str) -> Recorded:
        """The inspection of this id.

        Raises:
            UnknownError: there is none.
        """
        return self._read(lambda connection: desk.read_one(connection, key))

    def query(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = True,
    ) -> Page:
        """One page of inspections in order of time.

        Raises:
            SettingsError: ``limit`` is outside [1, 1000], or ``cursor`` is none of ours.
        """
        wanted = filters or Filters()
        return self._read(
            lambda connection: query.read_page(
                connection, wanted, limit=limit, cursor=cursor, newest_first=newest_first
            )
        )

    def iterate(self, filters: Filters | None = None) -> Iterator[Recorded]:
        """All inspections that hold, oldest first, in short transactions."""
        cursor: str | None = None
        while True:
            page = self.query(filters, limit=query.MAX_LIMIT, cursor=cursor, newest_first=False)
            yield from page.items
            if (cursor := page.cursor) is None:
                return

    def counts(self, span: Span) -> dict[str, int]:
        """Inspections by verdict; by whole minutes, and also of those purged since."""
        return self._read(lambda connection: counting.count(connection, span))

    def trend(self, span: Span, step_us: int) -> list[Bucket]:
        """As :meth:`counts`, in equal steps of whole minutes; steps without any are left out.

        Raises:
            SettingsError: ``step_us`` is no whole number of minutes.
        """
        return self._read(lambda connection: counting.trend(connection, span, step_us))

    def queue(
        self,
        *,
        reviewer: str | None = None,
        filters: Filters | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """What must still be looked at, oldest first, without what ``reviewer`` has looked at."""
        wanted = filters or Filters()
        return self._read(
            lambda connection: desk.read_queue(connection, wanted, reviewer, limit, cursor)
        )

    def add_review(
        self,
        key: str,
        *,
        reviewer: str,
        verdict: str,
        defect_class: str | None = None,
        note: str = "",
        seconds: float | None = None,
    ) -> Recorded:
        """What one person says; ``verdict`` is OK or NG, ``seconds`` is how long it took.

        The inspection is decided when ``reviewers`` persons have looked at it and most agree; as
        long as they do not, one more is asked. A key's review counts as long as no person has
        looked at it.

        Raises:
            UnknownError: there is no such inspection.
            ForbiddenError: more than one must look at it, and a key is no person.
            ConflictError: this person has reviewed it before.
            SettingsError: an argument is outside its range.
        """
        return self._change(
            lambda connection: desk.add_review(
                connection,
                key,
                reviewers=self.reviewers,
                reviewer=reviewer,
                verdict=verdict,
                defect_class=defect_class,
                note=note,
                seconds=seconds,
            )
        )

    def reviews(self, key: str) -> list[Review]:
        """The reviews of an inspection, first to last."""
        return self._read(lambda connection: desk.read_reviews(connection, key))

    def decisions(self, filters: Filters | None = None) -> dict[tuple[str, str], int]:
        """How often persons decided what, by (verdict of the model, decision).

        ``("OK", "NG")`` counts escapes that a review has found, ``("NG", "OK")`` overkills.
        """
        wanted = filters or Filters()
        return self._read(lambda connection: desk.count_decisions(connection, wanted))

    def agreement(self, filters: Filters | None = None) -> tuple[int, int]:
        """Of the pairs of reviews of one inspection by two persons: those that agree, and all."""
        wanted = filters or Filters()
        return self._read(lambda connection: desk.count_agreement(connection, wanted))

    def add_finding(self, report: Report, *, reporter: str) -> Finding:
        """What was found out downstream; its pictures join the regression set.

        Raises:
            UnknownError: no such inspection, picture or part is recorded.
            SettingsError: an argument is outside its range.
        """
        return self._change(
            lambda connection: findings.add_finding(
                connection, self.pictures, report, reporter, self._lookup
            )
        )

    def add_finding_picture(
        self, key: str, data: bytes, *, model_name: str, reference: bytes | None = None
    ) -> Finding:
        """Add a picture that was not kept, or taken later, to a finding's case.

        Raises:
            UnknownError: there is no such finding.
            ConflictError: it has the picture already, or as many as it may have.
        """
        return self._change(
            lambda connection: findings.add_picture(
                connection, self.pictures, key, data, reference, model_name
            )
        )

    def findings(self, limit: int = 100, **where: str) -> list[Finding]:
        """Findings by their fields (``kind``, ``part_id``, ``lot``), newest first."""
        return self._read(lambda connection: findings.read_findings(connection, where, limit))

    def findings_of(self, key: str) -> list[Finding]:
        """The findings that touch an inspection, first to last."""
        return self._read(lambda connection: findings.read_of_inspection(connection, key))

    def cases(self, model_name: str | None = None) -> list[Case]:
        """The regression set of a model, or of all, first finding first."""
        return self._read(lambda connection: findings.read_cases(connection, model_name))

    def picture(self, key: str) -> tuple[bytes, bytes | None]:
        """The encoded picture of an inspection, and its reference.

        Raises:
            UnknownError: there is no such inspection, or its picture was not kept.
        """
        kept = self._lookup(key)
        if kept is not None:
            return kept
        found = self.get(key)
        try:
            if found.picture_digest is None:
                raise UnknownError("picture: it was refused unread")
            reference = found.reference_digest
            data = self.pictures.get(found.picture_digest)
            return data, None if reference is None else self.pictures.get(reference)
        except UnknownError as exc:
            raise UnknownError("picture: this inspection's is not kept") from exc

    def _read(self, ask: Callable[[Connection], T]) -> T:
        with ours(), self.database.reading() as connection:
            return ask(connection)

    def _change(self, do: Callable[[Connection], T]) -> T:
        with ours(), self.database.writing() as connection:
            return do(connection)


@contextmanager
def ours() -> Iterator[None]:
    """What a database raises becomes ours."""
    try:
        yield
    except DBAPIError as exc:
        log.error("the database has failed", exc_info=exc)
        raise StoreError(f"database: {exc.orig}") from exc
