"""An overloaded service refuses before anybody is asked who they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.people.conftest import people_of, serve
from twonines.serving.people.guard import Guard
from twonines.serving.people.roles import Role

RAW = {"content-type": "image/png"}
INSPECT, INFER = "/v1/inspect", "/v2/models/tiny/infer"


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serve(tiny_model, tmp_path, queue_size=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def known(client: TestClient) -> dict[str, str]:
    """What logs in, without which nobody may use the service."""
    return {**RAW, "X-API-Key": people_of(client).keys.add("line", Role.ADMIN, "test")[0]}


@pytest.fixture
def full(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
    monkeypatch.setattr(batcher, "_in_flight", 1)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("path", [INSPECT, INSPECT + "?model=tiny", INFER])
def test_no_login_is_looked_up_for_what_is_refused(
    client: TestClient, known: dict[str, str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:

    def looked_up(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(Guard, "_recognise", looked_up)
    answer = client.post(path, content=png(0), headers={**known, "X-Request-Id": "r7"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert answer.json() == {
        "error": "queue: holds at most 1 pictures and has no room for 1 more, 1 are in flight",
        "request_id": "r7",
    }
    assert answer.headers["x-request-id"] == "r7"


@pytest.mark.usefixtures("full")
def test_it_counts_each_refusal_once(client: TestClient, known: dict[str, str]) -> None:
    for path in (INSPECT, INFER, INSPECT):
        assert client.post(path, content=png(0), headers=RAW).status_code == 429
    text = client.get("/metrics", headers=known).text
    assert 'twonines_rejected_total{reason="OverloadedError"} 3.0' in text
    assert "twonines_refusal_duration_seconds_count 3.0" in text


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    "path",
    [
        INSPECT + "?model=secret",
        "/v2/models/secret/infer",
        "/v2/models/tiny/versions/7/infer",
        INFER + "/",
        "/v1/inspections",
    ],
)
def test_what_exists_is_told_to_nobody_who_has_not_logged_in(client: TestClient, path: str) -> None:
    assert client.post(path, content=png(0), headers=RAW).status_code == 401


@pytest.mark.usefixtures("full")
def test_other_faults_of_a_request_are_told_as_such(
    client: TestClient, known: dict[str, str]
) -> None:
    other = "/v2/models/tiny/versions/7/infer"
    assert client.post(other, content=b"", headers=known).status_code == 404
    soon = {**known, "X-Request-Timeout-Ms": "soon"}
    for path in (INSPECT, INFER):
        assert client.post(path, content=png(0), headers=soon).status_code == 400
    assert client.get(INSPECT, headers=known).status_code == 405


def test_who_is_not_refused_must_log_in(client: TestClient) -> None:
    for path in (INSPECT, INFER):
        assert client.post(path, content=png(0), headers=RAW).status_code == 401
