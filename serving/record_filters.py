"""The filters of a request for records."""

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request

from twonines.errors import InputError
from twonines.serving.store.query import Filters
from twonines.types import Verdict

_NAMES = {
    "line", "station", "part_id", "lot", "verdict", "class", "picture_digest", "model", "since",
    "until", "due", "decided",
}  # fmt: skip
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")


def read_filters(
    line: str | None = None,
    station: str | None = None,
    part_id: str | None = None,
    lot: str | None = None,
    verdict: Annotated[Verdict | None, Query(description="The model's.")] = None,
    defect_class: Annotated[str | None, Query(alias="class")] = None,
    picture_digest: Annotated[str | None, Query(description="SHA-256 of the picture.")] = None,
    model: Annotated[str | None, Query(description="Name, or digest of the file.")] = None,
    since: Annotated[str | None, Query(description="ISO 8601, or seconds since 1970.")] = None,
    until: Annotated[str | None, Query(description="As since; itself not included.")] = None,
    due: Annotated[bool | None, Query(description="A person must still look at it.")] = None,
    decided: Annotated[bool | None, Query(description="Persons have decided.")] = None,
) -> Filters:
    """The filters of a request."""
    return Filters(
        line=line,
        station=station,
        part_id=part_id,
        lot=lot,
        verdict=None if verdict is None else verdict.value,
        defect_class=defect_class,
        picture_digest=picture_digest,
        model=model,
        since_us=None if since is None else read_time("since", since),
        until_us=None if until is None else read_time("until", until),
        due=due,
        decided=decided,
    )


def read_time(name: str, text: str) -> int:
    """Microseconds since 1970 (UTC); a time without a zone is UTC.

    Raises:
        InputError: it is no time.
    """
    try:
        if _SECONDS.fullmatch(text):
            moment = datetime.fromtimestamp(float(text), UTC)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        found = round(moment.timestamp() * 1e6)
        if found < 0:
            raise ValueError
    except (ValueError, OverflowError) as exc:
        raise InputError(
            f"{name}: must be a time since 1970, as 2026-01-31T08:00:00Z, got {text[:80]!r}"
        ) from exc
    return found


def check_names(request: Request, *also: str) -> None:
    """Refuse what is neither a filter nor one of ``also``: a misspelt filter would find everything.

    Raises:
        InputError: there is such an argument.
    """
    unknown = sorted(set(request.query_params) - _NAMES - set(also))
    if unknown:
        known = ", ".join(sorted(_NAMES.union(also)))
        raise InputError(f"query: must be among {known}, got {', '.join(unknown)[:200]}")
