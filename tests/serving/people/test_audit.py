"""The audit log: what was changed, removed or inserted is found, and where."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from tests.serving.people.conftest import people_of, serve
from tests.serving.store.conftest import server as server  # noqa: F401
from tests.serving.store.conftest import url as url
from twonines.errors import InputError
from twonines.serving.people.audit import (
    FIRST,
    Audit,
    Head,
    _digest,
    read_anchor,
    write_anchor,
)
from twonines.serving.people.tables import AUDIT, AUDIT_HEAD
from twonines.serving.store.database import Database


def filled(database: Database, count: int = 10) -> Audit:
    audit = Audit(database)
    for number in range(count):
        audit.append("user:anna", "model.activate", f"cell/{number}", {"n": number})
    return audit


def unlock(database: Database) -> None:
    """As somebody who can write the file: takes the triggers out."""
    with database.writing() as connection:
        names = connection.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'")
        ).scalars()
        for name in list(names):
            connection.execute(text(f"DROP TRIGGER {name}"))


def rows(database: Database) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(r) for r in connection.execute(select(AUDIT).order_by(AUDIT.c.seq)).mappings()]


def test_a_sound_log_is_sound_and_chained(database: Database) -> None:
    audit = filled(database)
    found = audit.verify()
    assert found.is_sound and found.records == 10
    assert found.head == audit.head()
    stored = rows(database)
    assert stored[0]["previous"] == FIRST
    assert [r["previous"] for r in stored[1:]] == [r["digest"] for r in stored[:-1]]


@pytest.mark.parametrize(
    ("column", "value"),
    [("time_us", 5), ("actor", "user:ann"), ("action", "model.activatf"), ("subject", "cell/5"),
     ("details", '{"n": 4}'), ("previous", "1" * 64), ("digest", "2" * 64)],
)  # fmt: skip
def test_a_changed_byte_is_located(database: Database, column: str, value: object) -> None:
    audit = filled(database)
    unlock(database)
    with database.writing() as connection:
        connection.execute(update(AUDIT).where(AUDIT.c.seq == 5).values({column: value}))
    found = audit.verify()
    assert (found.seq, found.records) == (5, 4)
    assert "was changed" in str(found.fault)


def test_a_changed_record_with_a_fresh_digest_is_located(database: Database) -> None:
    audit = filled(database)
    unlock(database)
    row = {**rows(database)[4], "actor": "user:eve"}
    with database.writing() as connection:
        change = {"actor": "user:eve", "digest": _digest(row)}
        connection.execute(update(AUDIT).where(AUDIT.c.seq == 5).values(change))
    found = audit.verify()
    assert found.seq == 6 and "does not follow" in str(found.fault)


@pytest.mark.parametrize("gone", [1, 5, 10])
def test_a_removed_record_is_located_also_the_last(database: Database, gone: int) -> None:
    audit = filled(database)
    unlock(database)
    with database.writing() as connection:
        connection.execute(delete(AUDIT).where(AUDIT.c.seq == gone))
    found = audit.verify()
    assert found.seq == gone and "is missing" in str(found.fault)


def test_an_inserted_record_is_located(database: Database) -> None:
    audit = filled(database)
    unlock(database)
    last = rows(database)[-1]
    for seq, at in ((0, 0), (11, 11)):
        row = {**last, "seq": seq, "previous": last["digest"]}
        with database.writing() as connection:
            connection.execute(insert(AUDIT).values({**row, "digest": _digest(row)}))
        found = audit.verify()
        assert found.seq == at and "was inserted" in str(found.fault)
        with database.writing() as connection:
            connection.execute(delete(AUDIT).where(AUDIT.c.seq == seq))
    assert audit.verify().is_sound


def test_a_log_cut_and_rewritten_with_its_head_is_found_by_the_anchor(
    database: Database, tmp_path: Path
) -> None:
    audit, path = filled(database), tmp_path / "anchor.json"
    assert read_anchor(path) is None
    write_anchor(path, audit.head())
    anchor = read_anchor(path)
    assert anchor == audit.head()
    audit.append("user:anna", "login", "anna")
    assert audit.verify(anchor).is_sound
    unlock(database)
    before = rows(database)
    with database.writing() as connection:
        connection.execute(delete(AUDIT).where(AUDIT.c.seq > 8))
        head = {"seq": 8, "digest": before[7]["digest"]}
        connection.execute(update(AUDIT_HEAD).values(head))
    assert audit.verify().is_sound  # nothing in the database shows it
    found = audit.verify(anchor)
    assert found.seq == 9 and "is missing" in str(found.fault)
    for _ in range(3):
        audit.append("user:eve", "login", "eve")
    found = audit.verify(anchor)
    assert found.seq == 10 and "rewritten" in str(found.fault)


def test_a_bad_anchor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"seq": 1}')
    with pytest.raises(InputError, match="anchor"):
        read_anchor(path)
    with pytest.raises(InputError, match="cannot be written"):
        write_anchor(tmp_path / "none" / "a", Head(1, "x"))


def test_both_databases_refuse_changes_and_keep_the_chain_under_threads(url: str) -> None:  # noqa: F811
    database, other = Database(url), Database(url)
    database.migrate()
    audits = [Audit(database), Audit(other)]
    barrier = threading.Barrier(4)

    def write(who: int) -> None:
        barrier.wait()
        for number in range(10):
            audits[who % 2].append(f"user:{who}", "login", str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert audits[0].verify().records == 40 and audits[0].verify().is_sound
    for statement in (
        update(AUDIT).values(actor="x"),
        delete(AUDIT),
        delete(AUDIT_HEAD),
        update(AUDIT_HEAD).values(seq=3),
    ):
        with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
            connection.execute(statement)
    if database.dialect == "sqlite":
        replace = insert(AUDIT).prefix_with("OR REPLACE").values(rows(database)[3])
    else:
        replace = text("TRUNCATE audit")  # type: ignore[assignment]
    with pytest.raises(DBAPIError, match="append-only"), database.writing() as connection:
        connection.execute(replace)
    # A record whose transaction failed leaves no gap.
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        audits[0].append_in(connection, "user:1", "login", "x")
        raise ZeroDivisionError
    assert audits[0].append("user:1", "login", "x") == 41
    assert audits[1].verify().is_sound
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(AUDIT)).scalar_one() == 41
    other.close()
    database.close()


def test_nothing_that_a_terminal_obeys_is_kept(database: Database) -> None:
    audit = Audit(database)
    audit.append("user:a\r\nb\x1b[2J", "login", "x\x00\ud800" + "y" * 500, {"why": "\r\n\ud800"})
    row = audit.newest()[0]
    assert row["actor"] == "user:a\ufffd\ufffdb\ufffd[2J"
    assert len(row["subject"]) == 300 and row["subject"].startswith("x\ufffd\ufffdy")
    assert json.loads(json.dumps(row["details"]))["why"] == "\r\n\ud800"
    assert audit.verify().is_sound
    audit.append("user:b", "login", "b")
    assert [r["seq"] for r in audit.newest(limit=1)] == [2]
    assert [r["seq"] for r in audit.newest(before=2)] == [1]


def test_a_page_begins_at_any_number_that_a_record_can_have(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        people_of(client).audit.append("local", "test", "x")
        for before, status in ((2**63 - 1, 200), (2**63, 422), (10**400, 422), (0, 422), (-1, 422)):
            answer = client.get("/v1/audit", params={"before": before})
            assert answer.status_code == status, (before, answer.text)
        assert client.get("/v1/audit", params={"before": 2**63 - 1}).json()["audit"]
