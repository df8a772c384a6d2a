"""The benchmark that tries a guard on pictures that it was not made from."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.test_tune import FAST, folder, write_convolving_model
from tests.conftest import tiny_card, write_tiny_model
from twonines.benchmarks import guarded
from twonines.benchmarks import timing as timing_module
from twonines.benchmarks.timing import Timing
from twonines.benchmarks.tune import tune
from twonines.datasets.record import Record
from twonines.errors import SettingsError
from twonines.models.card import Policy
from twonines.models.guard import Guard
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Record]]:
    """A model tuned to int8, whose threshold is the score of one picture."""
    monkeypatch.setattr(timing_module, "_WORTH", 0.0)
    monkeypatch.setattr(
        Timing, "per_second", property(lambda one: 1.0 + ("int8" in one.variant.precision))
    )
    model = write_convolving_model(tmp_path / "model.onnx", tiny_card())
    pictures = folder(tmp_path / "pictures", 60)
    records = [Record(path, "good") for path, _ in pictures]
    answers = Inspector(InspectionSession.load(model, execution_provider="cpu"))
    (near,) = answers.inspect([answers.read(records[30].path.read_bytes())], 1)
    assert near.score
    write_convolving_model(model, tiny_card(policy=Policy(threshold=near.score)))
    tune(model, pictures, FAST)
    return model, records


def test_what_the_guard_keeps_and_what_it_costs_is_counted(
    tuned: tuple[Path, list[Record]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, records = tuned
    found = guarded.compare(model, records)
    assert found["guarded_verdict"]["k"] == 0 and found["guarded_verdict"]["n"] == 60
    assert 0 < found["again_in_float32"]["k"] < 30
    # A guard that is sure of everything: the benchmark must see what slips.
    monkeypatch.setattr(Guard, "find_unsure", lambda self, outputs, card: outputs.score > 2)
    blind = guarded.compare(model, records)
    assert blind["again_in_float32"]["k"] == 0
    assert blind["guarded_verdict"] == blind["alone_verdict"] == found["alone_verdict"]
    monkeypatch.setattr(guarded, "load_dataset", lambda *_: None)
    monkeypatch.setattr(guarded, "rebuild_split", lambda *_: SimpleNamespace(test=records))
    monkeypatch.setattr(sys, "argv", ["guarded", str(model), "--dataset", "made"])
    with pytest.raises(SystemExit) as ended:
        guarded.main()
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert ended.value.code == (1 if said["guarded_verdict"]["k"] else 0)


def test_models_without_a_guard_and_sets_without_pictures_are_refused(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    with pytest.raises(SettingsError, match="dataset: must leave pictures to test with"):
        guarded.compare(model, [])
    with pytest.raises(SettingsError, match="must be tuned to a guarded precision"):
        guarded.compare(model, [Record(tmp_path / "a.png", "good")])
