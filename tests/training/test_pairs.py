"""A model of pairs, end to end: trained, through the gate over HTTP, and asked with references."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.defects import make_parts
from tests.training.threads import one_torch_thread
from twonines.benchmarks.teaching import http_scores, teach_and_measure
from twonines.errors import GateError
from twonines.training.finetune_options import FinetuneOptions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


def test_pairs_pass_the_gate_over_http(tmp_path: Path, cache: Path) -> None:
    counts = {"square": 12, "stripe": 12}
    dataset = make_parts(tmp_path / "parts", counts, boxes=True, pairs=True)
    options = FinetuneOptions(input_size=64, epochs=1, batch_size=8)
    result = teach_and_measure(dataset, tmp_path / "run", options, cache=cache)
    card = result.card
    assert (card.task, card.reference) == ("detect", True)
    assert card.parity.keys() == {"reference", "http"} and max(card.parity.values()) <= 1e-4
    assert result.parity.pictures == card.training_data.n_test
    scores, verdicts = http_scores(result.model, result.split.test)
    assert len(scores) == len(verdicts) == card.training_data.n_test
    with pytest.raises(GateError, match="HTTP must answer for .*reference"):
        bare = make_parts(tmp_path / "bare", {"square": 1}, boxes=True)
        http_scores(result.model, bare.records)
