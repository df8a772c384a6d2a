"""The Open Inference Protocol v2, spoken by the public client, and its model repository."""

import base64
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient

from tests.images import png
from tests.serving.people.conftest import add_user, cheap, log_in, people_of, serve
from tests.serving.test_repository import opened, put
from tests.serving.v2_client import binary, infer, pixels
from twonines.serving.app import create_app
from twonines.serving.people import people as people_module
from twonines.serving.people.roles import Role
from twonines.serving.server import listen
from twonines.settings import ServeSettings

http = pytest.importorskip("tritonclient.http")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "a", "1")
    put(tmp_path, "a", "2", 1e-9)
    return tmp_path


def test_public_client_round_trip(root: Path) -> None:
    settings = ServeSettings(model_dir=root, execution_provider="cpu", decode_workers=1, port=0)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        triton = http.InferenceServerClient(f"127.0.0.1:{listener.getsockname()[1]}")
        assert triton.is_server_live() and triton.is_server_ready()
        assert triton.is_model_ready("a", "2") and not triton.is_model_ready("a", "1")
        assert "statistics" in triton.get_server_metadata()["extensions"]
        assert triton.get_model_metadata("a")["versions"] == ["2"]
        triton.load_model("a", query_params={"version": "1"})
        encoded = np.array([png(0), png(250)], object)
        for values, kind in ((pixels(0, 250), "UINT8"), (encoded, "BYTES")):
            given = http.InferInput("images", values.shape, kind)
            given.set_data_from_numpy(values)
            found = triton.infer("a", [given], request_id="7")
            assert found.as_numpy("verdict").tolist() == [b"OK", b"NG"]
            assert found.as_numpy("defect_map").shape == (2, 32, 32)
            assert found.get_response()["model_version"] == "1"
            only = [http.InferRequestedOutput("score", binary_data=False)]
            text = triton.infer("a", [given], outputs=only)
            assert text.as_numpy("score").tolist() == found.as_numpy("score").tolist()
            assert text.as_numpy("verdict").tolist() == ["OK", "NG"]
        as_json = http.InferInput("images", [2, 40, 60, 3], "UINT8")
        as_json.set_data_from_numpy(pixels(0, 250), binary_data=False)
        as_text = http.InferInput("images", [2], "BYTES")
        texts = [base64.b64encode(one) for one in encoded]
        as_text.set_data_from_numpy(np.array(texts, object), binary_data=False)
        for given in (as_json, as_text):
            assert triton.infer("a", [given]).as_numpy("verdict").tolist() == [b"OK", b"NG"]
        with pytest.raises(InferenceServerException, match="outputs: must be of verdict"):
            triton.infer("a", [as_json], outputs=[http.InferRequestedOutput("nothing")])
        assert triton.get_model_config("a")["max_batch_size"] == 64
        stats = triton.get_inference_statistics("a")["model_stats"][0]
        assert stats["inference_count"] == stats["inference_stats"]["success"]["count"] == 12
        batches = stats["batch_stats"]
        assert sum(b["batch_size"] * b["compute_infer"]["count"] for b in batches) == 12
        triton.unload_model("a")
        assert not triton.is_model_ready("a")
        triton.load_model("a")
        assert triton.is_model_ready("a", "1")
        ready = [r for r in triton.get_model_repository_index() if r["state"] == "READY"]
        assert [(r["name"], r["version"]) for r in ready] == [("a", "1")]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def index(client: TestClient, **asked: object) -> dict[tuple[str, str], tuple[str, str]]:
    rows = client.post("/v2/repository/index", json=asked).json()
    return {(r["name"], r["version"]): (r["state"], r["reason"]) for r in rows}


def test_a_bad_file_never_replaces_a_good_one(root: Path) -> None:
    with opened(root) as client:
        (root / "a" / "3").mkdir()
        (root / "a" / "3" / "model.onnx").write_bytes(b"no model")
        for query, body in (({"version": "3"}, {}), ({}, {"parameters": {"version": "3"}})):
            answer = client.post("/v2/repository/models/a/load", params=query, json=body)
            assert answer.status_code == 422 and "model" in answer.json()["error"]
        assert client.get("/v2/models/a/versions/2/ready").status_code == 200
        found = index(client)
        assert found["a", "1"] == ("UNAVAILABLE", "available")
        assert found["a", "2"] == ("READY", "")
        state, reason = found["a", "3"]
        assert state == "UNAVAILABLE" and "model.onnx" in reason
        assert list(index(client, ready=True)) == [("a", "2")]


def test_unloaded_is_not_ready_and_stays_so_until_it_is_loaded(root: Path) -> None:
    with opened(root) as client:
        assert client.post("/v2/repository/models/a/unload").status_code == 200
        for place in ("", "/ready", "/stats"):
            assert client.get(f"/v2/models/a{place}").status_code == 503
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/models/stats").json() == {"model_stats": []}
        assert infer(client, binary(pixels(0)), model="a").status_code == 503
        assert client.post("/v2/repository/models/a/unload").status_code == 409
    with opened(root) as client:  # a restart does not bring it back
        assert client.get("/v2/models/a/ready").status_code == 503
        assert client.post("/v2/repository/models/a/load").status_code == 200
        assert client.get("/v2/models/a/versions/2/ready").status_code == 200


