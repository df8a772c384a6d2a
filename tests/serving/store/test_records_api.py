"""Records through the real service, on SQLite."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.test_faults import service, serving


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serving(tiny_model, data_dir=tmp_path / "data", reviewers=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """For what changes nothing."""
    with serving(tiny_model, data_dir=tmp_path_factory.mktemp("data")) as opened:
        yield opened


def inspect(client: TestClient, value: int = 250, **fields: str) -> dict[str, Any]:
    answer = client.post("/v1/inspect", files={"file": ("a.png", png(value))}, data=fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["recorded"] is True
    result: dict[str, Any] = body["results"][0]
    return result


def test_an_answer_is_found_again_with_everything(client: TestClient) -> None:
    place = {"line": "L1", "station": "S1", "part_id": "P1", "lot": "Lot 7"}
    result = inspect(client, 250, **place)
    found = client.get(f"/v1/inspections/{result['id']}").json()
    for name in ("verdict", "score", "class", "novelty", "regions", "reasons", "certificate"):
        assert found[name] == result[name], name
    assert {name: found[name] for name in place} == place
    assert found["picture_digest"] == hashlib.sha256(png(250)).hexdigest()
    loaded = client.get("/v1/models").json()["models"][0]
    assert found["model_digest"] == loaded["digest"]
    assert found["timings_ms"]["total"] > 0
    assert client.get(f"/v1/inspections/{result['id']}/picture").content == png(250)


def test_records_outlive_the_service_and_its_memory(tiny_model: Path, tmp_path: Path) -> None:
    with serving(tiny_model, data_dir=tmp_path) as client:
        ng, ok = inspect(client, 250)["id"], inspect(client, 0)["id"]
        assert client.get(f"/v1/inspections/{ok}/picture").status_code == 200  # from memory
    with serving(tiny_model, data_dir=tmp_path) as client:
        assert client.get(f"/v1/inspections/{ng}/picture").content == png(250)
        overlay = client.get(f"/v1/inspections/{ng}/overlay")
        assert overlay.status_code == 200 and overlay.content.startswith(b"\x89PNG")
        assert client.get(f"/v1/inspections/{ok}").json()["verdict"] == "OK"
        missing = client.get(f"/v1/inspections/{ok}/picture")
        assert missing.status_code == 404 and "not kept" in missing.json()["error"]


def test_overlay_shows_the_recorded_verdict_without_the_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serving(tiny_model, data_dir=tmp_path, max_recent_bytes=0) as client:
        key = inspect(client, 250)["id"]
        with_map = client.get(f"/v1/inspections/{key}/overlay").content
        loaded = service(client).models.find()
        loaded.session.digest = "f" * 64  # as if another version had taken its place
        without = client.get(f"/v1/inspections/{key}/overlay")
        assert without.status_code == 200 and without.content != with_map


def test_pages_filters_and_times(client: TestClient) -> None:
    ids = [inspect(client, v, part_id=f"P{i}", lot="A" if i < 3 else "B")["id"]
           for i, v in enumerate((250, 0, 250, 0, 250))]  # fmt: skip
    assert ids == sorted(ids)
    seen, cursor = [], None
    for _ in range(3):
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/inspections", params=params).json()
        seen += [one["id"] for one in page["inspections"]]
        cursor = page["cursor"]
    assert seen == ids[::-1] and cursor is None

    def ask(**params: str) -> list[str]:
        answer = client.get("/v1/inspections", params={"order": "oldest", **params})
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["inspections"]]

    digest = client.get("/v1/models").json()["models"][0]["digest"]
    assert ask(part_id="P2") == [ids[2]]
    assert ask(lot="B", verdict="NG") == [ids[4]]
    assert ask(**{"class": "scratch"}) == [ids[0], ids[2], ids[4]]
    assert ask(model="tiny") == ask(model=digest) == ids
    assert ask(model="other") == ask(station="S") == []
    time = client.get(f"/v1/inspections/{ids[2]}").json()["time"]
    assert ask(since=time) == ids[2:] and ask(until=time) == ids[:2]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": "0"}, 422),
        ({"limit": "1001"}, 422),
        ({"cursor": "nonsense"}, 400),
        ({"cursor": "Li4vLi4vZXRj"}, 400),
        ({"since": "yesterday"}, 422),
        ({"until": "1900-01-01T00:00:00Z"}, 422),
        ({"verdict": "MAYBE"}, 422),
        ({"part": "A17"}, 422),
    ],
)
def test_bad_question(shared: TestClient, params: dict[str, str], status: int) -> None:
    answer = shared.get("/v1/inspections", params=params)
    assert answer.status_code == status
    assert next(iter(params)) in answer.json()["error"]


@pytest.mark.parametrize("key", ["1", "..", "%2e%2e%2fetc", "' OR 1=1 --", "0" * 36])
def test_an_id_that_is_none_is_404(shared: TestClient, key: str) -> None:
    for end in ("", "/picture", "/overlay"):
        assert shared.get(f"/v1/inspections/{key}{end}").status_code == 404


@pytest.mark.parametrize(
    ("data", "query"),
    [({"part_id": "a\x07b"}, {}), ({"lot": "x" * 201}, {}), ({"line": "1"}, {"line": "2"}),
     ({}, {"station": "a\nb"})],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(
    shared: TestClient, data: dict[str, str], query: dict[str, str]
) -> None:
    files = {"file": ("a.png", png(0))}
    answer = shared.post("/v1/inspect", files=files, data=data, params=query)
    assert answer.status_code == 400
    assert next(iter(data or query)) in answer.json()["error"]


def test_text_of_a_client_is_only_data(client: TestClient) -> None:
    wild = "'); DROP TABLE inspections; -- <script>"
    raw = client.post(
        "/v1/inspect", content=png(250), params={"part_id": wild, "lot": " \t "},
        headers={"content-type": "image/png"},
    ).json()  # fmt: skip
    found = client.get("/v1/inspections", params={"part_id": wild}).json()["inspections"]
    assert [one["id"] for one in found] == [raw["results"][0]["id"]]
    assert found[0]["lot"] is None


def test_a_picture_that_failed_is_recorded_as_error(client: TestClient) -> None:
    files = [("files", ("good.png", png(0))), ("files", ("bad\0.png", b"nonsense"))]
    good, bad = client.post("/v1/inspect", files=files).json()["results"]
    found = client.get("/v1/inspections", params={"verdict": "ERROR"}).json()["inspections"]
    assert [one["id"] for one in found] == [bad["id"]]
    assert found[0]["error"] == bad["error"]["message"]
    assert good["id"] < bad["id"]


def test_two_persons_review_and_a_third_decides(client: TestClient) -> None:
    key = inspect(client, 250)["id"]

    def review(**body: object) -> Any:
        return client.post(f"/v1/inspections/{key}/reviews", json=body)

    first = review(verdict="OK", reviewer="ann")
    assert first.status_code == 201
    assert (first.json()["due"], first.json()["decision"]) == (1, None)
    assert review(verdict="NG", reviewer="ann").status_code == 409
    second = review(verdict="NG", reviewer="bob", **{"class": "dent"}).json()
    assert (second["due"], second["decision"]) == (1, None)
    third = review(verdict="NG", reviewer="cy", **{"class": "dent"}, note="seen").json()
    assert (third["due"], third["decision"], third["decision_class"]) == (0, "NG", "dent")
    assert [one["reviewer"] for one in third["reviews"]] == ["ann", "bob", "cy"]
    assert review(verdict="MAYBE", reviewer="dee").status_code == 422
    assert review(verdict="OK", reviewer="dee", **{"class": "dent"}).status_code == 400
    assert review(verdict="OK", reviewer="d\x07").status_code == 400
    missing = client.post(
        "/v1/inspections/01a20e6d-03b5-7ed3-8354-2c8bce84a053/reviews", json={"verdict": "OK"}
    )
    assert missing.status_code == 404


def test_an_escape_joins_the_regression_set(client: TestClient) -> None:
    key = inspect(client, 0, part_id="P9")["id"]
    inspect(client, 250, part_id="P9")  # was not called OK: it is not what escaped
    answer = client.post("/v1/findings", json={"kind": "escape", "part_id": "P9", "class": "dent"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["pictures"] == 1  # though OK pictures are not kept: it was in memory
    records = service(client).records
    assert records
    (case,) = records.cases("tiny")
    assert case.pictures == ((hashlib.sha256(png(0)).hexdigest(), None),)
    assert records.pictures.get(case.pictures[0][0]) == png(0)
    shown = client.get(f"/v1/inspections/{key}").json()
    assert [one["class"] for one in shown["findings"]] == ["dent"]
    more = client.post(
        f"/v1/findings/{answer.json()['id']}/pictures", params={"model": "tiny"}, content=png(5)
    )
    assert more.status_code == 201 and more.json()["pictures"] == 2
    again = client.post(
        f"/v1/findings/{answer.json()['id']}/pictures", params={"model": "tiny"}, content=png(5)
    )
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "escape"}, 400),
        ({"kind": "escape", "part_id": "P", "picture_digest": "0"}, 400),
        ({"kind": "escape", "part_id": "unknown"}, 404),
        ({"kind": "escape", "inspection_id": "1"}, 404),
        ({"kind": "overkill", "part_id": "P", "class": "dent"}, 400),
        ({"kind": "miracle", "part_id": "P"}, 422),
        ({"kind": "escape", "part_id": "P", "more": 1}, 422),
    ],
)
def test_bad_finding(shared: TestClient, body: dict[str, Any], status: int) -> None:
    assert shared.post("/v1/findings", json=body).status_code == status


def test_without_a_data_directory_nothing_is_recorded(tiny_model: Path) -> None:
    with serving(tiny_model) as client:
        answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))}).json()
        assert answer["recorded"] is False and answer["results"][0]["verdict"] == "OK"
        refused = client.get("/v1/inspections")
        assert refused.status_code == 503 and "--data-dir" in refused.json()["error"]
