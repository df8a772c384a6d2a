"""What everybody uses, and what a key may use at most."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from twonines.errors import NotReadyError, OverloadedError, QuotaError, TooLargeError, UnknownError
from twonines.serving.people.clock import DAY_US, SECOND_US, Clock, now_us
from twonines.serving.people.roles import Person, Quota
from twonines.serving.people.tables import USAGE
from twonines.serving.store.database import Database, upsert

log = logging.getLogger(__name__)
_MINUTE_US = 60 * SECOND_US
_EVERY_S = 1.0
_NOTHING_DONE = (OverloadedError, NotReadyError, UnknownError)


@dataclass(frozen=True, slots=True)
class Used:
    """Requests, pictures, and microseconds of the session."""

    requests: int = 0
    images: int = 0
    compute_us: int = 0

    def plus(self, other: "Used", sign: int = 1) -> "Used":
        """The sum, or with -1 the difference."""
        return Used(
            self.requests + sign * other.requests,
            self.images + sign * other.images,
            self.compute_us + sign * other.compute_us,
        )


_NOTHING = Used()


@dataclass(slots=True)
class _Tally:
    """Of one actor: today's total as last read, what is not stored yet, and this minute."""

    day: int
    stored: Used = _NOTHING
    fresh: Used = _NOTHING
    minute: int = 0
    minute_images: int = 0


@dataclass(slots=True)
class Charge:
    """A request's account; whoever has the pictures inspected adds what that took."""

    compute_s: float = 0.0


