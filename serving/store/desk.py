"""What persons say of inspections: reviews, and what follows from them."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, not_, select, update

from twonines.errors import ConflictError, ForbiddenError, SettingsError, UnknownError
from twonines.serving.store.entries import Recorded, Review
from twonines.serving.store.ids import new_id, time_us_of
from twonines.serving.store.query import Filters, Page, conditions, read_page
from twonines.serving.store.tables import inspections, reviews
from twonines.types import GOOD, Verdict

MAX_TEXT, MAX_NOTE = 200, 4000
DECISIONS = (Verdict.OK.value, Verdict.NG.value)
KEY = "key:"
"""How the name of a reviewer begins that is an API key, and so no person."""


def read_one(connection: Connection, key: str, *, lock: bool = False) -> Recorded:
    """The inspection of this id; ``lock`` keeps others from changing it meanwhile.

    Raises:
        UnknownError: there is none.
    """
    query = select(inspections).where(inspections.c.id == key)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise UnknownError("id: must be of an inspection that is recorded; this one is not")
    return Recorded(**row)


def read_reviews(connection: Connection, key: str) -> list[Review]:
    """The reviews of an inspection, first to last."""
    query = select(reviews).where(reviews.c.inspection_id == key).order_by(reviews.c.id)
    return [Review(**row) for row in connection.execute(query).mappings()]


def read_queue(
    connection: Connection, filters: Filters, reviewer: str | None, limit: int, cursor: str | None
) -> Page:
    """What must still be looked at, oldest first, without what ``reviewer`` has looked at.

    Raises:
        SettingsError: ``reviewer`` is no name.
    """
    if reviewer is not None:
        reviewer = check_person("reviewer", reviewer)
    mine = exists().where(
        reviews.c.inspection_id == inspections.c.id, reviews.c.reviewer == reviewer
    )
    return read_page(
        connection,
        filters,
        limit=limit,
        cursor=cursor,
        newest_first=False,
        also=[inspections.c.due > 0, *([] if reviewer is None else [not_(mine)])],
    )


def add_review(
    connection: Connection,
    key: str,
    *,
    reviewers: int,
    reviewer: str,
    verdict: str,
    defect_class: str | None,
    note: str,
    seconds: float | None,
) -> Recorded:
    """Write a review, and the decision where enough persons agree.

    Raises:
        UnknownError: there is no such inspection.
        ForbiddenError: more than one must look at it, and this is no person.
        ConflictError: this person has reviewed it before.
        SettingsError: an argument is outside its range.
    """
    if verdict not in DECISIONS:
        raise SettingsError(f"verdict: must be OK or NG, got {verdict!r}")
    if verdict == Verdict.OK and defect_class not in (None, GOOD):
        raise SettingsError(f"class: must not be given with OK, got {defect_class!r}")
    if seconds is not None and not 0 <= seconds < 1e6:
        raise SettingsError(f"seconds: must be at least 0, got {seconds}")
    reviewer = check_person("reviewer", reviewer)
    if reviewers > 1 and reviewer.startswith(KEY):
        # Its holder would count twice: with the key, and in their own name.
        raise ForbiddenError(
            f"reviewer: must be a person who has logged in, as {reviewers} must look at it, got "
            f"{reviewer}"
        )
    row: dict[str, Any] = {
        "id": new_id(),
        "inspection_id": key,
        "reviewer": reviewer,
        "verdict": verdict,
        "defect_class": None if verdict == Verdict.OK else optional("class", defect_class),
        "note": check_text("note", note, MAX_NOTE),
        "seconds": seconds,
    }
    row["time_us"] = time_us_of(row["id"])
    read_one(connection, key, lock=True)
    before = read_reviews(connection, key)
    if any(one.reviewer == reviewer for one in before):
        raise ConflictError(f"reviewer: must not have reviewed it before, got {reviewer!r}")
    connection.execute(insert(reviews), row)
    change = _conclude([*before, Review(**row)], reviewers)
    connection.execute(update(inspections).where(inspections.c.id == key).values(change))
    return read_one(connection, key)


def _conclude(found: Sequence[Review], reviewers: int) -> dict[str, Any]:
    """The decision of the majority; where there is none, one more person is asked.

    As soon as a person has looked at it, keys count no more: they neither make a decision of
    persons nor undo it.
    """
    found = [one for one in found if not one.reviewer.startswith(KEY)] or found
    votes = Counter(one.verdict for one in found)
    if len(found) < reviewers:
        return {"due": reviewers - len(found), "decision": None, "decision_class": None}
    if votes[Verdict.OK.value] == votes[Verdict.NG.value]:
        return {"due": 1, "decision": None, "decision_class": None}
    decision = votes.most_common(1)[0][0]
    # The class that most of them saw; of equal ones that which was seen first.
    classes = Counter(one.defect_class for one in found if one.verdict == decision)
    return {"due": 0, "decision": decision, "decision_class": classes.most_common(1)[0][0]}


def count_decisions(connection: Connection, filters: Filters) -> dict[tuple[str, str], int]:
    """How often persons decided what, by (verdict of the model, decision)."""
    query = (
        select(inspections.c.verdict, inspections.c.decision, func.count())
        .where(and_(inspections.c.decision.is_not(None), *conditions(filters)))
        .group_by(inspections.c.verdict, inspections.c.decision)
    )
    return {(verdict, decision): int(n) for verdict, decision, n in connection.execute(query)}


def count_agreement(connection: Connection, filters: Filters) -> tuple[int, int]:
    """Of the pairs of reviews of one inspection by two persons: those that agree, and all."""
    other = reviews.alias()
    query = (
        select(reviews.c.verdict == other.c.verdict, func.count())
        .select_from(
            reviews.join(
                other,
                and_(reviews.c.inspection_id == other.c.inspection_id, reviews.c.id < other.c.id),
            ).join(inspections, inspections.c.id == reviews.c.inspection_id)
        )
        .where(
            not_(reviews.c.reviewer.startswith(KEY)),
            not_(other.c.reviewer.startswith(KEY)),
            *conditions(filters),
        )
        .group_by(reviews.c.verdict == other.c.verdict)
    )
    counts = {bool(agree): int(n) for agree, n in connection.execute(query)}
    return counts.get(True, 0), sum(counts.values())


def check_text(name: str, value: str, most: int = MAX_TEXT, least: int = 0) -> str:
    """The text without blanks around it.

    Raises:
        SettingsError: it is too long or too short, or holds control characters.
    """
    value = value.strip()
    if not least <= len(value) <= most:
        raise SettingsError(f"{name}: must have {least} to {most} characters, got {len(value)}")
    if not all(one.isprintable() or one in "\n\t" and most == MAX_NOTE for one in value):
        raise SettingsError(f"{name}: must hold no control characters, got {value[:80]!r}")
    return value


def check_person(name: str, value: str) -> str:
    """The one spelling of a person's name: NFKC and case folded as a login's, single blanks.

    Else one person who writes a name in two ways would be two of the reviewers.

    Raises:
        SettingsError: as :func:`check_text`; or it is empty.
    """
    value = unicodedata.normalize("NFKC", value).casefold()
    return check_text(name, " ".join(value.split()), least=1)


def optional(name: str, value: str | None) -> str | None:
    """As :func:`check_text`; None for None and for nothing.

    Raises:
        SettingsError: as :func:`check_text`.
    """
    return None if value is None else check_text(name, value) or None
