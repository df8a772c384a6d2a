"""Users over HTTP: what one request changes, and what two-person approval leaves to one admin."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serving.people.conftest import PASSWORD, add_user, log_in, people_of, serve
from twonines.serving.people.roles import Role

pytestmark = pytest.mark.usefixtures("cheap_hashes")
OTHER = PASSWORD + " staple"


def enters(client: TestClient, name: str, password: str = PASSWORD) -> bool:
    client.cookies.clear()
    answer = client.post("/v1/login", json={"name": name, "password": password})
    return answer.status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [({"password": OTHER, "role": "viewer"}, 409), ({"password": OTHER, "disabled": True}, 409),
     ({"role": "viewer", "disabled": True, "password": "short"}, 422)],
)  # fmt: skip
def test_a_change_that_is_refused_in_part_changes_nothing(
    tiny_model: Path, tmp_path: Path, change: dict[str, Any], status: int
) -> None:
    with serve(tiny_model, tmp_path) as client:
        add_user(client, "root", Role.ADMIN)
        headers = {"X-CSRF": log_in(client, "root")}
        before = people_of(client).audit.head()
        answer = client.patch("/v1/users/root", json=change, headers=headers)
        assert answer.status_code == status, answer.text
        assert people_of(client).audit.head() == before
        assert client.get("/v1/me").json()["role"] == "admin"
        assert enters(client, "root") and not enters(client, "root", OTHER)


def test_one_request_changes_all_it_names(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path) as client:
        add_user(client, "root", Role.ADMIN)
        add_user(client, "anna", Role.VIEWER)
        headers = {"X-CSRF": log_in(client, "root")}
        change = {"password": OTHER, "role": "engineer", "disabled": False}
        assert client.patch("/v1/users/anna", json=change, headers=headers).status_code == 204
        assert client.patch("/v1/users/anna", json={}, headers=headers).status_code == 204
        assert client.patch("/v1/users/none", json={}, headers=headers).status_code == 404
        assert enters(client, "anna", OTHER) and not enters(client, "anna")
        told = [(r["actor"], r["action"]) for r in people_of(client).audit.newest(limit=10)]
        for action in ("user.password", "user.role", "user.enable"):
            assert ("user:root", action) in told
