from pathlib import Path

import numpy as np

from tests.conftest import tiny_card
from twonines.benchmarks.teaching import _metrics
from twonines.datasets.record import Record
from twonines.models.decision import decide
from twonines.models.outputs import Outputs


def test_figures_that_do_not_exist_are_left_off_the_card() -> None:
    """Without a good part in the test set there is no ranking and no overkill."""
    records = [Record(Path(f"{i}.png"), "scratch") for i in range(4)]
    score = np.full(4, 0.9, np.float32)
    outputs = Outputs(
        score,
        np.stack([1 - score, score], 1),
        np.zeros((4, 4, 4), np.float32),
        np.zeros(4, np.float32),
    )
    card = tiny_card()
    found = _metrics(decide(outputs, card, [(4, 4)] * 4), records, card)
    assert found["accuracy"].value == 1.0
    assert "auroc" not in found
