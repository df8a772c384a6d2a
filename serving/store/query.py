"""Questions to the inspections."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from twonines.errors import SettingsError
from twonines.serving.store.entries import Recorded
from twonines.serving.store.ids import is_id, least_id
from twonines.serving.store.tables import inspections

MAX_LIMIT = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EXACT = ("line", "station", "part_id", "lot", "verdict", "defect_class", "picture_digest")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which inspections; all that are given must hold. Times are microseconds since 1970 (UTC).

    ``model`` is the digest of a model file or the name of a model. ``since_us`` is included,
    ``until_us`` is not. ``due`` asks for those that a person must still look at, or not;
    ``decided`` for those that persons have decided.
    """

    line: str | None = None
    station: str | None = None
    part_id: str | None = None
    lot: str | None = None
    verdict: str | None = None
    defect_class: str | None = None
    picture_digest: str | None = None
    model: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    due: bool | None = None
    decided: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some inspections in order, and where the next page begins; None where there is none."""

    items: tuple[Recorded, ...]
    cursor: str | None


def conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """The filters as SQL expressions."""
    column = inspections.c
    found = [
        column[name] == value for name in _EXACT if (value := getattr(filters, name)) is not None
    ]
    if filters.model is not None:
        is_digest = _DIGEST.fullmatch(filters.model)
        found.append((column.model_digest if is_digest else column.model_name) == filters.model)
    if filters.since_us is not None:
        found.append(column.id >= least_id(filters.since_us))
    if filters.until_us is not None:
        found.append(column.id < least_id(filters.until_us))
    if filters.due is not None:
        found.append(column.due > 0 if filters.due else column.due == 0)
    if filters.decided is not None:
        none = column.decision.is_(None)
        found.append(~none if filters.decided else none)
    return found


def read_page(
    connection: Connection,
    filters: Filters,
    *,
    limit: int = 50,
    cursor: str | None = None,
    newest_first: bool = True,
    also: Sequence[ColumnElement[bool]] = (),
) -> Page:
    """One page in order of time; pages never show an inspection twice nor leave one out.

    Raises:
        SettingsError: ``limit`` is outside [1, 1000], or ``cursor`` is none of ours.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise SettingsError(f"limit: must be from 1 to {MAX_LIMIT}, got {limit}")
    key = inspections.c.id
    where = [*conditions(filters), *also]
    if cursor is not None:
        last = _open_cursor(cursor)
        where.append(key < last if newest_first else key > last)
    query = (
        select(inspections)
        .where(and_(True, *where))
        .order_by(key.desc() if newest_first else key)
        .limit(limit + 1)
    )
    rows = read_all(connection, query)
    more = len(rows) > limit
    return Page(tuple(rows[:limit]), _make_cursor(rows[limit - 1].id) if more else None)


def read_all(connection: Connection, query: Select[Any]) -> list[Recorded]:
    """The inspections that a query selects."""
    return [Recorded(**row) for row in connection.execute(query).mappings()]


def _make_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _open_cursor(cursor: str) -> str:
    try:
        key = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        key = ""
    if not is_id(key):
        raise SettingsError(f"cursor: must be one that a page has given, got {cursor[:80]!r}")
    return key
