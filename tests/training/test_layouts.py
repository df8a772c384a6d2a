"""`twonines train` on every supported layout, with no option but where it lies."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from tests.training.layouts import LAYOUTS, part
from tests.training.threads import one_torch_thread
from twonines.benchmarks import teaching
from twonines.cli.app import app
from twonines.datasets.record import Record
from twonines.datasets.registry import CARDS
from twonines.models.image import decode
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession
from twonines.serving.app import create_app
from twonines.settings import ServeSettings
from twonines.types import FloatArray, Verdict


@pytest.fixture(scope="module", autouse=True)
def cheap(cache: Path) -> Iterator[None]:
    """A small input, short fits, and the service in this process: its own costs seconds a set."""

    def answers(model: Path, records: Sequence[Record]) -> tuple[FloatArray, list[str]]:
        settings = ServeSettings(model=model, execution_provider="cpu")
        with TestClient(create_app(settings)) as client:
            found = []
            for record in records:
                answer = client.post("/v1/inspect", files={"file": record.path.read_bytes()})
                found.append(answer.json()["results"][0])
        scores = np.array([one["score"] for one in found], np.float32)
        return scores, [one["verdict"] for one in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWONINES_CACHE", str(cache))
        patch.setattr("twonines.training.teach.LEAST_PIXELS", 64)
        patch.setattr("twonines.training.pixels.STEPS", 60)
        patch.setattr(teaching, "http_scores", answers)
        with one_torch_thread(), threadpool_limits(1):
            yield


def test_every_layout_is_here() -> None:
    assert tuple(LAYOUTS) == tuple(CARDS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_train_without_a_further_option(name: str, tmp_path: Path) -> None:
    build, task = LAYOUTS[name]
    build(tmp_path / "set")
    out = tmp_path / "run"
    done = CliRunner().invoke(
        app, ["train", "--dataset", name, "--root", str(tmp_path / "set"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    session = InspectionSession.load(out / "model.onnx", execution_provider="cpu")
    card = session.card
    assert (card.task, card.recipe, card.training_data.name) == (task, "teach", name)
    assert card.parity.keys() == {"reference", "http"} and max(card.parity.values()) <= 1e-4
    if card.has_good and "auroc" in card.metrics:
        assert card.metrics["auroc"].value > 0.9 and card.skill_fault is None
    inspector = Inspector(session)
    defect = inspector.prepare(decode(part(tmp_path / "new.png", 1).read_bytes()))
    said = next(iter(inspector.inspect([defect], 1)))
    assert said.verdict in (Verdict.NG, Verdict.REVIEW) and said.score is not None
