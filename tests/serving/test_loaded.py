"""Each loaded version has its own certificate, watch, queue and session."""

import math
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient

from tests.certified import certify_file
from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from twonines.errors import OverloadedError
from twonines.models.certificate import WatchCut
from twonines.models.session import SLOW_RUNS, InspectionSession
from twonines.serving.app import create_app
from twonines.serving.intake import Picture
from twonines.serving.loading import warm
from twonines.serving.roster import Entry
from twonines.serving.service import Service
from twonines.settings import ServeSettings

CALM, DRIFTED = 100, 0


def put(root: Path, name: str, version: str, *, probability: float | None = None) -> str | None:
    """A model that watches where its certificate has a cut; its digest."""
    place = root / name / version
    place.mkdir(parents=True, exist_ok=True)
    card = tiny_card(name=name, version=version)
    model = write_tiny_model(place / "model.onnx", card)
    if probability is None:
        return None
    cut = WatchCut(feature="novelty", low=0.3, probability=probability)
    return certify_file(model, card, model, (cut,)).digest


def opened(root: Path, **changes: object) -> TestClient:
    values = {"model_dir": root, "execution_provider": "cpu", "decode_workers": 1, **changes}
    return TestClient(create_app(ServeSettings.model_validate(values)))


def entry(client: TestClient, name: str) -> Entry:
    found = client.app.state.service.models.entry(name)  # type: ignore[attr-defined]
    assert isinstance(found, Entry)
    return found


def ask(client: TestClient, level: int) -> tuple[str, str | None]:
    answer = client.post("/v1/inspect", files={"file": ("a.png", png(level))}).json()
    result = answer["results"][0]
    return result["verdict"], result["certificate"]


