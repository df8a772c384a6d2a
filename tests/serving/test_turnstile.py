"""An overloaded service refuses before anybody is asked who they are."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.people.conftest import people_of, serve
from tests.serving.test_loaded import entry, opened, put
from twonines.errors import NotReadyError, OverloadedError
from twonines.serving.people.guard import Guard
from twonines.serving.people.roles import Role

RAW = {"content-type": "image/png"}
INSPECT, INFER = "/v1/inspect", "/v2/models/tiny/infer"


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serve(tiny_model, tmp_path, queue_size=1, max_predicted_s=10) as found:
        people_of(found).keys.add("other", Role.VIEWER, "test")  # from now on people must log in
        yield found


@pytest.fixture
def known(client: TestClient) -> dict[str, str]:
    """What logs in."""
    return {**RAW, "X-API-Key": people_of(client).keys.add("line", Role.ADMIN, "test")[0]}


@pytest.fixture
def full(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
    monkeypatch.setattr(batcher, "_in_flight", 1)


BUSY = "queue: no model has room for a picture now, or would answer it in time"
ODD = (
    INSPECT + "?model=secret",
    "/v2/models/secret/infer",
    "/v2/models/tiny/versions/7/infer",
)
"""What the service does not have."""


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("path", [INSPECT, INSPECT + "?model=tiny", INFER, *ODD])
@pytest.mark.parametrize("login", [False, True])
def test_whoever_asks_for_whatever_learns_that_it_is_busy(
    client: TestClient, known: dict[str, str], monkeypatch: pytest.MonkeyPatch, path: str,
    login: bool,
) -> None:  # fmt: skip
    def looked_up(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(Guard, "_recognise", looked_up)
    headers = {**(known if login else RAW), "X-Request-Id": "r7", "X-Request-Timeout-Ms": "soon"}
    answer = client.post(path, content=png(0), headers=headers)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert answer.json() == {"error": BUSY, "request_id": "r7"}
    assert answer.headers["x-request-id"] == "r7"


@pytest.mark.usefixtures("full")
def test_it_counts_each_refusal_once(client: TestClient, known: dict[str, str]) -> None:
    for path in (INSPECT, INFER, INSPECT):
        assert client.post(path, content=png(0), headers=RAW).status_code == 429
    text = client.get("/metrics", headers=known).text
    assert 'twonines_rejected_total{reason="OverloadedError"} 3.0' in text
    assert "twonines_refusal_duration_seconds_count 3.0" in text
    assert "twonines_request_duration_seconds_count 0.0" in text


@pytest.mark.usefixtures("full")
def test_what_brings_no_pictures_is_answered(client: TestClient, known: dict[str, str]) -> None:
    assert client.get(INSPECT, headers=known).status_code == 405
    assert client.get("/v2/models/tiny", headers=known).status_code == 200
    assert client.post(INFER + "/", headers=known).status_code == 404
    assert client.post("/v2/repository/index", headers=known).status_code == 200


def test_a_client_without_login_cannot_ask_how_long_a_picture_would_take(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
    monkeypatch.setattr(batcher._admission, "predict", lambda *_: 5.0)
    for path in (INSPECT, INFER, *ODD):
        for timeout in ("1", "60000"):
            headers = {**RAW, "X-Request-Timeout-Ms": timeout}
            assert client.post(path, content=png(0), headers=headers).status_code == 401


@pytest.mark.usefixtures("full")
def test_a_model_that_is_being_repaired_is_not_called_full(
    client: TestClient, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service.batcher._session, "ready", False)
    assert client.post(INSPECT, content=png(0), headers=known).status_code == 503
    assert client.post(INSPECT, content=png(0), headers=RAW).status_code == 401


def test_one_model_that_has_room_keeps_the_way_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, name, "1")
    with (
        opened(tmp_path, queue_size=1, default_model="a") as client,
        monkeypatch.context() as patch,
    ):
        for name in "ab":
            active = entry(client, name).active
            assert active
            patch.setattr(active.batcher, "_in_flight", 1)
        full = client.post(INSPECT, content=png(100), headers=RAW)
        assert full.status_code == 429 and "has no room for 1 more" in full.json()["error"]
        free = client.post(INSPECT + "?model=c", content=png(100), headers=RAW)
        assert free.status_code == 200
        assert client.post("/v2/repository/models/c/unload").status_code == 200
        busy = client.post(INSPECT + "?model=c", content=png(100), headers=RAW)
        assert busy.status_code == 429 and busy.json()["error"] == BUSY


def test_a_refusal_names_the_soonest_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, name, "1")
    with opened(tmp_path, default_model="a") as client:
        for name, seconds in (("a", 9.0), ("b", 4.0), ("c", 6.0)):
            active = entry(client, name).active
            assert active is not None
            error = OverloadedError("full", seconds)
            monkeypatch.setattr(active.batcher, "admit", Mock(side_effect=error))
        answer = client.post(INSPECT, content=png(100), headers=RAW)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "4")
        # One that is being repaired says so itself.
        assert active is not None
        monkeypatch.setattr(active.batcher, "admit", Mock(side_effect=NotReadyError("repair")))
        answer = client.post(INSPECT + "?model=c", content=png(100), headers=RAW)
        assert answer.status_code == 503


def test_who_is_not_refused_must_log_in(client: TestClient) -> None:
    for path in (INSPECT, INFER):
        assert client.post(path, content=png(0), headers=RAW).status_code == 401
