"""Whose name stands under a review and a finding, and in the audit log of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.people.conftest import add_user, log_in, people_of, serve
from twonines.serving.people.roles import Role

pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serve(tiny_model, tmp_path / "data", reviewers=2) as opened:
        yield opened


def inspect(client: TestClient, **headers: str) -> str:
    files = {"file": ("a.png", png(250))}
    answer = client.post("/v1/inspect", files=files, data={"part_id": "P"}, headers=headers)
    key: str = answer.json()["results"][0]["id"]
    return key


def review(client: TestClient, key: str, headers: dict[str, str], **body: str) -> Any:
    path = f"/v1/inspections/{key}/reviews"
    return client.post(path, json={"verdict": "NG", **body}, headers=headers)


def report(client: TestClient, headers: dict[str, str], **body: str) -> Any:
    return client.post(
        "/v1/findings", json={"kind": "escape", "part_id": "P", **body}, headers=headers
    )


def last_act(client: TestClient) -> tuple[str, str, dict[str, Any]]:
    (record,) = people_of(client).audit.newest(limit=1)
    return record["actor"], record["action"], record["details"]


def test_without_logins_a_name_is_a_claim(client: TestClient) -> None:
    key = inspect(client)
    assert review(client, key, {}, reviewer=" Ann\u00a0 Lee ").status_code == 201
    assert last_act(client) == ("local", "review", {"verdict": "NG", "claimed": "ann lee"})
    assert review(client, key, {}, reviewer="ANN LEE").status_code == 409
    assert review(client, key, {}).json()["reviews"][1]["reviewer"] == "local"
    assert report(client, {}, reporter="QA").json()["reporter"] == "qa"
    assert last_act(client) == ("local", "finding", {"kind": "escape", "claimed": "qa"})
    assert report(client, {}).json()["reporter"] == "local"


@pytest.mark.parametrize("name", ["user:anna", " Key:0123", "", " \t", "a\x07b", "a\u200bb"])
def test_a_claim_is_no_login_and_no_trick(client: TestClient, name: str) -> None:
    key = inspect(client)
    for answer in (review(client, key, {}, reviewer=name), report(client, {}, reporter=name)):
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(("reviewer: must", "reporter: must"))


def test_with_logins_it_is_who_has_logged_in(client: TestClient) -> None:
    add_user(client, "anna", Role.INSPECTOR)
    secret, made = people_of(client).keys.add("line 1", Role.INSPECTOR, "test")
    anna = {"X-CSRF": log_in(client, "anna")}
    key = inspect(client, **anna)
    for other in ("ben", "local", "user:ben"):
        assert review(client, key, anna, reviewer=other).status_code == 400
        assert report(client, anna, reporter=other).status_code == 400
    first = review(client, key, anna, reviewer="anna").json()["reviews"]
    assert [one["reviewer"] for one in first] == ["user:anna"]
    assert last_act(client) == ("user:anna", "review", {"verdict": "NG"})
    assert report(client, anna, reporter="user:anna").json()["reporter"] == "user:anna"
    assert last_act(client) == ("user:anna", "finding", {"kind": "escape"})
    client.cookies.clear()
    by_key = {"X-API-Key": secret}
    assert report(client, by_key).json()["reporter"] == f"key:{made.prefix}" == last_act(client)[0]


def test_where_more_than_one_must_look_a_key_is_none_of_them(client: TestClient) -> None:
    add_user(client, "anna", Role.INSPECTOR)
    secret, made = people_of(client).keys.add("anna", Role.ADMIN, "test")
    anna = {"X-CSRF": log_in(client, "anna")}
    key = inspect(client, **anna)
    assert review(client, key, anna).json()["due"] == 1
    before = last_act(client)
    answer = review(client, key, {"X-API-Key": secret})
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("reviewer: must be a person")
    assert f"key:{made.prefix}" in answer.json()["error"]
    assert last_act(client) == before
    found = client.get(f"/v1/inspections/{key}", headers=anna).json()
    assert (found["due"], found["decision"], len(found["reviews"])) == (1, None, 1)


def test_a_key_never_changes_what_a_user_has_decided(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path / "data") as client:
        keys = people_of(client).keys
        one, two = ({"X-API-Key": keys.add("a", Role.ADMIN, "test")[0]} for _ in range(2))
        add_user(client, "anna", Role.INSPECTOR)
        anna = {"X-CSRF": log_in(client, "anna")}
        key = inspect(client, **anna)

        def decided(headers: dict[str, str], verdict: str) -> tuple[int, str | None]:
            answer = review(client, key, headers, verdict=verdict)
            assert answer.status_code == 201, answer.text
            return answer.json()["due"], answer.json()["decision"]

        assert decided(one, "NG") == (0, "NG")
        assert decided(anna, "OK") == (0, "OK")
        assert decided(two, "NG") == (0, "OK")
        records = client.app.state.service.records  # type: ignore[attr-defined]
        assert records.agreement() == (0, 0), "of pairs of persons, and there is but one"
        assert len(client.get(f"/v1/inspections/{key}", headers=anna).json()["reviews"]) == 3
        assert people_of(client).audit.verify().is_sound
