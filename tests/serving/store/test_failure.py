"""What the service answers while it cannot record."""

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.test_faults import service, serving
from twonines.errors import SettingsError, StoreError
from twonines.serving.store import records, writing
from twonines.serving.store.keeping import Keeping
from twonines.settings import ServeSettings
from twonines.types import Verdict


def inspect(client: TestClient, *values: int) -> Any:
    files = [("files", (f"{value}.png", png(value))) for value in values]
    return client.post("/v1/inspect", files=files)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that is full while ``broken["now"]``."""
    state, write = {"now": False}, writing.write_entries

    def full(*args: Any) -> None:
        if state["now"]:
            raise StoreError("database: database or disk is full")
        if len(args) == 3:
            write(*args)

    monkeypatch.setattr(records, "write_entries", full)
    monkeypatch.setattr(records, "try_to_write", full)
    return state


def wait_for(client: TestClient, path: str, body: dict[str, str]) -> None:
    limit = time.monotonic() + 60
    while client.get(path).json() != body:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_what_is_not_recorded_is_never_ok(
    tiny_model: Path, tmp_path: Path, broken: dict[str, bool]
) -> None:
    with serving(tiny_model, data_dir=tmp_path) as client:
        broken["now"] = True
        body = inspect(client, 0, 250).json()
        assert body["recorded"] is False
        ok, ng = body["results"]
        assert (ok["verdict"], ng["verdict"]) == ("REVIEW", "NG")
        assert ok["id"] is ng["id"] is None
        assert "not recorded" in ok["reasons"][-1] and "full" in ok["reasons"][-1]
        assert "twonines_unrecorded_total 2.0" in client.get("/metrics").text
        broken["now"] = False
        time.sleep(1.1)
        body = inspect(client, 0, 250).json()
        assert body["recorded"] is True
        assert [one["verdict"] for one in body["results"]] == ["OK", "NG"]
        found = client.get("/v1/inspections").json()["inspections"]
        assert [one["id"] for one in found] == [one["id"] for one in body["results"]][::-1]


def test_refuse_answers_503(tiny_model: Path, tmp_path: Path, broken: dict[str, bool]) -> None:
    with serving(tiny_model, data_dir=tmp_path, records_failure="refuse") as client:
        broken["now"] = True
        answer = inspect(client, 0)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert "recorded" in answer.json()["error"] and "verdict" not in answer.text
        broken["now"] = False
        time.sleep(1.1)
        assert inspect(client, 0).json()["recorded"] is True


def test_who_refuses_is_not_ready_until_the_store_works_again(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serving(tiny_model, data_dir=tmp_path, records_failure="refuse") as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        assert "twonines_store_failing 0.0" in client.get("/metrics").text
        (tmp_path / "pictures").write_bytes(b"")  # a file where the folder must be
        assert inspect(client, 250).status_code == 503
        answer = client.get("/readyz")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert "cannot be recorded: pictures" in answer.json()["error"]
        assert str(tmp_path) not in answer.text, "it is open to everyone"
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert "twonines_store_failing 1.0" in client.get("/metrics").text
        (tmp_path / "pictures").unlink()
        # Nobody inspects meanwhile: who is not ready is sent nothing.
        wait_for(client, "/readyz", {"status": "ready"})
        assert "twonines_store_failing 0.0" in client.get("/metrics").text
        assert inspect(client, 250).json()["recorded"] is True
        store = service(client).records
        assert store and len(list(store.pictures.all())) == 1, "what was tried is gone"


def test_who_reviews_stays_ready_and_names_the_state(
    tiny_model: Path, tmp_path: Path, broken: dict[str, bool]
) -> None:
    with serving(tiny_model, data_dir=tmp_path) as client:
        broken["now"] = True
        assert inspect(client, 0).json()["recorded"] is False
        answer = client.get("/readyz")
        assert answer.status_code == 200 and answer.json()["status"] == "ready"
        assert "cannot be recorded: database" in answer.json()["records"]
        assert client.get("/healthz").status_code == 200
        assert "twonines_store_failing 1.0" in client.get("/metrics").text
        broken["now"] = False
        wait_for(client, "/readyz", {"status": "ready"})
        assert inspect(client, 0).json()["recorded"] is True


def test_a_folder_that_cannot_be_used_ends_the_start(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "twonines.db").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match="data_dir"), serving(tiny_model, data_dir=tmp_path):
        pass


def test_the_password_of_a_database_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:secret@host/name"
    settings = ServeSettings(model=tmp_path, data_dir=tmp_path, database_url=url)
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("pictures", "verdict", "keeps", "due"),
    [
        ("all", "OK", True, 0), ("all", "ERROR", True, 0), ("all", "REVIEW", True, 2),
        ("ng-review", "OK", False, 0), ("ng-review", "NG", True, 0),
        ("ng-review", "REVIEW", True, 2), ("ng-review", "ERROR", False, 0),
        ("none", "NG", False, 0), ("none", "REVIEW", False, 2), ("none", "OK", False, 0),
    ],
)  # fmt: skip
def test_what_is_kept(pictures: Any, verdict: str, keeps: bool, due: int) -> None:
    assert Keeping(pictures, reviewers=2).choose(Verdict(verdict)) == (keeps, due)


def test_shares_of_ok() -> None:
    assert Keeping(ok_share=1.0).choose(Verdict.OK) == (True, 0)
    assert Keeping(review_ok_share=1.0, reviewers=2).choose(Verdict.OK) == (True, 2)
    kept = [Keeping(ok_share=0.25).choose(Verdict.OK)[0] for _ in range(4000)]
    assert 0.2 < sum(kept) / len(kept) < 0.3


def test_the_policy_reaches_the_disk(tiny_model: Path, tmp_path: Path) -> None:
    with serving(tiny_model, data_dir=tmp_path, keep_pictures="none") as client:
        inspect(client, 250)
        store = service(client).records
        assert store and list(store.pictures.all()) == []
    with serving(tiny_model, data_dir=tmp_path, review_ok_share=1.0) as client:
        key = inspect(client, 0).json()["results"][0]["id"]
        store = service(client).records
        assert store and [one.id for one in store.queue().items] == [key]
        assert len(list(store.pictures.all())) == 1


def test_old_records_go_by_themselves(tiny_model: Path, tmp_path: Path) -> None:
    with serving(tiny_model, data_dir=tmp_path) as client:
        inspect(client, 250)
    with serving(tiny_model, data_dir=tmp_path, retention_days=1e-9) as client:
        limit = time.monotonic() + 10
        while client.get("/v1/inspections").json()["inspections"]:
            assert time.monotonic() < limit
            time.sleep(0.05)
