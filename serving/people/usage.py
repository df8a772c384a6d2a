"""The report of what was used: by day, tenant and actor."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime

from sqlalchemy import select

from twonines.errors import InputError
from twonines.serving.people.clock import DAY_US, SECOND_US
from twonines.serving.people.names import checked_name
from twonines.serving.people.tables import USAGE
from twonines.serving.store.database import Database
from twonines.serving.tables import csv_writer

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What an actor of a tenant used on a day of UTC; ``compute_s`` is seconds of the session."""

    day: str
    tenant: str
    actor: str
    requests: int
    images: int
    compute_s: float


def read_usage(
    database: Database,
    since: str | None = None,
    until: str | None = None,
    tenant: str | None = None,
) -> list[UsageRow]:
    """Rows by day, tenant and actor.

    Args:
        database: of the service, which writes each second.
        since: the first day, as ``2026-01-31``; all before it where it is not given.
        until: the last day.
        tenant: only this one.

    Raises:
        InputError: a day is none, or the tenant no name.
    """
    wanted = select(USAGE).order_by(USAGE.c.day_us, USAGE.c.tenant, USAGE.c.actor)
    if since is not None:
        wanted = wanted.where(USAGE.c.day_us >= _day_us("since", since))
    if until is not None:
        wanted = wanted.where(USAGE.c.day_us <= _day_us("until", until))
    if tenant is not None:
        wanted = wanted.where(USAGE.c.tenant == checked_name("tenant", tenant))
    with database.reading() as connection:
        return [
            UsageRow(
                datetime.fromtimestamp(row.day_us / SECOND_US, UTC).date().isoformat(),
                row.tenant, row.actor, row.requests, row.images, row.compute_us / SECOND_US,
            )
            for row in connection.execute(wanted)
        ]  # fmt: skip


def to_csv(rows: Sequence[UsageRow]) -> str:
    """RFC 4180, without formulas."""
    text = io.StringIO()
    csv_writer(text, [column.name for column in fields(UsageRow)])(asdict(row) for row in rows)
    return text.getvalue()


def _day_us(field: str, given: str) -> int:
    try:
        return (date.fromisoformat(given) - _EPOCH).days * DAY_US
    except ValueError as exc:
        raise InputError(f"{field}: must be a day such as 2026-01-31, got {given[:32]!r}") from exc
