"""The loop for escapes: found downstream, tried on the next model, kept from coming back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.serving.test_faults import service
from twonines.cli.app import app as command
from twonines.models.card import Policy
from twonines.serving.app import create_app
from twonines.settings import ServeSettings


def write(folder: Path, version: str, threshold: float) -> Path:
    """A tiny model that says NG from a score on; grey g has score sigmoid(20 (g / 255 - 0.5))."""
    path = folder / "tiny" / version / "model.onnx"
    path.parent.mkdir(parents=True)
    return write_tiny_model(path, tiny_card(version=version, policy=Policy(threshold=threshold)))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    models = tmp_path / "models"
    for version, threshold in (("1", 0.9), ("2", 0.5), ("3", 0.95), ("4", 0.01)):
        write(models, version, threshold)
    (models / ".twonines-state.json").write_text(json.dumps({"tiny": {"active": "1"}}))
    settings = ServeSettings(
        model_dir=models, data_dir=tmp_path / "data", execution_provider="cpu",
        keep_pictures="all",
    )  # fmt: skip
    with TestClient(create_app(settings)) as opened:
        yield opened


def inspect(client: TestClient, value: int, part: str) -> Any:
    answer = client.post("/v1/inspect", files={"file": ("a.png", png(value))},
                         data={"part_id": part})  # fmt: skip
    return answer.json()["results"][0]


def activate(client: TestClient, version: str, **body: str) -> Any:
    return client.post(f"/v1/models/tiny/versions/{version}/activate", json=body or None)


GREY = 140  # score 0.73: OK to versions 1 and 3, NG to 2 and 4


def test_an_escape_that_was_caught_cannot_come_back(client: TestClient) -> None:
    acts: list[tuple[Any, ...]] = []

    class Audit:
        def append(self, *act: Any) -> None:
            acts.append(act)

    service(client).audit = Audit()
    assert inspect(client, GREY, "P1")["verdict"] == "OK"
    report = {"kind": "escape", "part_id": "P1", "reporter": "qa"}
    assert client.post("/v1/findings", json=report).status_code == 201
    # The model that answers misses it too: another that does loses nothing.
    found = activate(client, "3").json()["regression"]
    assert (found["right_before"], found["right_after"], found["lost"]) == (0, 0, 0)
    found = activate(client, "2").json()["regression"]
    assert (found["right_before"], found["right_after"]) == (0, 1)
    refused = activate(client, "1")
    assert refused.status_code == 409
    assert "part P1" in refused.json()["error"] and "override" in refused.json()["error"]
    states = {v["version"]: v["state"] for v in client.get("/v1/models").json()["models"][0][
        "versions"]}  # fmt: skip
    assert states["2"] == "active" and states["1"] in ("draining", "available")
    rolled = client.post("/v1/models/tiny/rollback")
    assert rolled.status_code == 409  # 3 was active before, and misses it
    assert activate(client, "1", override="").status_code == 422
    given = activate(client, "1", override="line 2 must run, all parts are looked at")
    assert given.status_code == 200 and given.json()["version"] == "1"
    (override,) = [act for act in acts if act[1] == "override"]
    assert override[2] == "tiny 1" and override[3]["reason"].startswith("line 2 must run")
    assert any("part P1" in one for one in override[3]["lost"])


def test_an_overkill_must_not_come_back_either(client: TestClient) -> None:
    activate(client, "2")
    key = inspect(client, GREY, "P2")
    assert key["verdict"] == "NG"
    client.post("/v1/findings", json={"kind": "overkill", "inspection_id": key["id"]})
    assert activate(client, "1").json()["regression"]["right_after"] == 1
    refused = activate(client, "4")
    assert refused.status_code == 409


def test_findings_of_another_model_do_not_count(client: TestClient) -> None:
    inspect(client, GREY, "P1")
    records = service(client).records
    assert records
    client.post("/v1/findings", json={"kind": "escape", "part_id": "P1"})
    assert records.cases("other") == [] and len(records.cases("tiny")) == 1


def test_a_part_is_caught_where_one_picture_is(client: TestClient) -> None:
    inspect(client, GREY, "P1")
    inspect(client, 0, "P1")  # the side without the defect
    client.post("/v1/findings", json={"kind": "escape", "part_id": "P1"})
    found = activate(client, "2").json()["regression"]
    (case,) = found["cases"]
    assert sorted(case["verdicts"]) == ["NG", "OK"] and case["after"] is True


def run(*words: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    done = CliRunner().invoke(command, list(words))
    kind = done.exception
    return getattr(kind, "exit_code", done.exit_code), done.output


def test_the_command_shows_before_and_after(client: TestClient, tmp_path: Path) -> None:
    inspect(client, GREY, "P1")
    ng = inspect(client, 250, "P5")["id"]
    client.post(f"/v1/inspections/{ng}/reviews", json={"verdict": "NG", "reviewer": "ann"})
    client.post("/v1/findings", json={"kind": "escape", "part_id": "P1"})
    models, data = tmp_path / "models" / "tiny", str(tmp_path / "data")

    def regression(*words: str) -> tuple[int, Any]:
        code, text = run("records", "regression", "--data-dir", data, "--json",
                         "--execution-provider", "cpu", *words)  # fmt: skip
        return code, json.loads(text)

    one, two = (str(models / v / "model.onnx") for v in "12")
    code, found = regression("--model", two)
    assert (code, found["right_before"], found["right_after"]) == (0, 0, 1)
    code, found = regression("--model", one, "--against", two)
    assert (code, found["lost"]) == (3, 1)
    blind = str(write(tmp_path / "blind", "9", 0.9999999))
    code, found = regression("--model", blind)
    assert code == 3 and found["reviewed"] == 1
    assert [one["subject"] for one in found["reviewed_worse"]] == [f"inspection {ng}"]
    assert run("records", "regression", "--data-dir", data, "--model", one, "--name", "x")[0] == 2
