import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.benchmarks.study.conftest import small_plan
from twonines.benchmarks.study.app import create_study_app
from twonines.benchmarks.study.desk import Desk
from twonines.benchmarks.study.looks import read_looks
from twonines.benchmarks.study.plan import read_plan, write_plan
from twonines.datasets.record import Dataset
from twonines.errors import DatasetError


@pytest.fixture
def desk(study: Path) -> Iterator[Desk]:
    made = Desk(study)
    yield made
    made.close()


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_study_app(desk)) as made:
        yield made


def state(client: TestClient, name: str = "Ann") -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/state", params={"inspector": name}).json()
    return found


def load(client: TestClient, turn: dict[str, Any], name: str = "Ann") -> int:
    return client.get("/api/picture", params={"inspector": name, **turn}).status_code


def send(client: TestClient, turn: dict[str, Any], name: str = "Ann", **more: Any) -> Any:
    body = {"inspector": name, **turn, "answer": "NG", "seconds": 0.01, **more}
    return client.post("/api/looks", json=body)


def test_a_whole_round_in_order(client: TestClient, study: Path) -> None:
    plan, now = read_plan(study), state(client)
    seen = []
    while now["turn"]:
        assert load(client, now["turn"]) == 200
        seen.append((now["turn"]["picture"], now["turn"]["repeat"]))
        answer = send(client, now["turn"], mark=[3.5, 4])
        # It stands on the disk before the next picture is named.
        assert len(read_looks(study, plan)) == len(seen)
        now = answer.json()
    assert seen == plan.order("Ann") and now["done"] == now["total"] == 20
    found = read_looks(study, plan)
    assert (found[0].x, found[0].y, found[0].answer) == (3.5, 4.0, "NG")
    assert all(look.timed and look.server_seconds for look in found)
    assert state(client, "Bo")["done"] == 0


def test_nothing_tells_the_truth(client: TestClient, study: Path) -> None:
    now = state(client)
    texts = [client.get("/").text, json.dumps(now), client.get("/api/study").text]
    picture = client.get("/api/picture", params={"inspector": "Ann", **now["turn"]})
    texts.append(json.dumps(dict(picture.headers)))
    texts.append(send(client, now["turn"]).text)
    for text in texts:
        assert not re.search(r"scratch|defect_class|\.png\b|\bgood/", text)


def test_picture_is_what_the_model_sees(client: TestClient, study: Path) -> None:
    plan, now = read_plan(study), state(client)
    data = client.get("/api/picture", params={"inspector": "Ann", **now["turn"]}).content
    planned = next(p for p in plan.pictures if p.id == now["turn"]["picture"])
    with Image.open(Path(plan.root) / planned.path) as original:
        wanted = np.asarray(original.convert("RGB"))
    assert (np.asarray(Image.open(io.BytesIO(data))) == wanted).all()


def test_double_submit_keeps_the_first_answer(client: TestClient, study: Path) -> None:
    turn = state(client)["turn"]
    load(client, turn)
    first, second = send(client, turn), send(client, turn, answer="OK")
    assert first.json() == second.json() and second.status_code == 200
    found = read_looks(study, read_plan(study))
    assert [look.answer for look in found] == ["NG"]


def test_only_the_turn_can_be_answered(client: TestClient, study: Path) -> None:
    now = state(client)
    load(client, now["next"])
    assert send(client, now["next"]).status_code == 409
    assert send(client, now["turn"]).status_code == 404  # nobody has seen it yet
    assert read_looks(study, read_plan(study)) == []


def test_only_present_and_next_can_be_seen(client: TestClient, study: Path) -> None:
    order = read_plan(study).order("Ann")
    codes = [load(client, {"picture": p, "repeat": r}) for p, r in order[:4]]
    assert codes == [200, 200, 404, 404]
    assert load(client, {"picture": "../plan.json", "repeat": 1}) == 404


def test_resume_after_the_service_ended(study: Path) -> None:
    order = read_plan(study).order("Ann")
    for done in range(3):
        desk = Desk(study)
        with TestClient(create_study_app(desk)) as client:
            now = state(client, " ann ")
            assert now["done"] == done and now["turn"]["picture"] == order[done][0]
            load(client, now["turn"])
            send(client, now["turn"])
        desk.close()
    assert [look.picture for look in read_looks(study, read_plan(study))] == [
        picture for picture, _ in order[:3]
    ]


