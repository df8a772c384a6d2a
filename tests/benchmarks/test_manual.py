import numpy as np
import pytest

from twonines.benchmarks.manual import SOURCES, Inspector
from twonines.errors import SettingsError


@pytest.mark.parametrize("criterion", [-0.5, 0.0, 0.66])
@pytest.mark.parametrize("accuracy", [0.8, 0.9, 0.95])
def test_accuracy_at_equal_shares_is_what_was_asked(accuracy: float, criterion: float) -> None:
    assert Inspector(accuracy=accuracy, criterion=criterion).accuracy_at(0.5) == pytest.approx(
        accuracy
    )


def test_schoonard_comes_back() -> None:
    # 23 % of bad accepted, 2 % of good rejected: d' = 2.79, c = +0.66.
    inspector = Inspector(accuracy=0.875, lapse=0, criterion=0.6575)
    assert inspector.sensitivity == pytest.approx(2.79, abs=0.02)
    assert inspector.escape_rate == pytest.approx(0.23, abs=0.003)
    assert inspector.overkill_rate == pytest.approx(0.02, abs=0.003)


def test_without_leaning_the_mix_does_not_matter() -> None:
    inspector = Inspector(accuracy=0.9)
    assert inspector.accuracy_at(0.01) == pytest.approx(0.9)
    assert inspector.escape_rate == pytest.approx(inspector.overkill_rate)
    assert Inspector(accuracy=0.9, criterion=0.66).accuracy_at(0.01) > 0.95


def test_times_are_log_normal() -> None:
    inspector = Inspector(seconds=12.0, spread=0.4)
    drawn = inspector.draw_seconds(20000, seed=1)
    assert np.median(drawn) == pytest.approx(12.0, rel=0.02)
    assert np.mean(drawn) == pytest.approx(inspector.mean_seconds, rel=0.02)
    assert drawn == inspector.draw_seconds(20000, seed=1)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"accuracy": 0.5}, "manual_accuracy"),
        ({"accuracy": 1.0}, "manual_accuracy"),
        ({"accuracy": float("nan")}, "manual_accuracy"),
        ({"seconds": 0.0}, "manual_seconds"),
        ({"lapse": 1.0}, "lapse"),
        ({"spread": -1.0}, "spread"),
        ({"criterion": 9.0}, "criterion"),
    ],
)
def test_impossible_inspectors(changes: dict[str, float], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Inspector(**changes)


def test_every_default_has_its_source() -> None:
    inspector = Inspector()
    for source in SOURCES:
        assert getattr(inspector, source.parameter) == source.value
        assert source.citation and source.status in ("confirmed", "secondary", "unverified")
    assert {s.parameter for s in SOURCES} == {
        "accuracy", "seconds", "lapse", "criterion", "spread"
    }  # fmt: skip


def test_a_value_of_the_callers_does_not_borrow_the_citation() -> None:
    sources = {s["parameter"]: s for s in Inspector(accuracy=0.8).summary(0.3)["sources"]}
    assert sources["accuracy"]["citation"] == "Given by the user of this report."
    assert sources["accuracy"]["value"] == 0.8
    assert "Ghylin" in sources["seconds"]["citation"]
