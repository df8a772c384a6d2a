"""Tensors go the way of uploads: queue, deadlines, records, shadow, references, tiles."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.conftest import tiny_card
from tests.images import png
from tests.made_models import write_comparing_model, write_spot_model
from tests.serving.people.conftest import people_of, serve
from tests.serving.test_faults import Gate, ask, gate, service, serving
from tests.serving.test_repository import opened, put
from tests.serving.v2_client import binary, infer, outputs, pixels, tensor
from twonines.errors import StoreError
from twonines.models.card import Policy, Tiling
from twonines.models.image import decode
from twonines.serving.people.roles import Quota, Role
from twonines.serving.store import records

__all__ = ["gate"]


def test_full_queue_and_deadline(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model, queue_size=2, max_files=8) as client, ThreadPoolExecutor(2) as pool:
        gate.open.clear()
        waiting = [pool.submit(infer, client, binary(pixels(v))) for v in (0, 250)]
        batcher = service(client).batcher
        assert batcher
        while batcher.in_flight < 2:
            threading.Event().wait(0.005)
        answer = infer(client, binary(pixels(0)))
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert set(answer.json()) == {"error", "request_id"}
        gate.open.set()
        assert [outputs(w.result(10))["verdict"] for w in waiting] == [["OK"], ["NG"]]
        assert infer(client, binary(pixels(0, 0, 0))).status_code == 413  # can never fit
        gate.open.clear()
        late = infer(client, binary(pixels(0)), parameters={"timeout": 50_000})
        assert late.status_code == 504 and "error" in late.json()
        gate.open.set()
        text = client.get("/metrics").text
        assert 'twonines_rejected_total{reason="OverloadedError"} 1.0' in text
        while batcher.in_flight:
            threading.Event().wait(0.005)
        stats = client.get("/v2/models/tiny/stats").json()["model_stats"][0]["inference_stats"]
        # The late one was in the session already, and was inspected for nobody.
        assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 0)
        assert all(stats[n]["count"] == 3 for n in ("queue", "compute_input", "compute_infer"))
        assert stats["success"]["ns"] > stats["compute_infer"]["ns"] > 0


def test_tensors_and_uploads_share_batches(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model, threads=1) as client, ThreadPoolExecutor(3) as pool:
        gate.open.clear()
        first = pool.submit(ask, client)
        batcher = service(client).batcher
        assert batcher
        while not any(stage.inputs for stage in batcher._running):
            threading.Event().wait(0.005)
        mixed = pool.submit(infer, client, binary(pixels(0, 250)))
        pool.submit(ask, client)
        while batcher.waiting < 3:
            threading.Event().wait(0.005)
        gate.open.set()
        assert first.result(10) == 200
        assert mixed.result(10).headers["x-batch-size"] == "3"


def test_poisoned_picture_fails_alone_and_is_never_ok(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model) as client:
        gate.poison = True
        answer = infer(client, binary(pixels(0, 13, 250)))
        found = outputs(answer)
        assert found["verdict"] == ["OK", "ERROR", "NG"] and "secret" not in answer.text
        assert found["score"][1] == 1 and found["novelty"][1] is None
        assert found["reason"][0] == "" and "could not be inspected" in found["reason"][1]
        assert infer(client, binary(pixels(13))).status_code == 500
        (told,) = client.get("/v2/models/stats").json()["model_stats"]
        stats = told["inference_stats"]
        assert (stats["success"]["count"], stats["fail"]["count"]) == (2, 2)
        assert stats["fail"]["ns"] > 0 and told["inference_count"] == 2


def test_inspections_are_recorded_with_their_place(tiny_model: Path, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(180, 256, (1, 30, 50, 3), dtype=np.uint8)
    with serving(tiny_model, data_dir=tmp_path) as client:
        place = {"line": "L1", "part_id": "p-7", "lot": " 12 "}
        found = outputs(infer(client, binary(frame), parameters=place))
        key = found["inspection_id"][0]
        told = client.get(f"/v1/inspections/{key}").json()
        assert told["verdict"] == found["verdict"][0] == "NG"
        assert told["score"] == pytest.approx(found["score"][0])
        assert (told["line"], told["part_id"], told["lot"]) == ("L1", "p-7", "12")
        assert told["file"] == "images[0]"
        shown = client.get(f"/v1/inspections/{key}/picture")
        assert shown.headers["content-type"] == "image/png"
        assert np.array_equal(decode(shown.content), frame[0])
        assert client.get(f"/v1/inspections/{key}/overlay").content.startswith(b"\x89PNG")
        bad = outputs(infer(client, binary([png(0), b"nonsense"])))
        ids = [one["id"] for one in client.get("/v1/inspections").json()["inspections"]]
        assert set(ids) == {key, *bad["inspection_id"]} and len(ids) == 3


def test_what_is_not_recorded_is_never_ok(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("database: database or disk is full")

    monkeypatch.setattr(records, "write_entries", full)
    with serving(tiny_model, data_dir=tmp_path) as client:
        found = outputs(infer(client, binary(pixels(0, 250))))
        assert found["verdict"] == ["REVIEW", "NG"] and found["inspection_id"] == ["", ""]
        assert "not recorded" in found["reason"][0]
    with serving(tiny_model, data_dir=tmp_path, records_failure="refuse") as client:
        assert infer(client, binary(pixels(0))).status_code == 503


def test_the_shadow_sees_tensors_too(tmp_path: Path) -> None:
    put(tmp_path, "a", "1")
    put(tmp_path, "a", "2", 1e-9)
    with opened(tmp_path, default_model="a") as client:
        client.post("/v1/models/a/versions/1/shadow")
        assert outputs(infer(client, binary(pixels(0)), model="a"))["verdict"] == ["NG"]
        model = service(client).models.entry("a")
        assert model.shadow
        while not (told := model.shadow.report())["compared"]:
            threading.Event().wait(0.005)
        assert told["counts"]["verdict"] == 1


def test_references_are_one_for_all_or_one_for_each(tmp_path: Path) -> None:
    path = write_comparing_model(tmp_path / "compares.onnx", tiny_card(reference=True))
    with serving(path, data_dir=tmp_path / "data", max_bytes=5000, max_recent_bytes=0) as client:
        inputs = client.get("/v2/models/tiny").json()["inputs"]
        assert [one["name"] for one in inputs] == ["images", "references"]
        images = binary(pixels(250, 20, 250))
        dark = binary(pixels(20), "references")
        assert outputs(infer(client, images, dark))["verdict"] == ["NG", "OK", "NG"]
        each = binary(pixels(250, 250, 20), "references")
        found = outputs(infer(client, images, each))
        assert found["verdict"] == ["OK", "OK", "NG"]
        key = found["inspection_id"][2]
        store = service(client).records
        assert store
        reference = store.picture(key)[1]
        assert reference and decode(reference)[0, 0, 0] == 20
        encoded = binary([png(250), bytes(5001), png(250)])
        found = outputs(infer(client, encoded, binary([png(250)] * 2 + [png(20)], "references")))
        assert found["verdict"] == ["OK", "ERROR", "NG"]
        for given, status, named in (
            ((images,), 422, "reference: must be given"),
            ((images, binary(pixels(0, 0), "references")), 400, "references: must be one"),
            ((images, binary([b""], "references")), 422, "image"),
        ):
            answer = infer(client, *given)
            assert answer.status_code == status and named in answer.json()["error"], answer.text


def test_a_frame_larger_than_the_input_goes_in_tiles(tmp_path: Path) -> None:
    policy = Policy(threshold=0.5, min_region_area=0.0001)
    card = tiny_card(input_size=(64, 64), tiling=Tiling(), policy=policy)
    path = write_spot_model(tmp_path / "tiled.onnx", card)
    frames = np.full((2, 200, 300, 3), 30, np.uint8)
    frames[1, 150:155, 200:205] = 255
    out = io.BytesIO()
    PILImage.fromarray(frames[1]).save(out, "PNG")
    with serving(path) as client:
        found = outputs(infer(client, binary(frames)))
        assert found["verdict"] == ["OK", "NG"] and "defect_map" not in found
        uploaded = client.post("/v1/inspect", files={"file": ("a.png", out.getvalue())}).json()
        assert found["score"][1] == pytest.approx(uploaded["results"][0]["score"])


def test_limits_are_those_of_uploads(tiny_model: Path) -> None:
    limits = {"max_bytes": 2000, "max_body_bytes": 30_000, "max_pixels": 5000, "max_files": 3}
    with serving(tiny_model, **limits) as client:
        assert infer(client, binary(pixels(0, size=(40, 60)))).status_code == 200
        for values in (pixels(0, size=(80, 80)), pixels(0, 0, 0, 0, size=(2, 2))):
            assert infer(client, binary(values)).status_code == 413
        assert infer(client, binary(pixels(0, 0, 0, size=(60, 60)))).status_code == 413
        found = infer(client, binary([png(0), bytes(2001)]))
        assert outputs(found)["verdict"] == ["OK", "ERROR"]
        held = service(client).uploads
        assert held.used == 0
        held.take(held._max_bytes)
        body = b'{"inputs": []}'
        held.used -= 10 * len(body)  # room for the text, and not for what it may become
        assert client.post("/v2/models/tiny/infer", content=body).status_code == 429
        full = client.post("/v2/models/tiny/infer", json={"inputs": [tensor()]})
        assert full.status_code == 429 and full.headers["retry-after"] == "1"


def test_pictures_count_against_the_quota(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path) as client:
        people = people_of(client)
        quota = Quota(images_per_day=2)
        secret, _ = people.keys.add("line", Role.INSPECTOR, "test", quota=quota)
        client.headers["X-API-Key"] = secret
        assert infer(client, binary(pixels(0, 0, 0))).status_code in (413, 429)
        assert infer(client, binary(pixels(0, 250))).status_code == 200
        spent = client.post("/v2/models/tiny/infer", content=b"refused before it is read")
        assert spent.status_code == 429 and int(spent.headers["retry-after"]) >= 1