def test_load_takes_the_active_version_whose_file_has_changed(root: Path) -> None:
    with opened(root) as client:
        assert infer(client, binary(pixels(0)), model="a").json()["outputs"][0]["data"] == ["NG"]
        put(root, "a", "2", 0.5)
        assert client.post("/v2/repository/models/a/load").status_code == 200
        assert infer(client, binary(pixels(0)), model="a").json()["outputs"][0]["data"] == ["OK"]


@pytest.mark.parametrize(
    ("place", "body", "status", "named"),
    [
        ("models/other/load", {}, 404, "model"),
        ("models/a/load", {"parameters": {"version": "9"}}, 404, "version"),
        ("models/a/load?version=1", {"parameters": {"version": "2"}}, 400, "version"),
        ("models/a/load", {"parameters": {"config": "{}"}}, 400, "config"),
        ("models/other/unload", {}, 404, "model"),
        ("models/a/unload", {"parameters": {"unload_dependents": 1}}, 400, "unload_dependents"),
        ("index", {"ready": "x"}, 400, "ready"),
        ("index", {"ready": True, "x": "y" * 2**17}, 413, "body"),
    ],
)
def test_bad_change_is_named(
    root: Path, place: str, body: dict[str, object], status: int, named: str
) -> None:
    with opened(root) as client:
        answer = client.post(f"/v2/repository/{place}", json=body)
        assert answer.status_code == status and named in answer.json()["error"], answer.text
        assert client.get("/v2/models/a/versions/2/ready").status_code == 200


def test_one_model_file_cannot_be_changed(tiny_model: Path) -> None:
    with TestClient(create_app(ServeSettings(model=tiny_model, execution_provider="cpu"))) as one:
        for verb in ("load", "unload"):
            assert one.post(f"/v2/repository/models/tiny/{verb}").status_code == 409
        assert one.get("/v2/models/tiny/ready").status_code == 200


def test_changes_are_for_engineers_are_written_down_and_take_two_where_that_is_wanted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_module, "Passwords", cheap)
    with serve(root, tmp_path / "data", model_dir=root, two_person=True) as client:
        add_user(client, "anna", Role.ENGINEER)
        add_user(client, "vic", Role.VIEWER)
        vic = {"X-CSRF": log_in(client, "vic")}
        for place in ("repository/models/a/load", "repository/models/a/unload", "models/a/infer"):
            assert client.post(f"/v2/{place}", headers=vic).status_code == 403
        anna = {"X-CSRF": log_in(client, "anna")}
        answer = client.post("/v2/repository/models/a/load?version=1", headers=anna)
        assert answer.status_code == 202 and "another person" in answer.json()["error"]
        assert client.get("/v2/models/a/versions/2/ready").status_code == 200
        answer = client.post("/v2/repository/models/a/unload", headers=anna)
        assert answer.status_code == 202 and "of a/2 is proposed" in answer.json()["error"]
        approve = f"/v1/approvals/{answer.json()['approval']}/approve"
        assert client.post(approve, headers=anna).status_code == 403
        assert client.get("/v2/models/a/versions/2/ready").status_code == 200
        add_user(client, "ben", Role.ENGINEER)
        ben = {"X-CSRF": log_in(client, "ben")}
        assert client.post(approve, headers=ben).status_code == 200
        assert client.get("/v2/models/a/ready").status_code == 503
        # That two took it out does not mean that two have let it answer.
        answer = client.post("/v2/repository/models/a/load", headers=ben)
        assert answer.status_code == 202 and "of a/2 is proposed" in answer.json()["error"]
        assert client.get("/v2/models/a/ready").status_code == 503
        assert client.post("/v2/repository/models/a/unload", headers=ben).status_code == 409
        told = [(r["actor"], r["action"], r["subject"]) for r in people_of(client).audit.newest()]
        for line in (
            ("user:anna", "activate.propose", "a/1"),
            ("user:anna", "unload.propose", "a/2"),
            ("user:ben", "unload.approve", "a/2"),
            ("user:ben", "model.unload", "a/2"),
            ("user:ben", "rollback.propose", "a/2"),
        ):
            assert line in told, line


def test_a_model_that_changed_after_the_proposal_is_not_unloaded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_module, "Passwords", cheap)
    with serve(root, tmp_path / "data", model_dir=root, two_person=True) as client:
        for name in ("anna", "ben"):
            add_user(client, name, Role.ENGINEER)
        anna = {"X-CSRF": log_in(client, "anna")}
        keys = [
            client.post(f"/v2/repository/models/a/{verb}", headers=anna).json()["approval"]
            for verb in ("unload", "load?version=1")
        ]
        ben = {"X-CSRF": log_in(client, "ben")}
        assert client.post(f"/v1/approvals/{keys[1]}/approve", headers=ben).status_code == 200
        answer = client.post(f"/v1/approvals/{keys[0]}/approve", headers=ben)
        assert answer.status_code == 409 and "has changed since" in answer.json()["error"]
        assert client.get("/v2/models/a/versions/1/ready").status_code == 200
        assert client.post(f"/v1/approvals/{keys[0]}/reject", headers=ben).status_code == 200
