"""How many inspections there were, by minutes and by hours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, Subquery, func, select, union_all

from twonines.errors import SettingsError
from twonines.serving.store.database import upsert
from twonines.serving.store.tables import hour_tallies, tallies

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
_PLACE = ("line", "station", "model_digest")
_TABLES = ((tallies, "minute_us", MINUTE_US), (hour_tallies, "hour_us", HOUR_US))


@dataclass(frozen=True, slots=True)
class Span:
    """A time, by whole minutes, and a place whose inspections are counted."""

    since_us: int
    until_us: int
    line: str | None = None
    station: str | None = None
    model_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Inspections by verdict in a time that begins at ``time_us``."""

    time_us: int
    counts: dict[str, int]


def tally(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count rows of ``inspections``, in the transaction that writes them."""
    for table, time, step_us in _TABLES:
        counts = Counter(
            (
                row["time_us"] // step_us * step_us,
                row["line"] or "",
                row["station"] or "",
                row["model_digest"],
                row["verdict"],
            )
            for row in rows
        )
        names = (time, *_PLACE, "verdict")
        # In one order, so that two services that share a database never wait for each other.
        values = [
            dict(zip(names, key, strict=True)) | {"count": n} for key, n in sorted(counts.items())
        ]
        statement = upsert(connection, table)
        changed = {"count": table.c.count + statement.excluded["count"]}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(names), set_=changed), values
        )


def count(connection: Connection, span: Span) -> dict[str, int]:
    """Inspections by verdict."""
    found = _counted(span, by_hours=True)
    query = select(found.c.verdict, func.sum(found.c.count)).group_by(found.c.verdict)
    return {verdict: int(n) for verdict, n in connection.execute(query)}


def trend(connection: Connection, span: Span, step_us: int) -> list[Bucket]:
    """Inspections by verdict in equal steps; steps without any are left out.

    Raises:
        SettingsError: ``step_us`` is no whole number of minutes.
    """
    if step_us < MINUTE_US or step_us % MINUTE_US:
        raise SettingsError(f"step_us: must be whole minutes of {MINUTE_US}, got {step_us}")
    counted = _counted(span, by_hours=step_us % HOUR_US == 0)
    step = (counted.c.time_us - counted.c.time_us % step_us).label("step")
    query = (
        select(step, counted.c.verdict, func.sum(counted.c.count))
        .group_by(step, counted.c.verdict)
        .order_by(step)
    )
    found: dict[int, dict[str, int]] = {}
    for start, verdict, n in connection.execute(query):
        found.setdefault(int(start), {})[verdict] = int(n)
    return [Bucket(start, counts) for start, counts in found.items()]


def _counted(span: Span, *, by_hours: bool) -> Subquery:
    """The tallies of a span: of its whole hours those of hours, where that is asked for."""
    since_us = span.since_us // MINUTE_US * MINUTE_US
    first_us, last_us = -(-since_us // HOUR_US) * HOUR_US, span.until_us // HOUR_US * HOUR_US
    minute, hour = tallies.c.minute_us, hour_tallies.c.hour_us
    if not by_hours or first_us >= last_us:
        return _part(span, minute, since_us, span.until_us).subquery()
    return union_all(
        _part(span, minute, since_us, first_us),
        _part(span, hour, first_us, last_us),
        _part(span, minute, last_us, span.until_us),
    ).subquery()


def _part(span: Span, time: Column[int], since_us: int, until_us: int) -> Select[Any]:
    column = time.table.c
    query = select(time.label("time_us"), column.verdict, column.count)
    query = query.where(time >= since_us, time < until_us)
    for name in _PLACE:
        if (value := getattr(span, name)) is not None:
            query = query.where(column[name] == value)
    return query
