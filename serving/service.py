"""The parts of a running service, and the way of a request through them."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from twonines.errors import (
    DeadlineError,
    InputError,
    NotReadyError,
    SettingsError,
    TooLargeError,
    TwoninesError,
    UnknownError,
)
from twonines.serving.batcher import Answer, Batcher
from twonines.serving.intake import Picture, Upload
from twonines.serving.loaded import LoadedModel
from twonines.serving.metrics import Metrics
from twonines.serving.people.meter import Charge
from twonines.serving.people.people import People, open_people
from twonines.serving.people.roles import Person
from twonines.serving.recent import Recent
from twonines.serving.repository import Repository
from twonines.serving.room import UploadRoom
from twonines.serving.showing import overlay_png
from twonines.serving.store.database import Database
from twonines.serving.store.keeping import Keeping
from twonines.serving.store.opening import open_database, open_records
from twonines.serving.store.purge import Maintenance, analyse, days_ago, purge
from twonines.serving.store.records import Records, ours
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)
T = TypeVar("T")


class AuditHook(Protocol):
    """Where acts go that must not be forgotten."""

    def append(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> object:
        """Write one down; blocks."""


class Service:
    """The parts that live as long as the app."""

    def __init__(self, settings: ServeSettings) -> None:
        """Nothing is loaded before :meth:`start`."""
        self.settings, self.metrics = settings, Metrics()
        self.repository: Repository | None = None
        self.draining = False
        self.people: People | None = None
        self.recent = Recent(settings.max_recent_bytes)
        self.uploads = UploadRoom(settings.max_inflight_bytes)
        self.database: Database | None = None
        self.records: Records | None = None
        self._maintenance: Maintenance | None = None
        self.audit: AuditHook | None = None
        self.keeping = Keeping(
            settings.keep_pictures,
            settings.keep_ok_share,
            settings.reviewers,
            settings.review_ok_share,
        )
        self._drawing = asyncio.Semaphore(1)  # one at a time: each holds several large pictures

    async def start(self) -> None:
        """Open the records; load and warm the models."""
        await asyncio.to_thread(self._start_records)
        repository = await asyncio.to_thread(Repository.open, self.settings, self.metrics)
        await repository.start()
        self.repository = repository

    def stop(self) -> None:
        """Answer what was taken."""
        repository, self.repository = self.repository, None
        if repository:
            repository.close()
        people, self.people = self.people, None
        if people:
            people.meter.close()
        if self._maintenance:
            self._maintenance.close()
        if self.records:
            self.records.close()
        if self.database:
            self.database.close()
        self.records = self.database = None

    def admit(self, person: Person) -> None:
        """Refuse whose quota is used up, before the body is read.

        Raises:
            QuotaError: says when to come back.
        """
        if self.people:
            self.people.meter.admit(person)

    def charge(self, person: Person, images: int) -> AbstractContextManager[Charge]:
        """Count the pictures of a request and what they take, where that is kept.

        Raises:
            QuotaError, TooLargeError: as :meth:`Meter.charge`.
        """
        return self.people.meter.charge(person, images) if self.people else nullcontext(Charge())

    async def note_act(
        self, actor: str, action: str, subject: str, details: dict[str, Any] | None = None
    ) -> None:
        """Write an act down in the audit log, where there is one, else in the log."""
        if self.audit is not None:
            await asyncio.to_thread(self.audit.append, actor, action, subject, details or {})
        else:
            log.info("%s: %s %s %s", actor, action, subject, details or {})

    def open_store(self) -> None:
        """Open the records, where there are to be some; :meth:`start` does it otherwise.

        Raises:
            SettingsError: the data directory, the database or the pictures' place cannot be used.
        """
        given = self.settings
        if given.data_dir is None or self.records is not None:
            return
        self.database = open_database(given.data_dir, given.plain_database_url)
        self.records = open_records(
            self.database,
            given.data_dir,
            given.pictures_url,
            reviewers=given.reviewers,
            lookup=self._recent_picture,
        )

    def _start_records(self) -> None:
        self.open_store()
        if self.database is None:
            return
        self.metrics.store_failing.set_function(lambda: float(self.store_fault is not None))
        self.people = open_people(self.database, self.settings)
        self.audit = self.people.audit
        self.people.meter.start()
        self._maintenance = Maintenance(self._maintain)

    def _maintain(self) -> None:
        given, records = self.settings, self.records
        assert records is not None
        with ours(), records.database.writing() as connection:
            analyse(connection)
        days = (given.retention_days, given.ok_picture_days)
        if days == (None, None):
            return
        oldest, oldest_ok = map(days_ago, days)
        gone = purge(records, before_us=oldest, ok_pictures_before_us=oldest_ok)
        if (gone.records or gone.pictures) and self.audit is not None:
            self.audit.append("twonines", "purge", "records", asdict(gone))
        log.info("purged %d records and %d pictures", gone.records, gone.pictures)

    def _recent_picture(self, key: str) -> tuple[bytes, bytes | None] | None:
        kept = self.recent.get(key)
        return None if kept is None else kept[:2]

    @property
    def models(self) -> Repository:
        """The models.

        Raises:
            NotReadyError: they are not loaded yet, or not any more.
        """
        if self.repository is None:
            raise NotReadyError("the service is not ready")
        return self.repository

    def check_alive(self) -> None:
        """Raise ``NotReadyError`` where a session that should answer is beyond repair."""
        if self.repository is not None and self.repository.broken:
            raise NotReadyError("a session is broken; the service must be restarted")

    def check_ready(self) -> None:
        """Raise ``NotReadyError`` where pictures would be refused, or the service will end."""
        if not self.models.ready:
            raise NotReadyError("no model takes pictures")
        if self.draining:
            raise NotReadyError("the service is draining")
        if self.store_fault is not None and self.settings.records_failure == "refuse":
            raise NotReadyError(self.store_fault)

    @property
    def store_fault(self) -> str | None:
        """That inspections cannot be recorded; None where they can, or nothing is recorded."""
        fault = None if self.records is None else self.records.fault
        if fault is None:
            return None
        # Probes need no login, and a database's own text names hosts and accounts.
        part = fault.partition(":")[0]
        part = part if part in ("database", "pictures") else "store"
        return f"inspections cannot be recorded: {part}; the log says why"

    @property
    def batcher(self) -> Batcher | None:
        """That of the default model, where it is ready."""
        try:
            return self.models.find().batcher
        except TwoninesError:
            return None

    async def picture(self, key: str) -> tuple[bytes, bytes | None]:
        """The encoded picture of an inspection, and its reference.

        Raises:
            UnknownError: the id is unknown, or its picture is not kept.
            StoreError: it cannot be read.
        """
        if self.records is not None:
            return await asyncio.to_thread(self.records.picture, key)
        kept = self.recent.get(key)
        if kept is None:
            raise UnknownError("id: must be of a recent inspection; this one is not kept")
        return kept[:2]

    async def overlay(self, key: str) -> bytes:
        """The PNG that shows an inspection: its verdict as it was given, and the model's map.

        There is no map where the model that inspected is not loaded any more.

        Raises:
            UnknownError: the id is unknown, or its picture is not kept.
            ImageError: the picture could not be decoded.
            StoreError: it cannot be read.
        """
        models, recorded, kept = self.models, None, self.recent.get(key)
        data, reference = await self.picture(key)
        if self.records is not None:
            recorded = await asyncio.to_thread(self.records.get, key)
        digest = recorded.model_digest if recorded else kept[2] if kept else ""
        verdict = recorded.inspection if recorded else None
        with ExitStack() as stack:
            inspector = None
            try:
                loaded = stack.enter_context(models.find_digest(digest).lease())
                inspector = loaded.make_inspector()
            except UnknownError:
                if verdict is None:
                    raise
            async with self._drawing:
                return await asyncio.to_thread(
                    overlay_png, inspector, data, reference, verdict, self.settings.max_pixels
                )

    async def reference_of(self, loaded: LoadedModel, upload: Upload) -> bytes | None:
        """The reference that an upload brings or names, encoded; None where none is wanted.

        Raises:
            InputError: it is missing, unknown, not wanted or too large, or given twice.
        """
        given, key = upload.reference, upload.fields.get("reference_id")
        if not loaded.session.card.reference:
            if given or key is not None:
                raise InputError(
                    "reference: must not be given for this model, which takes none, got "
                    f"{'reference' if given else 'reference_id'}"
                )
            return None
        if given and key is not None:
            raise SettingsError("reference: must be given as reference or reference_id, got both")
        if given:
            if given.error:
                raise type(given.error)(f"reference: {given.error}")
            return given.data
        if key is None:
            raise InputError(
                "reference: must be given as reference or reference_id for this model, which "
                "compares each picture with one of the same part without defects, got none"
            )
        if loaded.references is None:
            raise InputError(
                "reference_id: this service has no stored references; send a reference, or start "
                "it with --references"
            )
        return await asyncio.to_thread(loaded.references.read, key)

    def inspect(
        self,
        loaded: LoadedModel,
        pictures: Sequence[Picture],
        reference: bytes | list[bytes] | None,
        deadline: float,
        wanted: Sequence[str] = (),
    ) -> Coroutine[Any, Any, list[Answer | TwoninesError]]:
        """An answer or an error for every picture, in order, before the deadline.

        The pictures are taken, or refused, in this call and not when its result is awaited: else
        a burst of requests would all be let in before the first of them counts, and the refused
        would wait in the event loop behind the others.

        Args:
            loaded: the version that answers.
            pictures: what came; one that was refused keeps its error.
            reference: the encoded reference of all of them, or a list with that of each.
            deadline: in seconds of ``time.perf_counter``.
            wanted: names of the model's outputs that go with the answers.

        Raises:
            OverloadedError: there is no room for all of them; none is inspected.
            TooLargeError: there will never be room for all of them.
            DeadlineError: when awaited: not all were answered in time.
        """
        data = [picture.data for picture in pictures if picture.error is None]
        if len(data) > self.settings.queue_size:
            raise TooLargeError(
                f"files: at most {self.settings.queue_size} fit in the queue, got {len(data)}"
            )
        if isinstance(reference, list):
            pairs = zip(pictures, reference, strict=True)
            reference = [golden for picture, golden in pairs if picture.error is None]
        futures = self._submit(loaded, data, reference, deadline, wanted)
        taken = iter(futures)
        found = [picture.error or next(taken) for picture in pictures]
        return _collect(found, futures, deadline)

    def _submit(
        self,
        loaded: LoadedModel,
        data: Sequence[bytes],
        reference: bytes | list[bytes] | None,
        deadline: float,
        wanted: Sequence[str],
    ) -> list[asyncio.Future[Answer]]:
        answers = loaded.batcher.submit_all(data, reference, deadline, wanted)
        shadow = self.models.shadow_of(loaded)
        if shadow:
            shadow.mirror(loaded.version, data, reference, answers)
        return [asyncio.wrap_future(answer) for answer in answers]


async def _collect(
    found: Sequence[TwoninesError | asyncio.Future[Answer]],
    futures: Sequence[asyncio.Future[Answer]],
    deadline: float,
) -> list[Answer | TwoninesError]:
    try:
        if futures:
            left = max(0.0, deadline - time.perf_counter())
            _, late = await asyncio.wait(futures, timeout=left)
            if late:
                raise DeadlineError(f"not answered in time: {len(late)} of the pictures")
    finally:
        for future in futures:
            future.cancel()
    return [_outcome(item) for item in found]


def _outcome(item: TwoninesError | asyncio.Future[Answer]) -> Answer | TwoninesError:
    if isinstance(item, TwoninesError):
        return item
    exc = item.exception()
    if exc is None:
        return item.result()
    if isinstance(exc, TwoninesError):
        return exc
    log.error("a picture failed", exc_info=exc)
    return TwoninesError("the picture could not be inspected")


async def while_connected(request: Request, job: Coroutine[Any, Any, T]) -> T:
    """Do the job; where the client goes away before, drop what has not begun."""
    work = asyncio.create_task(job)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
