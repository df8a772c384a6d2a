"""What a task costs beside the bare backbone: the same pictures, in turns, and honest refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.test_accuracy import write_set
from tests.conftest import tiny_card
from tests.made_models import write_comparing_model
from twonines.benchmarks import head_cost
from twonines.benchmarks.head_cost import main, measure_beside, time_beside
from twonines.datasets.registry import load_dataset
from twonines.errors import SettingsError
from twonines.models.session import InspectionSession


def test_both_get_the_same_pictures_in_turns() -> None:
    calls: list[tuple[str, int]] = []
    images = np.zeros((5, 8, 8, 3), np.uint8)
    found = time_beside(
        lambda batch: calls.append(("bare", len(batch))),
        lambda batch: calls.append(("model", len(batch))),
        images,
        rounds=3,
    )
    assert calls == [("bare", 5), ("model", 5)] * 4  # one round warms up
    assert found.keys() == {"backbone_per_second", "model_per_second", "time_to_backbone"}
    assert min(found.values()) > 0


def test_a_model_that_is_there_is_measured_without_teaching(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be taught")

    monkeypatch.setattr(head_cost, "teach_and_measure", never)
    main("table", root=write_set(tmp_path / "set"), task=None, model=[tiny_model], side=224,
         pictures=60, rounds=3, out=tmp_path / "rows.json")  # fmt: skip
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    assert (row["task"], row["input_size"]) == (session.card.task, session.input_size[0])
    assert row["time_to_backbone"] > 0 and "teach_seconds" not in row


def test_a_model_of_pairs_is_refused(tmp_path: Path) -> None:
    model = write_comparing_model(tmp_path / "pairs.onnx", tiny_card(reference=True))
    session = InspectionSession.load(model, execution_provider="cpu")
    records = load_dataset("table", write_set(tmp_path / "set")).records
    with pytest.raises(SettingsError, match="single pictures, got a model of pairs"):
        measure_beside(session, records, cache=tmp_path)
