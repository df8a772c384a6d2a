"""Tallies of minutes and hours against a plain count over the records."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import delete, select, text

from tests.serving.store.conftest import make_entry, put
from twonines.serving.store.counting import HOUR_US, MINUTE_US, Span
from twonines.serving.store.database import Database
from twonines.serving.store.entries import Entry, Recorded
from twonines.serving.store.findings import Report
from twonines.serving.store.ids import least_id, now_us
from twonines.serving.store.purge import purge
from twonines.serving.store.records import Records
from twonines.serving.store.tables import hour_tallies, tallies

DAY_US = 24 * HOUR_US
Places = Counter[tuple[int, str, str, str, str]]


def entry_at(time_us: int, number: int, verdict: str = "OK", **more: Any) -> Entry:
    key = f"{least_id(time_us)[:24]}{number:012x}"
    return replace(make_entry(verdict, due=int(verdict == "REVIEW"), **more), id=key)


def drawn(rng: random.Random, numbers: range, end_us: int) -> list[Entry]:
    """Inspections of two days, some at the very edges of hours."""
    found = []
    for number in numbers:
        time_us = end_us - rng.randrange(2 * DAY_US)
        if rng.random() < 0.3:
            time_us = time_us // HOUR_US * HOUR_US + rng.choice([-1000, 0, 1000])
        place = {"line": rng.choice(["A", "B"])} if rng.random() < 0.8 else {}
        place |= {"station": rng.choice(["1", "2"])} if rng.random() < 0.8 else {}
        found.append(entry_at(time_us, number, rng.choice(["OK", "NG", "REVIEW"]), **place))
    return found


def counted(found: list[Recorded], step_us: int) -> Places:
    return Counter(
        (
            one.time_us // step_us * step_us,
            one.line or "",
            one.station or "",
            one.model_digest,
            one.verdict,
        )
        for one in found
    )


def stored(records: Records, *, hours: bool) -> Places:
    table = hour_tallies if hours else tallies
    with records.database.reading() as connection:
        rows = [tuple(row) for row in connection.execute(select(table))]
    assert len({row[:5] for row in rows}) == len(rows)
    return Counter({row[:5]: row[5] for row in rows})


@pytest.mark.parametrize("seed", [0, 1])
def test_hours_are_always_a_count_over_the_records(records: Records, seed: int) -> None:
    rng, end_us, purged = random.Random(seed), now_us(), list[Recorded]()
    for turn in range(6):
        entries = drawn(rng, range(turn * 100, turn * 100 + rng.randrange(1, 60)), end_us)
        put(records, *entries)
        there = list(records.iterate())
        for one in rng.sample(there, min(5, len(there))):
            if not any(review.reviewer == "ann" for review in records.reviews(one.id)):
                records.add_review(one.id, reviewer="ann", verdict=rng.choice(["OK", "NG"]))
        records.add_finding(Report("escape", inspection_id=rng.choice(there).id), reporter="qa")
        before = {one.id: one for one in records.iterate()}
        gone = purge(records, before_us=end_us - rng.randrange(2 * DAY_US))
        left = list(records.iterate())
        lost = before.keys() - {one.id for one in left}
        assert gone.records == len(lost)
        # What was made counts, also when its record has grown too old to be kept.
        purged += [before[key] for key in lost]
        everything = left + purged
        assert stored(records, hours=True) == counted(everything, HOUR_US)
        assert stored(records, hours=False) == counted(everything, MINUTE_US)
    assert purged
    for _ in range(40):
        since = end_us - rng.randrange(3 * DAY_US)
        until = since + rng.choice([0, 1, MINUTE_US, HOUR_US, rng.randrange(2 * DAY_US)])
        line, station = rng.choice([None, "A", "B"]), rng.choice([None, "1"])
        first, span = since // MINUTE_US * MINUTE_US, Span(since, until, line, station)
        inside = [
            one
            for one in everything
            # A minute belongs to the span where it begins before its end.
            if first <= one.time_us // MINUTE_US * MINUTE_US < until
            and line in (None, one.line)
            and station in (None, one.station)
        ]
        assert records.counts(span) == Counter(one.verdict for one in inside)
        for step_us in (10 * MINUTE_US, HOUR_US, 12 * HOUR_US):
            steps = {one.time_us: one.counts for one in records.trend(span, step_us)}
            assert list(steps) == sorted(steps)
            wanted: dict[int, Counter[str]] = {}
            for one in inside:
                wanted.setdefault(one.time_us // step_us * step_us, Counter())[one.verdict] += 1
            assert steps == wanted


def test_long_counts_read_hours(records: Records) -> None:
    start = now_us() // HOUR_US * HOUR_US - 3 * HOUR_US
    put(records, *(entry_at(start + n * 30 * MINUTE_US + 1000, n) for n in range(6)))
    with records.database.writing() as connection:  # only the two hours that are whole may be read
        connection.execute(delete(tallies).where(tallies.c.minute_us >= start + HOUR_US))
    span = Span(start + MINUTE_US, start + 3 * HOUR_US)
    assert records.counts(span) == {"OK": 5}
    assert sum(one.counts["OK"] for one in records.trend(span, HOUR_US)) == 5
    assert sum(one.counts["OK"] for one in records.trend(span, MINUTE_US)) == 1


def test_a_request_that_is_not_written_is_not_counted(records: Records) -> None:
    first = make_entry("OK")
    put(records, first)
    with pytest.raises(Exception, match="cannot be stored"):
        put(records, make_entry("NG"), first)
    assert sum(stored(records, hours=True).values()) == 1


def test_the_step_to_hours_sums_what_is_there(url: str) -> None:
    database, config = Database(url), Config()
    config.set_main_option("script_location", "twonines.serving.store:migrations")
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002_people")
        insert = text("INSERT INTO tallies VALUES (:t, :line, '', :model, :verdict, :n)")
        hour = 480_000 * HOUR_US
        for offset, line, verdict, n in [
            (0, "A", "OK", 3), (59 * MINUTE_US, "A", "OK", 4), (HOUR_US, "A", "OK", 5),
            (MINUTE_US, "B", "OK", 6), (2 * MINUTE_US, "A", "NG", 7),
        ]:  # fmt: skip
            row = {"t": hour + offset, "line": line, "model": "a" * 64, "verdict": verdict, "n": n}
            connection.execute(insert, row)
    database.migrate()
    with database.reading() as connection:
        rows = {tuple(row) for row in connection.execute(select(hour_tallies))}
    assert rows == {
        (hour, "A", "", "a" * 64, "OK", 7), (hour + HOUR_US, "A", "", "a" * 64, "OK", 5),
        (hour, "B", "", "a" * 64, "OK", 6), (hour, "A", "", "a" * 64, "NG", 7),
    }  # fmt: skip
    database.close()