def test_the_browsers_clock_is_checked(
    desk: Desk, client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("twonines.benchmarks.study.desk.time.monotonic", lambda: clock[0])
    for seconds in (2.4, 2.6, 2.0):  # 2 s by the server; half a second more is taken
        turn = state(client)["turn"]
        load(client, turn)
        clock[0] += 2
        send(client, turn, seconds=seconds)
    remarks = [look.remark for look in read_looks(study, read_plan(study))]
    assert remarks == ["", "clock", ""]


def test_a_picture_loaded_anew_does_not_count_for_time(client: TestClient, study: Path) -> None:
    turn = state(client)["turn"]
    load(client, turn)
    load(client, turn)
    send(client, turn)
    turn = state(client)["turn"]
    load(client, turn)
    send(client, turn, interrupted=True)
    turn = state(client)["turn"]
    load(client, turn)
    send(client, turn)
    remarks = [look.remark for look in read_looks(study, read_plan(study))]
    assert remarks == ["interrupted", "interrupted", ""]


def test_breaks(parts: Dataset, tmp_path: Path) -> None:
    write_plan(small_plan(parts, break_every=2, break_s=30.0, repeats=1), tmp_path)
    desk = Desk(tmp_path)
    due = []
    with TestClient(create_study_app(desk)) as client:
        while (now := state(client))["turn"]:
            due.append(now["break_s"])
            load(client, now["turn"])
            send(client, now["turn"])
        due.append(state(client)["break_s"])
    desk.close()
    assert due == [None, None, 30, None, 30, None, 30, None, 30, None, None]


def test_names(parts: Dataset, tmp_path: Path) -> None:
    write_plan(small_plan(parts, inspectors=["Ann", "Bo"]), tmp_path)
    desk = Desk(tmp_path)
    with TestClient(create_study_app(desk)) as client:
        assert state(client, "ANN")["inspector"] == "Ann"
        refused = client.get("/api/state", params={"inspector": "Cy"})
        assert refused.status_code == 422 and "must be one of Ann, Bo" in refused.json()["error"]
    desk.close()


@pytest.mark.parametrize(
    "more",
    [
        {"answer": "MAYBE"},
        {"seconds": -1},
        {"seconds": "x"},
        {"truth": 1},
        {"mark": [1]},
        {"mark": [-1, 0]},
    ],
)
def test_bad_answers(client: TestClient, study: Path, more: dict[str, Any]) -> None:
    turn = state(client)["turn"]
    load(client, turn)
    assert send(client, turn, **more).status_code == 422
    assert read_looks(study, read_plan(study)) == []


def test_a_full_disk_loses_no_place(
    client: TestClient, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = state(client)["turn"]
    load(client, turn)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("twonines.benchmarks.study.looks.os.fsync", full)
    assert send(client, turn).status_code == 507
    monkeypatch.undo()
    assert state(client)["done"] == 0
    assert send(client, turn).json()["done"] == 1
    assert len(read_looks(study, read_plan(study))) == 1


def test_page_needs_no_network(client: TestClient) -> None:
    page = client.get("/")
    assert not re.search(r"https?://|@import|src=\"(?!data:)", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


def test_a_changed_picture_stops_the_study(parts: Dataset, tmp_path: Path) -> None:
    plan = small_plan(parts)
    path = write_plan(plan, tmp_path)
    path.write_text(path.read_text().replace(plan.pictures[3].sha256, "0" * 64))
    with pytest.raises(DatasetError, match="it has changed"):
        Desk(tmp_path)


def test_a_body_that_is_not_valid_is_neither_a_fault_nor_sent_back(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    body = '{"inspector": "' + "a" * 5000 + '", "picture": "p", "repeat": 1, "answer": "OK", '
    for rest in ('"seconds": NaN}', '"seconds": 1, "mark": [Infinity, 0]}'):
        answered = client.post("/api/looks", content=body + rest, headers=headers)
        assert answered.status_code == 422 and len(answered.content) < 500


def test_a_body_far_larger_than_an_answer_is_not_read(client: TestClient, study: Path) -> None:
    turn = state(client)["turn"]
    assert load(client, turn) == 200
    assert client.post("/api/looks", content=b'{"x": "' + b"x" * 10**6 + b'"}').status_code == 413
    chunked = client.post("/api/looks", content=iter([b"x" * 10_000] * 10))
    assert chunked.status_code in (413, 422)
    assert state(client)["turn"] == turn
