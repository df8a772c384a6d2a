"""Stores on both databases, and entries to put into them."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from twonines.benchmarks.postgres import Postgres, find_programs, postgres
from twonines.errors import SettingsError
from twonines.serving.store.database import Database
from twonines.serving.store.entries import Entry, Made, Place
from twonines.serving.store.ids import new_id
from twonines.serving.store.opening import open_records
from twonines.serving.store.records import Records
from twonines.types import Inspection, Region, Verdict

_names = (f"d{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL of our own."""
    try:
        find_programs()
    except SettingsError as exc:
        pytest.skip(str(exc))
    with postgres(durable=False) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'twonines.db'}"
    server: Postgres = request.getfixturevalue("server")
    return server.create(next(_names))


@pytest.fixture
def records(url: str, tmp_path: Path) -> Iterator[Records]:
    database = Database(url)
    opened = open_records(database, tmp_path, reviewers=2)
    yield opened
    opened.close()
    database.close()


def make_entry(
    verdict: str = "OK", data: bytes | None = b"picture", *, keeps: bool | None = None,
    reference: bytes | None = None, due: int = 0, model: str = "m", **place: str,
) -> Entry:  # fmt: skip
    region = Region((0, 0, 4, 4), 16, 0.9, "dent")
    found = Inspection(
        Verdict(verdict), 0.5, "dent" if verdict == "NG" else "good", {"dent": 0.5}, 0.1,
        (region,) if verdict == "NG" else (), None, ("because",), None,
    )  # fmt: skip
    return Entry(
        id=new_id(), file="a.png", inspection=found, picture=data, reference=reference,
        model=Made(model, "1", "a" * 64, "cpu"), place=Place(**place), request_id="r",
        timings_ms={"total": 1.0}, reviewers=due, keeps=verdict != "OK" if keeps is None else keeps,
    )  # fmt: skip


def put(records: Records, *entries: Entry) -> Sequence[str]:
    """Record them in one request; gives their ids."""
    asyncio.run(records.append(entries, time.perf_counter() + 20))
    return [entry.id for entry in entries]