class Meter:
    """Counts in memory, exactly, and writes down each second; safe from any thread.

    A quota counts in windows of the clock: minutes and days of UTC. Pictures are counted before
    they are inspected, so that requests at once cannot pass it together; compute is known only
    afterwards, so the requests that are in flight when it is used up may pass it. Several services
    on one database share a day's quota to within a second, and count minutes each for itself. A
    service that is killed forgets its last second.
    """

    def __init__(self, database: Database, clock: Clock = now_us) -> None:
        """Nothing is counted or written before :meth:`start`."""
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._past: dict[tuple[int, str, str], Used] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write down each second from now on."""
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write down what is left."""
        self._closing.set()
        if self._thread:
            self._thread.join()
        self.flush()

    def prepare(self, person: Person) -> None:
        """Read what was used today, before the first :meth:`charge`; waits for the database."""
        key, day = _key(person), self._clock() // DAY_US
        with self._lock:
            if key in self._tallies:
                return
        wanted = select(USAGE).where(
            USAGE.c.day_us == day * DAY_US, USAGE.c.actor == key[0], USAGE.c.tenant == key[1]
        )
        with self._database.reading() as connection:
            row = connection.execute(wanted).one_or_none()
        used = Used(row.requests, row.images, row.compute_us) if row else _NOTHING
        with self._lock:
            self._tallies.setdefault(key, _Tally(day, used))

    @contextmanager
    def charge(self, person: Person, images: int) -> Iterator[Charge]:
        """Count a request of so many pictures; given back where nothing was done with them.

        Raises:
            QuotaError: they would pass the person's quota; says when its next window begins.
            TooLargeError: they will always pass it.
        """
        now, charge = self._clock(), Charge()
        self._take(person, images, now)
        taken = _NOTHING
        try:
            yield charge
        except _NOTHING_DONE:
            taken = Used(1, images)
            raise
        finally:
            spent = Used(compute_us=round(charge.compute_s * SECOND_US))
            self._note(person, now, spent.plus(taken, -1))

    def admit(self, person: Person) -> None:
        """Refuse who has no picture left.

        Raises:
            QuotaError: says when the next window begins.
        """
        now = self._clock()
        with self._lock:
            _check(self._tally(person, now), person.quota, 1, now)

    def _take(self, person: Person, images: int, now: int) -> None:
        with self._lock:
            tally = self._tally(person, now)
            _check(tally, person.quota, images, now)
            tally.minute_images += images
            tally.fresh = tally.fresh.plus(Used(1, images))

    def _note(self, person: Person, since: int, used: Used) -> None:
        """Add to what a request of ``since`` took, in the windows in which it was counted."""
        with self._lock:
            tally = self._tally(person, self._clock())
            if tally.minute == since // _MINUTE_US:
                tally.minute_images += used.images
            if tally.day == since // DAY_US:
                tally.fresh = tally.fresh.plus(used)
            else:
                self._keep(since // DAY_US, _key(person), used)

    def _keep(self, day: int, key: tuple[str, str], used: Used) -> None:
        place = (day, *key)
        self._past[place] = self._past.get(place, _NOTHING).plus(used)

    def _tally(self, person: Person, now: int) -> _Tally:
        day, minute, key = now // DAY_US, now // _MINUTE_US, _key(person)
        tally = self._tallies.setdefault(key, _Tally(day))
        if tally.day != day:
            self._keep(tally.day, key, tally.fresh)
            tally.day, tally.stored, tally.fresh = day, _NOTHING, _NOTHING
        if tally.minute != minute:
            tally.minute, tally.minute_images = minute, 0
        return tally

    def _run(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self.flush()

    def flush(self) -> None:
        """Write down what is not yet; what cannot be written now is kept for the next time."""
        with self._writing:
            with self._lock:
                work = dict(self._past)
                for key, tally in self._tallies.items():
                    if tally.fresh != _NOTHING:
                        work[(tally.day, *key)] = tally.fresh
            if not work:
                return
            try:
                with self._database.writing() as connection:
                    totals = {key: _add(connection, key, used) for key, used in work.items()}
            except SQLAlchemyError as exc:
                log.error("usage cannot be written down now: %s", exc)
                return
            with self._lock:
                for (day, actor, tenant), used in work.items():
                    self._settle(day, (actor, tenant), used, totals[(day, actor, tenant)])

    def _settle(self, day: int, key: tuple[str, str], used: Used, total: Used) -> None:
        tally = self._tallies[key]
        if tally.day == day:
            tally.fresh, tally.stored = tally.fresh.plus(used, -1), total
            return
        # Its day has ended: while it was written, or before.
        left = self._past.pop((day, *key)).plus(used, -1)
        if left != _NOTHING:
            self._past[(day, *key)] = left


def _check(tally: _Tally, quota: Quota, images: int, now: int) -> None:
    used = tally.stored.plus(tally.fresh)
    for name, limit, spent, window_us in (
        ("images_per_day", quota.images_per_day, used.images, DAY_US),
        ("images_per_minute", quota.images_per_minute, tally.minute_images, _MINUTE_US),
    ):
        if limit is None:
            continue
        if images > limit > 0:
            raise TooLargeError(f"files: {name} of this key is {limit}, got {images} at once")
        if spent + images > limit:
            raise _used_up(name, limit, window_us, now)
    limit = quota.compute_s_per_day
    if limit is not None and used.compute_us >= limit * SECOND_US:
        raise _used_up("compute_s_per_day", limit, DAY_US, now)


def _add(connection: Connection, key: tuple[int, str, str], used: Used) -> Used:
    """Add to the row of a day and actor, and give its new sums, which others add to as well."""
    day, actor, tenant = key
    row = upsert(connection, USAGE).values(
        day_us=day * DAY_US, actor=actor, tenant=tenant, **asdict(used)
    )
    columns = [USAGE.c[one.name] for one in fields(Used)]
    added = row.on_conflict_do_update(
        index_elements=[USAGE.c.day_us, USAGE.c.actor, USAGE.c.tenant],
        set_={column.name: column + row.excluded[column.name] for column in columns},
    ).returning(*columns)
    return Used(*connection.execute(added).one())


def _used_up(name: str, limit: int, window_us: int, now: int) -> QuotaError:
    left_us = window_us - now % window_us
    return QuotaError(f"quota: {name} is {limit}, and used up", left_us / SECOND_US)


def _key(person: Person) -> tuple[str, str]:
    return person.actor, person.tenant
