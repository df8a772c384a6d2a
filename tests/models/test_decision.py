import numpy as np
import pytest

from tests.conftest import tiny_card
from twonines.models.card import Policy
from twonines.models.decision import decide, find_regions
from twonines.models.session import Outputs
from twonines.types import Verdict


def outputs(score: float, novelty: float = 0.0) -> Outputs:
    return Outputs(
        np.array([score], np.float32),
        np.array([[1 - score, score]], np.float32),
        np.zeros((1, 4, 4), np.float32),
        np.array([novelty], np.float32),
    )


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.499, Verdict.OK), (0.5, Verdict.NG), (0.501, Verdict.NG)]
)
def test_threshold_belongs_to_ng(score: float, verdict: Verdict) -> None:
    assert decide(outputs(score), tiny_card(), [(8, 8)])[0].verdict is verdict


def test_novelty_is_review_whatever_the_score() -> None:
    card = tiny_card(policy=Policy(threshold=0.5, novelty_limit=1.0))
    assert decide(outputs(0.0, 1.0), card, [(8, 8)])[0].verdict is Verdict.OK
    for score in (0.0, 1.0):
        found = decide(outputs(score, 1.01), card, [(8, 8)])[0]
        assert found.verdict is Verdict.REVIEW
        assert "novelty" in found.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_errors(value: float) -> None:
    for broken in (outputs(value), outputs(0.0, value)):
        assert decide(broken, tiny_card(), [(8, 8)])[0].verdict is Verdict.ERROR


def test_typing_model_never_says_ok() -> None:
    card = tiny_card(classes=("crack", "scratch"))
    found = decide(outputs(1.0), card, [(8, 8)])[0]
    assert found.verdict is Verdict.NG
    assert found.defect_class == "scratch"


def test_regions_in_pixels_of_the_picture() -> None:
    defect_map = np.zeros((4, 4), np.float32)
    defect_map[1:3, 2:4] = 0.8
    defect_map[0, 0] = 0.6
    first, second = find_regions(defect_map, tiny_card(), (40, 80), "scratch")
    assert first.box == (40, 10, 80, 30)
    assert first.area == 800
    assert first.score == pytest.approx(0.8)
    assert second.box == (0, 0, 20, 10)


def test_sizes_must_match() -> None:
    with pytest.raises(ValueError, match="must hold 1 entries, got 0"):
        decide(outputs(0.1), tiny_card(), [])
