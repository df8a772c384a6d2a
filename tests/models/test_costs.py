import itertools

import numpy as np
import pytest

from twonines.models.card import ClassRule, Policy
from twonines.models.costs import Costs, cheapest_thresholds, severities


def slow_cost(
    scores: np.ndarray, truth: np.ndarray, costs: Costs, weight: np.ndarray, a: float, t: float
) -> float:
    bad, good = scores[truth], scores[~truth]
    p = costs.prevalence
    escapes = float((weight[truth] * (bad < a)).mean())
    middle = p * ((bad >= a) & (bad < t)).mean() + (1 - p) * ((good >= a) & (good < t)).mean()
    return (
        p * costs.escape * escapes + costs.review * float(middle)
        + (1 - p) * costs.overkill * float((good >= t).mean())
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_against_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.arange(30) % 3 == 0
    scores = np.clip(rng.normal(np.where(truth, 0.6, 0.4), 0.2), 0, 1).round(2)
    weight = np.where(np.arange(30) % 2, 1.0, 5.0)
    costs = Costs(*rng.uniform(0, [50, 5, 1, 1]).tolist())
    a, t, cost = cheapest_thresholds(scores, truth, costs, weight)
    assert a <= t
    cuts = np.unique([0.0, 1.0, *scores])
    best = min(
        slow_cost(scores, truth, costs, weight, x, y)
        for x, y in itertools.product(cuts, cuts) if x <= y
    )  # fmt: skip
    assert cost == pytest.approx(best)
    assert slow_cost(scores, truth, costs, weight, a, t) == pytest.approx(best)


def test_dear_escapes_and_cheap_reviews_accept_nothing_that_could_be_bad() -> None:
    truth, scores = np.array([0, 0, 1, 0, 1, 1], bool), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    accept, reject, _ = cheapest_thresholds(scores, truth, Costs(1000, 10, 1, 0.5))
    assert accept == 0.3 and reject == 0.5


def test_refusals() -> None:
    with pytest.raises(ValueError, match="good and defective"):
        cheapest_thresholds([0.1], [True], Costs(1, 1, 1, 0.5))
    with pytest.raises(ValueError, match=r"scores: must lie in \[0, 1\]"):
        cheapest_thresholds([0.1, np.nan], [True, False], Costs(1, 1, 1, 0.5))
    with pytest.raises(ValueError, match="escape: must be at least 0"):
        Costs(-1, 1, 1, 0.5)
    with pytest.raises(ValueError, match="prevalence"):
        Costs(1, 1, 1, 1.5)


def test_severity_of_the_class() -> None:
    policy = Policy(threshold=0.5, class_rules={"crack": ClassRule(severity=10)})
    assert severities(["good", "crack", "dent"], policy).tolist() == [1, 10, 1]
