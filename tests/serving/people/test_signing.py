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
    second = review(client, key, {"X-API-Key": secret}).json()["reviews"]
    assert second[1]["reviewer"] == f"key:{made.prefix}" == last_act(client)[0]
