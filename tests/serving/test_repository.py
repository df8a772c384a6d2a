"""Many models: swaps, shadows, roll backs and bad files while the service answers."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from twonines.errors import ModelFileError, SettingsError
from twonines.models.card import Policy
from twonines.serving.app import create_app
from twonines.serving.model_files import STATE_FILE, ModelFolder
from twonines.settings import ServeSettings


def put(root: Path, name: str, version: str, threshold: float = 0.5) -> Path:
    place = root / name / version
    place.mkdir(parents=True, exist_ok=True)
    card = tiny_card(name=name, version=version, policy=Policy(threshold=threshold))
    return write_tiny_model(place / "model.onnx", card)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version, threshold in (("9", 0.5), ("10", 0.5), ("11", 1e-9)):
        put(tmp_path, "a", version, threshold)
    put(tmp_path, "b", "1")
    bad = tmp_path / "a" / "12"
    bad.mkdir()
    (bad / "model.onnx").write_bytes(b"no model")
    return tmp_path


def opened(root: Path, **changes: object) -> TestClient:
    values = {"model_dir": root, "execution_provider": "cpu", "decode_workers": 1, **changes}
    return TestClient(create_app(ServeSettings.model_validate(values)))


def activate(root: Path, version: str) -> None:
    (root / STATE_FILE).write_text(json.dumps({"a": {"active": version}}))


@pytest.fixture
def client(root: Path) -> Iterator[TestClient]:
    activate(root, "9")
    with opened(root, default_model="a") as found:
        yield found


def ask(client: TestClient, **how: str) -> tuple[str, str]:
    answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))}, **how)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["model"]["version"], body["results"][0]["verdict"]


def change(client: TestClient, version: str, verb: str) -> int:
    return client.post(f"/v1/models/a/versions/{version}/{verb}").status_code


def states(client: TestClient) -> dict[str, str]:
    model = next(m for m in client.get("/v1/models").json()["models"] if m["name"] == "a")
    return {v["version"]: v["state"] for v in model["versions"]}


def test_versions_are_in_order_and_foreign_names_are_left_out(root: Path) -> None:
    put(root, "-x", "1")
    put(root, "c", "v2")
    put(root, "c", "3")
    found = ModelFolder(root).scan()
    assert {name: list(v) for name, v in found.items()} == {
        "a": ["9", "10", "11", "12"],
        "b": ["1"],
        "c": ["3", "v2"],
    }


def test_swap_and_roll_back_survive_a_restart(client: TestClient, root: Path) -> None:
    assert ask(client) == ("9", "OK")
    assert change(client, "11", "activate") == 200
    assert ask(client) == ("11", "NG")
    assert change(client, "10", "activate") == 200
    assert ask(client) == ("10", "OK")
    assert client.post("/v1/models/a/rollback").json()["version"] == "11"
    with opened(root, default_model="a") as again:
        assert ask(again) == ("11", "NG")
        assert again.post("/v1/models/a/rollback").json()["version"] == "9"
        assert again.post("/v1/models/a/rollback").status_code == 409
        assert ask(again) == ("9", "OK")


def test_a_bad_file_changes_nothing(client: TestClient, root: Path) -> None:
    before = (root / STATE_FILE).read_text()
    for verb in ("load", "activate", "shadow"):
        assert change(client, "12", verb) == 422
    assert ask(client) == ("9", "OK")
    assert states(client)["12"] == "failed" and states(client)["9"] == "active"
    assert (root / STATE_FILE).read_text() == before
    # The active version's own file is replaced by a bad one: the loaded one goes on.
    (root / "a" / "9" / "model.onnx").write_bytes(b"broken")
    assert change(client, "9", "activate") == 422
    assert ask(client) == ("9", "OK")


def test_a_folder_that_cannot_be_written_changes_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fixed(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("twonines.serving.model_files.os.replace", fixed)
        answer = client.post("/v1/models/a/versions/11/activate")
        assert answer.status_code == 503 and "must be writable" in answer.json()["error"]
    assert ask(client) == ("9", "OK") and states(client)["9"] == "active"
    assert change(client, "11", "activate") == 200


def test_a_replaced_file_is_loaded_again(client: TestClient, root: Path) -> None:
    digest = client.get("/v1/models").json()["models"][0]["digest"]
    put(root, "a", "9", 1e-9)
    assert ask(client) == ("9", "OK")
    assert change(client, "9", "activate") == 200
    assert ask(client) == ("9", "NG")
    assert client.get("/v1/models").json()["models"][0]["digest"] != digest


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/a/versions/77/load", 404),
        ("/v1/models/x/versions/1/activate", 404),
        ("/v1/models/..%2Fa/versions/9/load", 404),
        ("/v1/models/x/rollback", 404),
        ("/v1/models/b/rollback", 409),
        ("/v1/models/a/versions/9/unload", 409),
        ("/v1/models/a/versions/9/shadow", 409),
        ("/v1/models/a/versions/10/unload", 404),
        ("/v1/models/a/versions/9/explode", 422),
    ],
)
def test_what_cannot_be_done_says_so(client: TestClient, path: str, status: int) -> None:
    assert client.post(path).status_code == status
    assert ask(client) == ("9", "OK")


def test_shadow_compares_and_never_answers(client: TestClient) -> None:
    assert change(client, "11", "shadow") == 200
    assert states(client)["11"] == "shadow"
    for _ in range(3):
        assert ask(client) == ("9", "OK")
    assert change(client, "10", "shadow") == 200  # takes the place of 11, which ends its work
    wanted = 'outcome="verdict"} 3.0'
    for _ in range(200):
        if wanted in client.get("/metrics").text:
            break
        threading.Event().wait(0.02)
    assert wanted in client.get("/metrics").text
    assert ask(client) == ("9", "OK")
    assert change(client, "10", "activate") == 200
    model = client.get("/v1/models").json()["models"][0]
    assert (model["version"], model["shadow"]) == ("10", None)


def test_shadow_keeps_the_differences(client: TestClient) -> None:
    assert change(client, "11", "shadow") == 200
    ask(client)
    limit = threading.Event()
    for _ in range(200):
        report = client.get("/v1/models").json()["models"][0]["shadow"]
        if report["compared"]:
            break
        limit.wait(0.02)
    assert report["counts"]["verdict"] == 1 and report["max_score_shift"] == 0
    (difference,) = report["differences"]
    assert difference["active"]["verdict"] == "OK" and difference["shadow"]["verdict"] == "NG"
    assert change(client, "11", "unload") == 200
    assert client.get("/v1/models").json()["models"][0]["shadow"] is None


def test_no_request_fails_while_versions_are_swapped(client: TestClient) -> None:
    stop, failed, answered = threading.Event(), [], []

    def load() -> None:
        while not stop.is_set():
            answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))})
            if answer.status_code != 200:
                failed.append(answer.text)
            else:
                body = answer.json()
                answered.append((body["model"]["version"], body["results"][0]["verdict"]))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for index in range(8):
        assert change(client, ("11", "9")[index % 2], "activate") == 200
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failed
    # Every verdict is that of the version that the answer names.
    assert set(answered) <= {("9", "OK"), ("11", "NG")} and answered


def test_the_request_chooses_the_model(client: TestClient, root: Path) -> None:
    files = {"file": ("a.png", png(0))}
    for answer in (
        client.post("/v1/inspect?model=b", files=files),
        client.post("/v1/inspect", files=files, data={"model": "b"}),
    ):
        assert answer.json()["model"]["name"] == "b"
    assert client.post("/v1/inspect?model=x", files=files).status_code == 404
    both = client.post("/v1/inspect?model=a", files=files, data={"model": "b"})
    twice = client.post("/v1/inspect?model=a&model=b", files=files)
    for answer in (both, twice):
        assert answer.status_code == 400
        assert answer.json()["error"] == "model: must be one in query and form, got 'a', 'b'"
    with opened(root) as several:
        answer = several.post("/v1/inspect", files=files)
        assert answer.status_code == 400 and "one of a, b" in answer.json()["error"]


def test_a_body_that_is_no_json_is_named_as_such(client: TestClient) -> None:
    answer = client.post(
        "/v1/models/a/versions/1/activate", content=b'{"override":',
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("body: must be JSON, ")


def test_a_start_never_falls_back_to_another_version(root: Path) -> None:
    activate(root, "12")  # bad; b is well
    with opened(root) as client:
        assert client.get("/readyz").status_code == 200
        files = {"file": ("a.png", png(0))}
        assert client.post("/v1/inspect?model=a", files=files).status_code == 503
        assert client.post("/v1/inspect?model=b", files=files).status_code == 200
        assert states(client)["12"] == "failed"
    with opened(root, default_model="a") as client:  # nobody is answered who names none
        assert client.get("/readyz").status_code == 503
        assert client.get("/v2/health/ready").status_code == 503
        assert client.post("/v1/inspect?model=b", files=files).status_code == 200


def test_a_start_that_cannot_be_right_is_refused(root: Path, tmp_path: Path) -> None:
    for changes, message in (({"default_model": "x"}, "default_model"),):
        with pytest.raises(SettingsError, match=message), opened(root, **changes):
            pass
    (root / STATE_FILE).write_text('{"a": {"active": 7}}')
    with pytest.raises(ModelFileError, match="what is active"), opened(root):
        pass
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SettingsError, match="must hold <name>"), opened(empty):
        pass
    with pytest.raises(SettingsError, match="got both"):
        ServeSettings.build(model=root, model_dir=root)


def test_one_file_is_never_changed(tiny_model: Path) -> None:
    with TestClient(create_app(ServeSettings(model=tiny_model))) as client:
        for verb in ("load", "activate", "shadow", "unload"):
            answer = client.post(f"/v1/models/tiny/versions/1/{verb}")
            assert answer.status_code == 409 and "--model-dir" in answer.json()["error"]
