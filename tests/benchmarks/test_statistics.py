from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from twonines.benchmarks import statistics as st


def slow_auroc(truth: list[bool], scores: list[float]) -> float:
    bad = [s for s, t in zip(scores, truth, strict=True) if t]
    good = [s for s, t in zip(scores, truth, strict=True) if not t]
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    return wins / (len(bad) * len(good))


def test_clopper_pearson_solves_its_definition() -> None:
    low, high = st.clopper_pearson(3, 50)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.025)
    assert stats.binom.cdf(3, 50, high) == pytest.approx(0.025)


def test_clopper_pearson_at_the_ends_by_hand() -> None:
    # No error in n: the upper end solves (1 - p)^n = 0.025.
    assert list(st.clopper_pearson(0, 299)) == pytest.approx([0.0, 1 - 0.025 ** (1 / 299)])
    assert list(st.clopper_pearson(299, 299)) == pytest.approx([0.025 ** (1 / 299), 1.0])
    # 299 pictures without an error show at most 1 % one-sided, the classic figure.
    assert st.clopper_pearson(0, 299, 0.90)[1] == pytest.approx(0.01, abs=1e-4)


def test_wilson_by_hand() -> None:
    # 8 of 10, z^2 = 3.841459: centre 0.992073 / 1.384146, half width 0.313632 / 1.384146.
    assert list(st.wilson(8, 10)) == pytest.approx([0.49016, 0.94332], abs=1e-5)
    low, high = st.wilson(8, 10)
    z = stats.norm.ppf(0.975)
    for end in (low, high):
        assert abs(0.8 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 10))


@pytest.mark.parametrize("interval", [st.wilson, st.clopper_pearson])
def test_intervals_without_data_say_nothing(interval: object) -> None:
    assert callable(interval)
    assert interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="k: must lie"):
        interval(3, 2)


def test_rates_by_hand() -> None:
    defective = [True, True, True, True, False, False]
    rejected = [True, True, True, False, True, False]
    assert (st.accuracy(defective, rejected).k, st.accuracy(defective, rejected).n) == (4, 6)
    assert st.escape_rate(defective, rejected).value == 0.25
    assert st.overkill_rate(defective, rejected).value == 0.5
    assert st.balanced_accuracy(defective, rejected).value == 0.625
    assert st.weighted_accuracy(
        st.escape_rate(defective, rejected), st.overkill_rate(defective, rejected), 0.1
    ).value == pytest.approx(0.1 * 0.75 + 0.9 * 0.5)


def test_weighted_accuracy_at_the_ends_is_wilsons_interval() -> None:
    escapes, overkill = st.rate(0, 20), st.rate(3, 40)
    one = st.weighted_accuracy(escapes, overkill, 1.0)
    low, high = st.wilson(0, 20)
    assert [one.low, one.high] == pytest.approx([1 - high, 1 - low])
    low, high = st.wilson(3, 40)
    none = st.weighted_accuracy(escapes, overkill, 0.0)
    assert [none.low, none.high] == pytest.approx([1 - high, 1 - low])


def test_balanced_interval_covers() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        escapes = st.rate(int(generator.binomial(60, 0.1)), 60)
        overkill = st.rate(int(generator.binomial(120, 0.05)), 120)
        found = st.weighted_accuracy(escapes, overkill, 0.5)
        inside += found.low <= 0.925 <= found.high
    assert inside / 400 > 0.92


@pytest.mark.parametrize("seed", range(5))
def test_ranking_figures_against_sklearn_and_pairs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.random(80) < 0.4
    scores = np.round(generator.random(80) + 0.3 * truth, 1)  # rounding makes ties
    assert st.auroc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert st.auroc(truth, scores) == pytest.approx(slow_auroc(truth.tolist(), scores.tolist()))
    assert st.average_precision(truth, scores) == pytest.approx(
        metrics.average_precision_score(truth, scores)
    )
    x, y = st.roc(truth, scores)
    area = sum(
        (b - a) * (c + d) / 2 for (a, b), (c, d) in zip(pairwise(x), pairwise(y), strict=True)
    )
    assert area == pytest.approx(st.auroc(truth, scores))


def test_bootstrap_is_seeded_and_holds_the_value() -> None:
    generator = np.random.default_rng(3)
    truth = generator.random(100) < 0.5
    scores = generator.random(100) + 0.5 * truth
    one = st.bootstrap(truth, scores, "auroc", seed=7, repeats=200)
    assert one == st.bootstrap(truth, scores, "auroc", seed=7, repeats=200)
    assert one != st.bootstrap(truth, scores, "auroc", seed=8, repeats=200)
    assert one.low < one.value < one.high


def delong_error(truth: st.Bools, scores: st.Floats) -> float:
    """Standard error of the AUROC by DeLong's placements, independent of any drawing."""
    bad, good = scores[truth], scores[~truth]
    above = (bad[:, None] > good).astype(float) + 0.5 * (bad[:, None] == good)
    return float(
        np.sqrt(above.mean(1).var(ddof=1) / len(bad) + above.mean(0).var(ddof=1) / len(good))
    )


@pytest.mark.parametrize(("bad", "good"), [(150, 150), (400, 30), (30, 400)])
def test_bootstrap_is_as_wide_as_95_percent_are(bad: int, good: int) -> None:
    # With few of one side nearly all of the spread comes from them: both sides must be drawn.
    generator = np.random.default_rng(5)
    truth = np.arange(bad + good) < bad
    scores = generator.normal(size=bad + good) + truth
    found = st.bootstrap(truth, scores, "auroc", repeats=2000)
    wide = (found.high - found.low) / delong_error(truth, scores)
    assert wide == pytest.approx(2 * 1.96, rel=0.07)  # 90 % would be 2 * 1.645


def test_one_sided_data_have_no_ranking() -> None:
    assert np.isnan(st.auroc([True, True], [0.1, 0.2]))
    assert np.isnan(st.average_precision([False], [0.1]))
    assert np.isnan(st.bootstrap([True, True], [0.1, 0.2], "auroc").low)


def test_calibration_error_by_hand() -> None:
    # Bin 0.9: scores 0.95, half defective, gap 0.45; bin 0.1: gap 0.15; two pictures each.
    truth, scores = [True, False, False, False], [0.95, 0.95, 0.15, 0.15]
    assert st.expected_calibration_error(truth, scores) == pytest.approx(0.30)
    assert st.expected_calibration_error([True], [1.0]) == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="scores: must have the shape"):
        st.auroc([True, False], [0.5])
