"""API keys, their quotas, and what is counted."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.images import png
from tests.serving.people.conftest import Clock, people_of, serve
from twonines.errors import (
    DeadlineError,
    InputError,
    OverloadedError,
    QuotaError,
    TooLargeError,
    UnknownError,
)
from twonines.serving.people.meter import Meter
from twonines.serving.people.people import People
from twonines.serving.people.roles import NO_QUOTA, Person, Quota, Role
from twonines.serving.people.usage import read_usage, to_csv
from twonines.serving.store.database import Database


def key_person(quota: Quota = NO_QUOTA, name: str = "tn_abcdefghi") -> Person:
    return Person(name, Role.INSPECTOR, "line", "key", quota)


def test_a_key_is_random_shown_once_and_stored_as_its_digest(people: People) -> None:
    secret, key = people.keys.add("Line 3", Role.INSPECTOR, "test")
    assert secret.startswith(key.prefix + "_") and len(key.prefix) == 12
    assert len(secret) == 12 + 1 + 43  # 256 bits
    assert secret != people.keys.add("Line 3", Role.INSPECTOR, "test")[0]
    with people.database.reading() as connection:
        for table in ("api_keys", "audit"):
            assert secret[13:] not in str(
                connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            )
    assert people.find_key(secret) == key.person
    for wrong in ("", key.prefix, secret[:-1], secret + "x", secret[:-1] + "~", "x" * 10_000,
                  "\ud800", "' OR 1=1 --"):  # fmt: skip
        assert people.find_key(wrong) is None
    people.keys.revoke(key.prefix, "test")
    assert people.find_key(secret) is None
    with pytest.raises(UnknownError):
        people.keys.revoke(key.prefix, "test")
    with pytest.raises(InputError, match="images_per_day"):
        people.keys.add("x", Role.VIEWER, "test", quota=Quota(images_per_day=-1))


def test_a_key_that_is_revoked_while_in_use_is_refused_at_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        people = people_of(client)
        secret, key = people.keys.add("line", Role.INSPECTOR, "test")
        file = {"file": ("a.png", png(0))}
        for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}):
            assert client.post("/v1/inspect", files=file, headers=headers).status_code == 200
        people.keys.revoke(key.prefix, "test")
        answer = client.post("/v1/inspect", files=file, headers={"X-API-Key": secret})
        assert answer.status_code == 401 and "revoked" in answer.json()["error"]


def test_another_process_revokes_within_a_second(people: People, database: Database) -> None:
    secret, key = people.keys.add("line", Role.INSPECTOR, "test")
    assert people.find_key(secret)
    People(database, passwords=people.accounts._passwords).keys.revoke(key.prefix, "test")
    limit = time.monotonic() + 20
    while people.find_key(secret) and time.monotonic() < limit:
        time.sleep(0.05)
    assert people.find_key(secret) is None


@pytest.mark.parametrize("name", ["images_per_minute", "images_per_day"])
def test_a_quota_is_exact_under_concurrency(database: Database, clock: Clock, name: str) -> None:
    meter = Meter(database, clock)
    person = key_person(Quota(**{name: 100}))

    def ask(_: int) -> bool:
        try:
            with meter.charge(person, 3):
                meter.flush()
                return True
        except QuotaError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(60))) == 33
    with meter.charge(person, 1):
        pass
    with pytest.raises(QuotaError, match=f"{name} is 100") as caught, meter.charge(person, 1):
        pass
    window = 60 if name == "images_per_minute" else 86_400
    left = window - clock.now / 1e6 % window
    assert caught.value.retry_after_s == pytest.approx(left)
    clock.pass_s(left)
    with meter.charge(person, 100):
        pass
    with pytest.raises(TooLargeError), meter.charge(person, 101):
        pass
    meter.flush()
    assert sum(row.images for row in read_usage(database)) == 200


def test_compute_is_counted_afterwards_and_refused_when_used_up(
    database: Database, clock: Clock
) -> None:
    meter, person = Meter(database, clock), key_person(Quota(compute_s_per_day=2))
    for seconds in (1.5, 0.25, 0.75):
        with meter.charge(person, 1) as charge:
            charge.compute_s = seconds
    with pytest.raises(QuotaError, match="compute_s_per_day"):
        meter.admit(person)
    meter.flush()
    again = Meter(database, clock)  # as after a restart
    again.prepare(person)
    with pytest.raises(QuotaError, match="compute_s_per_day"):
        again.admit(person)
    (row,) = read_usage(database)
    assert (row.tenant, row.actor, row.requests, row.images, row.compute_s) == (
        "line", "key:tn_abcdefghi", 3, 3, 2.5,
    )  # fmt: skip


def test_what_was_not_done_is_given_back_and_what_was_is_not(
    database: Database, clock: Clock
) -> None:
    meter, person = Meter(database, clock), key_person(Quota(images_per_minute=2, images_per_day=2))
    with pytest.raises(OverloadedError), meter.charge(person, 2):
        raise OverloadedError("full", 1.0)
    with pytest.raises(DeadlineError), meter.charge(person, 2):
        raise DeadlineError("late")
    with pytest.raises(QuotaError), meter.charge(person, 1):
        pass
    meter.flush()
    assert [(r.requests, r.images) for r in read_usage(database)] == [(1, 2)]


def test_days_are_kept_apart_also_for_what_ends_on_the_next(
    database: Database, clock: Clock
) -> None:
    clock.now = 1_700_006_399_000_000  # 2023-11-14 23:59:59
    meter, person = Meter(database, clock), key_person()
    with meter.charge(person, 2) as charge:
        clock.pass_s(2)
        charge.compute_s = 1.0
    with meter.charge(person, 5):
        pass
    meter.flush()
    rows = read_usage(database)
    assert [(r.day, r.images, r.compute_s) for r in rows] == [
        ("2023-11-14", 2, 1.0), ("2023-11-15", 5, 0.0),
    ]  # fmt: skip
    assert len(read_usage(database, since="2023-11-15")) == 1
    assert len(read_usage(database, until="2023-11-14", tenant="line")) == 1
    assert read_usage(database, tenant="other") == []
    with pytest.raises(InputError, match="since"):
        read_usage(database, since="yesterday")
    assert to_csv(rows).splitlines()[:2] == [
        "day,tenant,actor,requests,images,compute_s",
        "2023-11-14,line,key:tn_abcdefghi,1,2,1.0",
    ]


def test_two_services_on_one_database_add_up(database: Database, clock: Clock) -> None:
    person = key_person(Quota(images_per_day=10))
    one, other = Meter(database, clock), Meter(database, clock)
    for meter in (one, other):
        with meter.charge(person, 4):
            pass
        meter.flush()
    with pytest.raises(QuotaError), other.charge(person, 3):
        pass
    assert read_usage(database)[0].images == 8


def test_the_service_counts_pictures_and_answers_429(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path) as client:
        people = people_of(client)
        people.meter._clock = Clock()
        quota = Quota(images_per_day=3)
        secret, key = people.keys.add("line", Role.INSPECTOR, "test", "plant-1", quota)
        headers = {"X-API-Key": secret}
        files = [("files", (f"{n}.png", png(0))) for n in range(2)]
        files.append(("files", ("bad.png", b"x" * (21 << 20))))
        assert client.post("/v1/inspect", files=files, headers=headers).status_code == 200
        refused = client.post("/v1/inspect", files=files[:2], headers=headers)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400
        assert client.post("/v1/inspect", files=files[:1], headers=headers).status_code == 200
        assert client.post("/v1/inspect", content=b"", headers=headers).status_code == 429
        admin, _ = people.keys.add("admin", Role.ADMIN, "test")
        asked = {"X-API-Key": admin}
        (row,) = client.get("/v1/usage", headers=asked).json()["usage"]
        assert (row["tenant"], row["actor"], row["requests"], row["images"]) == (
            "plant-1", f"key:{key.prefix}", 2, 3,
        )  # fmt: skip
        assert row["compute_s"] > 0
        sheet = client.get("/v1/usage", params={"form": "csv"}, headers=asked)
        assert sheet.headers["content-type"].startswith("text/csv")
        assert sheet.text.count("plant-1") == 1
