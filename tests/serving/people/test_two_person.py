"""Two persons for an activation, and what is written down of it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.serving.people.conftest import add_user, log_in, people_of, serve
from tests.serving.test_repository import activate, put
from twonines.serving.people.roles import Role

pytestmark = pytest.mark.usefixtures("cheap_hashes")


def post(client: TestClient, path: str, csrf: str) -> tuple[int, dict[str, object]]:
    answer = client.post(path, headers={"X-CSRF": csrf})
    return answer.status_code, answer.json()


def active(client: TestClient) -> object:
    return client.get("/v1/models").json()["models"][0]["version"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    root.mkdir()
    for version in ("1", "2", "3"):
        put(root, "a", version)
    activate(root, "1")
    return root


def test_one_proposes_and_another_approves(models: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path / "data", model_dir=models, two_person=True) as client:
        for name in ("anna", "ben"):
            add_user(client, name, Role.ENGINEER)
        anna = log_in(client, "anna")
        status, body = post(client, "/v1/models/a/versions/2/activate", anna)
        assert status == 202 and active(client) == "1"
        proposal = body["approval"]
        assert isinstance(proposal, dict) and proposal["state"] == "pending"
        key = proposal["id"]
        again = post(client, "/v1/models/a/versions/2/activate", anna)[1]["approval"]
        assert again == proposal
        assert post(client, f"/v1/approvals/{key}/approve", anna)[0] == 403
        secret, _ = people_of(client).keys.add("ci", Role.ENGINEER, "test")
        for path in (f"/v1/approvals/{key}/approve", "/v1/models/a/versions/3/activate"):
            client.cookies.clear()
            assert client.post(path, headers={"X-API-Key": secret}).status_code == 403, path
        ben = log_in(client, "ben")
        status, body = post(client, f"/v1/approvals/{key}/approve", ben)
        assert status == 200 and active(client) == "2"
        assert post(client, f"/v1/approvals/{key}/approve", ben)[0] == 409
        assert post(client, "/v1/approvals/none/approve", ben)[0] == 404
        # Back to what two have never approved takes two; and then one is enough.
        status, body = post(client, "/v1/models/a/rollback", ben)
        assert status == 202 and active(client) == "2"
        rollback = body["approval"]
        assert isinstance(rollback, dict)
        anna = log_in(client, "anna")
        assert post(client, f"/v1/approvals/{rollback['id']}/reject", anna)[0] == 200
        status, body = post(client, "/v1/models/a/versions/3/activate", anna)
        third = body["approval"]
        assert isinstance(third, dict)
        ben = log_in(client, "ben")
        assert post(client, f"/v1/approvals/{third['id']}/approve", ben)[0] == 200
        assert post(client, "/v1/models/a/rollback", ben)[0] == 200 and active(client) == "2"
        audit = people_of(client).audit
        told = [(r["actor"], r["action"], r["subject"]) for r in audit.newest(limit=1000)]
        for line in (
            ("user:anna", "activate.propose", "a/2"),
            ("user:ben", "activate.approve", "a/2"),
            ("user:ben", "model.activate", "a/2"),
            ("user:anna", "rollback.reject", "a/1"),
            ("user:ben", "model.rollback", "a/2"),
        ):
            assert line in told, line
        assert audit.verify().is_sound


def test_a_file_that_changed_after_the_proposal_does_not_answer(
    models: Path, tmp_path: Path
) -> None:
    with serve(models, tmp_path / "data", model_dir=models, two_person=True) as client:
        for name in ("anna", "ben"):
            add_user(client, name, Role.ENGINEER)
        anna = log_in(client, "anna")
        proposal = post(client, "/v1/models/a/versions/2/activate", anna)[1]["approval"]
        assert isinstance(proposal, dict)
        put(models, "a", "2", threshold=0.9)
        put(models, "a", "1", threshold=0.9)
        status, body = post(client, "/v1/models/a/versions/1/load", anna)
        assert status == 409 and "has changed" in str(body["error"])
        ben = log_in(client, "ben")
        status, body = post(client, f"/v1/approvals/{proposal['id']}/approve", ben)
        assert status == 409 and active(client) == "1", body
        newest = people_of(client).audit.newest(limit=1)[0]
        assert newest["action"] == "model.activate.fail" and newest["subject"] == "a/2"


def test_one_is_enough_where_two_are_not_wanted(models: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path / "data", model_dir=models) as client:
        assert client.post("/v1/models/a/versions/2/activate").status_code == 200
        assert active(client) == "2"
        record = people_of(client).audit.newest(limit=1)[0]
        assert (record["actor"], record["action"]) == ("local", "model.activate")
        assert len(record["details"]["digest"]) == 64


def test_who_may_not_propose_leaves_no_override(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An override is written down while the escapes are looked at; a key never comes so far."""
    looked: list[str] = []

    async def look(_: object, name: str, version: str, *__: object) -> None:
        looked.append(f"{name}/{version}")

    monkeypatch.setattr("twonines.serving.changes.check_escapes", look)
    with serve(models, tmp_path / "data", model_dir=models, two_person=True) as client:
        add_user(client, "anna", Role.ENGINEER)
        secret, _ = people_of(client).keys.add("ci", Role.ADMIN, "test")
        body = {"override": "it must run"}
        for path in ("/v1/models/a/versions/2/activate", "/v1/models/a/rollback"):
            refused = client.post(path, headers={"X-API-Key": secret}, json=body)
            assert refused.status_code in (403, 409), path
        assert looked == []
        anna = log_in(client, "anna")
        assert post(client, "/v1/models/a/versions/2/activate", anna)[0] == 202
        assert looked == ["a/2"]
