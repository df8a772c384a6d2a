"""Users over HTTP: what one request changes, and what two-person approval leaves to one admin."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from tests.serving.people.conftest import PASSWORD, add_user, log_in, people_of, serve
from twonines.cli.app import app
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
        for action in ("user.password", "user.role"):
            assert ("user:root", action) in told


_MORE: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/v1/users", {"name": "eve", "password": OTHER, "role": "engineer"}, "users add "),
    ("PATCH", "/v1/users/ben", {"password": OTHER}, "users passwd "),
    ("PATCH", "/v1/users/root", {"password": OTHER}, "users passwd "),
    ("PATCH", "/v1/users/ben", {"role": "admin"}, "users role "),
    ("PATCH", "/v1/users/off", {"disabled": False}, "users disable --undo "),
    ("PATCH", "/v1/users/off", {"role": "viewer", "disabled": False}, "users disable --undo "),
]


def test_where_two_are_wanted_no_admin_becomes_the_second(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path, two_person=True) as client:
        for name, role in (("root", Role.ADMIN), ("ben", Role.ENGINEER), ("off", Role.ENGINEER)):
            add_user(client, name, role)
        people = people_of(client)
        people.accounts.change("off", "test", disabled=True)
        secret, _ = people.keys.add("admin", Role.ADMIN, "test")
        session = {"X-CSRF": log_in(client, "root")}
        before = people.audit.head()
        for headers in (session, {"X-API-Key": secret}):
            for method, path, body, command in _MORE:
                answer = client.request(method, path, json=body, headers=headers)
                error = answer.json()["error"]
                assert answer.status_code == 403, (path, body, error)
                assert error.startswith("two_person: ") and f"`twonines {command}" in error
        assert people.audit.head() == before
        for body in ({"role": "engineer", "disabled": False}, {"role": "viewer"}, {}):
            assert client.patch("/v1/users/ben", json=body, headers=session).status_code == 204
        assert client.patch("/v1/users/ben", json={"disabled": True}, headers=session).is_success
        key = {"label": "line", "role": "admin"}
        assert client.post("/v1/keys", json=key, headers=session).status_code == 201
        own = {"old": PASSWORD, "new": OTHER}
        assert client.post("/v1/me/password", json=own, headers=session).status_code == 204
        assert enters(client, "root", OTHER) and not enters(client, "ben")


def test_where_two_are_wanted_the_command_does_it_while_the_service_runs(
    tiny_model: Path, tmp_path: Path
) -> None:
    def users(*arguments: str, stdin: str = "") -> None:
        arguments = ("users", *arguments, "--data-dir", str(tmp_path))
        done = CliRunner().invoke(app, arguments, input=stdin)
        assert done.exit_code == 0, done.output

    with serve(tiny_model, tmp_path, two_person=True) as client:
        users("add", "root", "--role", "admin", stdin=f"{PASSWORD}\n")
        users("add", "ben", "--role", "viewer", stdin=f"{PASSWORD}\n")
        assert enters(client, "ben")
        users("role", "ben", "engineer")
        users("disable", "ben")
        assert not enters(client, "ben")
        users("disable", "--undo", "ben")
        users("passwd", "ben", stdin=f"{OTHER}\n")
        assert enters(client, "ben", OTHER)
        assert client.get("/v1/me").json()["role"] == "engineer"
        told = people_of(client).audit.newest(limit=20)
        changes = [one for one in told if one["action"].startswith("user.")]
        assert len(changes) == 6 and all(one["actor"].startswith("shell") for one in changes)


def test_a_key_of_an_admin_is_no_person(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path, two_person=True) as client:
        add_user(client, "root", Role.ADMIN)
        session = {"X-CSRF": log_in(client, "root")}
        body = {"label": "root", "role": "admin"}
        made = client.post("/v1/keys", json=body, headers=session).json()
        # Also together with the session of a user: who comes with a key is the key.
        headers = {"X-API-Key": made["key"], **session}
        assert client.get("/v1/me", headers=headers).json()["kind"] == "key"
        answer = client.post("/v1/approvals/none/approve", headers=headers)
        assert answer.status_code == 403 and "two_person: " in answer.json()["error"]
        assert client.post("/v1/me/password", json={"old": PASSWORD, "new": OTHER},
                           headers=headers).status_code == 409  # fmt: skip
