"""The store itself, on SQLite and on a PostgreSQL that the tests start."""

import asyncio
import sqlite3
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, func, select, text

from tests.serving.store.conftest import make_entry, put
from twonines.benchmarks.postgres import Postgres
from twonines.errors import ConflictError, SettingsError, StoreError, UnknownError
from twonines.serving.people import tables as _people  # noqa: F401 (their tables are in METADATA)
from twonines.serving.store.counting import MINUTE_US, Span
from twonines.serving.store.database import METADATA, Database
from twonines.serving.store.findings import Report
from twonines.serving.store.ids import is_id, least_id, new_id, now_us, time_us_of
from twonines.serving.store.opening import open_records
from twonines.serving.store.pictures import PictureStore, digest_of
from twonines.serving.store.purge import purge
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.serving.store.tables import inspections, pictures


def test_ids_sort_by_time_and_bound_it() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert abs(time_us_of(new_id()) - now_us()) < 60e6
    for key in ids[:50]:
        assert is_id(key)
        time_us = time_us_of(key)
        assert least_id(time_us) <= key < least_id(time_us + 1)
    assert not is_id(ids[0].upper()) and not is_id(ids[0][:14] + "4" + ids[0][15:])


def test_migrations_make_what_the_tables_say(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.migrate()  # nothing is left to do
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_a_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    database.migrate()
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    database.close()
    later = Database.in_folder(tmp_path)
    with pytest.raises(SettingsError, match="9999_future"):
        open_records(later, tmp_path)
    later.close()


@pytest.mark.parametrize("url", ["mysql://h/x", "sqlite://", "nonsense", "postgresql://"])
def test_a_url_that_is_none_of_ours(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url"):
        Database(url)


def test_what_was_put_is_read_again(records: Records) -> None:
    entry = make_entry("NG", reference=b"golden", line="L", part_id="P\u00e9", lot="7")
    (key,) = put(records, entry)
    found = records.get(key)
    assert found.inspection == entry.inspection
    assert (found.line, found.part_id, found.lot, found.station) == ("L", "P\u00e9", "7", None)
    assert found.time_us == time_us_of(key)
    assert records.picture(key) == (b"picture", b"golden")
    with pytest.raises(UnknownError):
        records.get(new_id())


def test_many_requests_share_a_transaction(records: Records) -> None:
    begun = []
    event.listen(records.database.engine, "begin", lambda _: begun.append(1))

    async def all_of_them() -> None:
        entries = [make_entry("OK", part_id=str(i)) for i in range(200)]
        end = time.perf_counter() + 20
        await asyncio.gather(*(records.append([entry], end) for entry in entries))

    asyncio.run(all_of_them())
    assert len(begun) < 50
    assert records.counts(Span(0, now_us() + MINUTE_US)) == {"OK": 200}


def test_a_request_is_recorded_whole_or_not_at_all(records: Records) -> None:
    first = make_entry("OK")
    put(records, first)
    with pytest.raises(StoreError):
        put(records, make_entry("NG", b"new"), first)  # its id is taken
    assert len(records.query().items) == 1
    assert records.fault is None  # the request was at fault, not the store
    assert put(records, make_entry("NG", b"new"))


def test_one_bad_request_does_not_cost_the_others(records: Records) -> None:
    first = make_entry("OK")
    put(records, first)

    async def both() -> list[object]:
        end = time.perf_counter() + 20
        jobs = [records.append([one], end) for one in (make_entry("OK"), first, make_entry("NG"))]
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    good, bad, also_good = asyncio.run(both())
    assert good is also_good is None and isinstance(bad, StoreError)
    assert len(records.query().items) == 3


def test_text_with_nul_is_stored(records: Records) -> None:
    (key,) = put(records, make_entry("OK", part_id="a\0b"))
    assert records.get(key).part_id == "a\ufffdb"


def test_trends_by_minute(records: Records) -> None:
    put(records, *(make_entry(v, line="L1") for v in ("OK", "OK", "NG")))
    put(records, make_entry("OK", line="L2"))
    span = Span(0, now_us() + MINUTE_US, line="L1")
    assert records.counts(span) == {"OK": 2, "NG": 1}
    buckets = records.trend(span, 24 * 60 * MINUTE_US)
    assert sum(bucket.counts["OK"] for bucket in buckets) == 2
    assert records.counts(Span(0, now_us() - 60 * MINUTE_US)) == {}
    with pytest.raises(SettingsError, match="step_us"):
        records.trend(span, 1)


def test_queue_and_agreement(records: Records) -> None:
    first, second, _ = put(records, make_entry("REVIEW", due=2), make_entry("REVIEW", due=2),
                           make_entry("NG"))  # fmt: skip
    assert [one.id for one in records.queue().items] == [first, second]
    records.add_review(first, reviewer="ann", verdict="OK")
    assert [one.id for one in records.queue(reviewer="ann").items] == [second]
    assert [one.id for one in records.queue(reviewer="bob").items] == [first, second]
    decided = records.add_review(first, reviewer="bob", verdict="OK")
    assert (decided.due, decided.decision) == (0, "OK")
    records.add_review(second, reviewer="ann", verdict="OK")
    records.add_review(second, reviewer="bob", verdict="NG", defect_class="dent")
    assert [one.id for one in records.queue(reviewer="cy").items] == [second]
    assert records.agreement() == (1, 2)
    assert records.decisions() == {("REVIEW", "OK"): 1}
    with pytest.raises(ConflictError):
        records.add_review(second, reviewer="bob", verdict="OK")


def test_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    records = open_records(database, tmp_path)
    put(records, make_entry("OK"))
    limit = {"pages": 0}

    @event.listens_for(database.engine, "begin")
    def shrink(connection: object) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages'] or 2**30}")  # type: ignore[attr-defined]

    limit["pages"] = 1  # SQLite takes no less than there are
    with pytest.raises(StoreError, match="full"):
        for _ in range(100):
            put(records, *(make_entry("OK", part_id="x" * 200) for _ in range(20)))
    assert "full" in str(records.fault)
    stored = len(list(records.iterate()))
    with pytest.raises(StoreError, match="full"):  # at once, without another try
        put(records, make_entry("OK"))
    limit["pages"] = 0
    time.sleep(1.1)
    put(records, make_entry("OK"))
    assert records.fault is None and len(list(records.iterate())) == stored + 1
    records.close()


def test_pictures_that_cannot_be_stored_refuse_the_row(tmp_path: Path) -> None:
    records = open_records(Database.in_folder(tmp_path), tmp_path)
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(StoreError, match="pictures"):
        put(records, make_entry("NG"))
    assert records.query().items == ()
    (tmp_path / "pictures").unlink()
    limit = time.monotonic() + 60
    while records.fault:
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert records.picture(put(records, make_entry("NG"))[0])[0] == b"picture"
    records.close()


def test_lost_server_refuses_and_recovers(server: Postgres, tmp_path: Path) -> None:
    database = Database(server.create("lost"))
    records = open_records(database, tmp_path)
    put(records, make_entry("OK"))
    server.stop(hard=True)
    try:
        with pytest.raises(StoreError, match="database"):
            put(records, make_entry("OK"))
        with pytest.raises(StoreError, match="database"):
            records.query()
        late = open_records(Database(server.url("lost")), tmp_path)  # starts without it
        assert late.fault and "database" in late.fault
        with pytest.raises(StoreError):
            put(late, make_entry("OK"))
    finally:
        server.start()
    limit = time.monotonic() + 60
    while records.fault or late.fault:  # also where nobody inspects
        assert time.monotonic() < limit
        time.sleep(0.05)
    put(records, make_entry("OK"))
    put(late, make_entry("OK"))
    assert len(records.query().items) == 3
    for one in (records, late):
        one.close()
        one.database.close()


def test_a_store_that_hangs_is_given_up_and_writes_nothing_late(tmp_path: Path) -> None:
    records = open_records(Database.in_folder(tmp_path), tmp_path)
    put(records, make_entry("OK"))
    other = sqlite3.connect(tmp_path / "twonines.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def both() -> list[object]:
        running = asyncio.create_task(records.append([make_entry("OK")], time.perf_counter() + 20))
        await asyncio.sleep(0.2)  # it waits for the lock; this one waits behind it
        waiting = records.append([make_entry("OK")], time.perf_counter() + 0.1)
        found = await asyncio.gather(waiting, return_exceptions=True)
        other.execute("ROLLBACK")
        await running
        return list(found)

    (late,) = asyncio.run(both())
    assert isinstance(late, StoreError) and "too long" in str(late)
    records.close()
    assert len(records.query().items) == 2
    other.close()


def old(records: Records) -> int:
    """A time after everything that is there."""
    return time_us_of(records.query(limit=1).items[0].id) + 1


def test_purge_keeps_what_is_needed(records: Records) -> None:
    ok, ng, due, named, shared, sampled = put(
        records,
        make_entry("OK", b"ok", keeps=True),
        make_entry("NG", b"ng", reference=b"golden"),
        make_entry("REVIEW", b"due", due=1),
        make_entry("OK", b"named", keeps=True, part_id="P"),
        make_entry("NG", b"shared"),
        make_entry("OK", b"sampled", keeps=True, due=1),
    )
    records.add_finding(Report("escape", part_id="P"), reporter="qa")
    gone = purge(records, ok_pictures_before_us=old(records))
    assert (gone.records, gone.pictures) == (0, 1)  # the picture of the OK part only
    with pytest.raises(UnknownError):
        records.picture(ok)
    assert records.picture(named)[0] == b"named"
    before = old(records)
    put(records, make_entry("NG", b"shared"))  # the same picture in a record that stays
    gone = purge(records, before_us=before)
    assert (gone.records, gone.pictures) == (3, 2)  # ok, ng, shared; ng and golden
    assert records.picture(due)[0] == b"due" and records.picture(sampled)[0] == b"sampled"
    assert records.pictures.has(digest_of(b"shared")) and not records.pictures.has(digest_of(b"ng"))
    assert {one.id for one in records.iterate()} >= {due, named, sampled}
    assert ng not in {one.id for one in records.iterate()} and shared


def test_a_purge_that_is_killed_leaves_nothing_wrong(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(records, make_entry("OK", b"a", keeps=True))
    monkeypatch.setattr(PictureStore, "delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        purge(records, ok_pictures_before_us=old(records))
    monkeypatch.undo()
    # The row is gone and the file is not: the picture comes again, and a sweep must spare it.
    (key,) = put(records, make_entry("NG", b"a"))
    records.pictures.put({digest_of(b"orphan"): b"orphan"})
    assert purge(records, orphans=True).orphans == 1
    assert records.picture(key)[0] == b"a"


def test_a_picture_purged_in_between_is_put_back(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The purge runs after the writer has seen that the picture is stored."""
    put(records, make_entry("OK", b"a", keeps=True))
    gone: list[Any] = []
    cut, writing = old(records), Database.writing

    def late(database: Database) -> AbstractContextManager[Connection]:
        if not gone:
            gone.append(None)
            gone[0] = purge(records, ok_pictures_before_us=cut)
        return writing(database)

    monkeypatch.setattr(Database, "writing", late)
    (key,) = put(records, make_entry("NG", b"a"))
    assert gone[0].pictures == 1
    assert records.picture(key)[0] == b"a"


def test_damage_is_noticed(records: Records, tmp_path: Path) -> None:
    (key,) = put(records, make_entry("NG"))
    digest = digest_of(b"picture")
    (tmp_path / "pictures" / digest[:2] / digest).write_bytes(b"changed")
    with pytest.raises(StoreError, match="damaged"):
        records.picture(key)


def test_pictures_on_another_file_system(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    records = open_records(database, tmp_path, "memory://pictures")
    (key,) = put(records, make_entry("NG", b"far"))
    assert records.picture(key)[0] == b"far"
    put(records, make_entry("OK", b"also", keeps=True))
    assert purge(records, ok_pictures_before_us=old(records), orphans=True).pictures == 1
    assert list(records.pictures.all()) == [digest_of(b"far")]
    records.close()
    with pytest.raises(SettingsError, match="pictures_url"):
        PictureStore("nowhere://x")


def test_a_picture_is_stored_once(records: Records) -> None:
    put(records, *(make_entry("NG") for _ in range(3)))
    put(records, make_entry("NG"))
    with records.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(pictures)) == 1
        assert connection.scalar(select(func.count()).select_from(inspections)) == 4
    assert list(records.pictures.all()) == [digest_of(b"picture")]
    assert len(records.query(Filters(picture_digest=digest_of(b"picture"))).items) == 4