def change(client: TestClient, version: str, verb: str) -> dict[str, Any]:
    answer = client.post(f"/v1/models/a/versions/{version}/{verb}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_withdrawal_is_of_one_version_and_outlives_a_swap(tmp_path: Path) -> None:
    first = put(tmp_path, "a", "1", probability=0.05)
    second = put(tmp_path, "a", "2", probability=0.04)
    put(tmp_path, "a", "3")
    with opened(tmp_path) as client:
        assert change(client, "1", "activate")["certificate"]["digest"] == first
        assert ask(client, CALM) == ("OK", first)
        for _ in range(30):
            ask(client, DRIFTED)
        assert ask(client, CALM) == ("REVIEW", None)
        assert 'certificate_valid{name="a",version="1"} 0.0' in client.get("/metrics").text

        told = change(client, "2", "activate")["certificate"]
        assert told["valid"] and told["pictures_watched"] == 0 and told["digest"] == second
        assert ask(client, CALM) == ("OK", second)
        text = client.get("/metrics").text
        assert 'certificate_valid{name="a",version="2"} 1.0' in text
        assert 'version="1"' not in text  # it does not answer any more

        told = change(client, "1", "activate")["certificate"]  # loaded afresh
        assert not told["valid"] and "novelty" in told["fault"]
        assert ask(client, CALM) == ("REVIEW", None)

        assert change(client, "3", "activate")["certificate"] is None
        assert ask(client, CALM) == ("OK", None)
        assert 'certificate_valid{name="a",version="3"} 0.0' in client.get("/metrics").text


def test_what_a_shadow_has_seen_counts_when_it_answers(tmp_path: Path) -> None:
    put(tmp_path, "a", "1", probability=0.05)
    put(tmp_path, "a", "2", probability=0.05)
    with opened(tmp_path) as client:

        def model_after(compared: int) -> dict[str, Any]:
            for _ in range(400):
                model: dict[str, Any] = client.get("/v1/models").json()["models"][0]
                if model["shadow"]["compared"] == compared:
                    return model
                threading.Event().wait(0.02)
            raise AssertionError("the shadow did not compare")

        change(client, "1", "activate")
        change(client, "2", "shadow")
        for _ in range(3):
            ask(client, CALM)
        # The certificate is the same, the picture is counted once for each version.
        assert model_after(3)["certificate"]["pictures_watched"] == 3
        for _ in range(20):
            ask(client, DRIFTED)
        assert not model_after(23)["certificate"]["valid"]
        told = change(client, "2", "activate")["certificate"]
        assert told["pictures_watched"] > 3 and not told["valid"]


def test_a_changed_file_is_loaded_in_every_role(tmp_path: Path) -> None:
    put(tmp_path, "a", "1", probability=0.05)
    put(tmp_path, "a", "2", probability=0.05)
    with opened(tmp_path) as client:
        change(client, "1", "activate")
        change(client, "2", "shadow")
        old = client.get("/v1/models").json()["models"][0]
        put(tmp_path, "a", "1", probability=0.06)
        put(tmp_path, "a", "2", probability=0.06)
        change(client, "2", "load")
        new = change(client, "1", "load")
        assert new["digest"] != old["digest"] and new["shadow"]["digest"] != old["shadow"]["digest"]
        assert [v["state"] for v in new["versions"]] == ["active", "shadow"]
        text = client.get("/metrics").text
        assert old["digest"] not in text and new["digest"] in text
        assert 'certificate_valid{name="a",version="1"} 1.0' in text
        assert ask(client, CALM)[0] == "OK"


def test_only_the_model_that_is_full_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a", "1")
    put(tmp_path, "b", "1")
    with opened(tmp_path, queue_size=1, default_model="a") as client:
        active = entry(client, "a").active
        assert active
        no_form = {"content": b"no form", "headers": {"content-type": "x/y"}}
        files = {"file": ("a.png", png(CALM))}
        with monkeypatch.context() as patch:
            patch.setattr(active.batcher, "_in_flight", 1)
            early = client.post("/v1/inspect?model=a", **no_form)  # type: ignore[arg-type]
            assert early.status_code == 429
            assert client.post("/v1/inspect", files=files).status_code == 429
            for how in ({"params": {"model": "b"}}, {"data": {"model": "b"}}):
                answer = client.post("/v1/inspect", files=files, **how)  # type: ignore[arg-type]
                assert answer.status_code == 200


def test_what_batches_cost_is_known_before_the_first_picture(tmp_path: Path) -> None:
    put(tmp_path, "a", "1")
    with opened(tmp_path) as client:
        active = entry(client, "a").active
        assert active and active.batcher.cost.seconds(1, 8) > 0


def test_what_batches_cost_is_taken_from_a_warm_run(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu", beside=True)
    run, clock = InspectionSession.run, [0.0]
    seen: Counter[tuple[int, bool]] = Counter()

    def slow_at_first(
        self: InspectionSession, images: Any, *rest: Any, beside: bool = False
    ) -> Any:
        seen[len(images), beside] += 1
        clock[0] += 9.0 if seen[len(images), beside] <= SLOW_RUNS else 0.25
        return run(self, images, *rest, beside=beside)

    monkeypatch.setattr(InspectionSession, "run", slow_at_first)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert warm(session, (1, 4)) == {1: 0.25 / session.streams, 4: 0.25 / session.streams}
    ways = {False, session.streams > 1}
    assert all(seen[size, way] >= SLOW_RUNS for size in (1, 4) for way in ways)


def test_a_broken_session_is_told_and_replaced_by_activate(tmp_path: Path) -> None:
    put(tmp_path, "a", "1")
    put(tmp_path, "b", "1")
    with opened(tmp_path, default_model="a") as client:
        broken = entry(client, "a").active
        assert broken
        broken.batcher._session._break()
        assert client.get("/healthz").status_code == 503
        assert client.get("/readyz").status_code == 503  # though b still answers
        files = {"file": ("a.png", png(CALM))}
        assert client.post("/v1/inspect", files=files).status_code == 503
        assert client.post("/v1/inspect?model=b", files=files).status_code == 200
        change(client, "1", "activate")
        assert client.get("/healthz").status_code == 200 == client.get("/readyz").status_code
        assert client.post("/v1/inspect", files=files).status_code == 200


def test_a_session_that_fails_is_replaced_by_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a", "1")
    with opened(tmp_path) as client:
        active = entry(client, "a").active
        assert active
        bad, run = active.session, InspectionSession.run

        def failing(self: InspectionSession, *images: Any, **how: Any) -> Any:
            if self is bad:
                raise RuntimeError("the device is lost")
            return run(self, *images, **how)

        monkeypatch.setattr(InspectionSession, "run", failing)
        assert ask(client, 255) == ("NG", None)
        assert active.session is not bad and active.session.digest == bad.digest
        answer = client.post("/v1/inspect", files={"file": ("a.png", png(CALM))}).json()
        overlay = client.get(f"/v1/inspections/{answer['results'][0]['id']}/overlay")
        assert overlay.status_code == 200  # drawn by the fresh session


def test_a_picture_is_taken_or_refused_before_anything_is_awaited(tmp_path: Path) -> None:
    put(tmp_path, "a", "1")
    with opened(tmp_path) as client:
        active = entry(client, "a").active
        assert active
        service: Service = client.app.state.service  # type: ignore[attr-defined]

        def full(*_: object) -> None:
            raise OverloadedError("queue: full", 1.0)

        active.batcher.submit_all = full  # type: ignore[assignment, method-assign]
        with pytest.raises(OverloadedError):
            _ = service.inspect(active, [Picture("a", png(CALM))], None, math.inf)


def test_of_several_models_a_raw_body_is_refused_before_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a", "1")
    put(tmp_path, "b", "1")
    with opened(tmp_path, default_model="a") as client:
        active = entry(client, "a").active
        assert active
        asked: list[object] = []

        def full(*_: object, **__: object) -> NoReturn:
            asked.append(1)
            raise OverloadedError("queue: full", 1.0)

        active.batcher.admit = full  # type: ignore[method-assign]
        raw = client.post("/v1/inspect", content=b"no picture", headers={"content-type": "image/x"})
        assert raw.status_code == 429 and asked == [1, 1]  # whether all are full, and for itself
        # A form may name b.
        files = {"file": ("b.png", png(CALM))}
        form = client.build_request("POST", "/v1/inspect", files=files, data={"model": "b"})
        assert client.send(form).status_code == 200
        assert asked == [1, 1, 1]
        kind = form.headers["content-type"].replace("multipart/form-data", "Multipart/Form-Data")
        odd = client.post("/v1/inspect", content=form.read(), headers={"content-type": kind})
        assert odd.status_code == 200
