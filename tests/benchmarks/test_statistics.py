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


def test_single_looks_keep_the_exact_interval() -> None:
    assert st.clustered_rate([1, 0, 0, 1], [1, 1, 1, 1]) == st.rate(2, 4)
    assert st.effective_size([1, 0, 1], [1, 1, 1]) == 3


def test_repeats_that_always_agree_count_once() -> None:
    # 4 of 20 pictures, each looked at three times with one answer: 20 looks' worth, not 60.
    hits = [3] * 4 + [0] * 16
    found = st.clustered_rate(hits, [3] * 20)
    assert (found.k, found.n) == (12, 60)
    assert st.effective_size(hits, [3] * 20) == pytest.approx(20 * 19 / 20)
    once = st.rate(4, 20)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.05)
    assert st.effective_size([0] * 20, [3] * 20) == 20
    assert st.clustered_rate([], []).low == 0


def test_repeats_that_are_independent_count_each() -> None:
    generator = np.random.default_rng(0)
    hits = generator.binomial(3, 0.3, 4000)
    assert st.effective_size(hits, [3] * 4000) == pytest.approx(12000, rel=0.05)


def test_clustered_interval_covers() -> None:
    generator = np.random.default_rng(2)
    inside = 0
    for _ in range(300):
        chance = generator.beta(1, 3, 40)  # pictures differ, so looks at one are alike
        found = st.clustered_rate(generator.binomial(4, chance), [4] * 40)
        inside += found.low <= 0.25 <= found.high
    assert inside / 300 > 0.92


def test_sensitivity_of_the_textbook() -> None:
    # Stanislaw & Todorov (1999): hit rate 0.8, false-alarm rate 0.4 give d' = 1.095, c = -0.294.
    # Half a look more on either side must vanish where looks are many.
    many = st.detection((800_000, 1_000_000), (400_000, 1_000_000))
    assert many.sensitivity.value == pytest.approx(1.095, abs=5e-4)
    assert many.criterion.value == pytest.approx(-0.294, abs=5e-4)
    # Macmillan & Creelman (2005), table 1.1: 0.69 and 0.31 give d' = 1.0.
    assert st.detection((690_000, 1_000_000), (310_000, 1_000_000)).sensitivity.value == (
        pytest.approx(0.99, abs=0.01)
    )


def test_sensitivity_of_the_perfect_is_finite_and_the_empty_is_unknown() -> None:
    perfect = st.detection((30, 30), (0, 30))
    assert perfect.sensitivity.value == pytest.approx(2 * stats.norm.ppf(30.5 / 31))
    assert perfect.sensitivity.low < perfect.sensitivity.value < perfect.sensitivity.high
    assert np.isnan(st.detection((0, 0), (3, 10)).sensitivity.value)


def test_intervals_of_signal_detection_cover() -> None:
    generator = np.random.default_rng(4)
    d, c = 1.8, 0.4
    caught, overkill = stats.norm.cdf(d / 2 - c), stats.norm.cdf(-d / 2 - c)
    inside = np.zeros(2)
    for _ in range(1000):
        found = st.detection(
            (generator.binomial(60, caught), 60), (generator.binomial(60, overkill), 60)
        )
        inside += [
            found.sensitivity.low <= d <= found.sensitivity.high,
            found.criterion.low <= c <= found.criterion.high,
        ]
    assert (inside / 1000 > 0.93).all()


def test_fewer_independent_looks_widen_the_interval() -> None:
    narrow = st.detection((50, 60), (10, 60))
    wide = st.detection((50, 60), (10, 60), effective=(15, 15))
    assert wide.sensitivity.value == narrow.sensitivity.value
    ratio = (wide.criterion.high - wide.criterion.low) / (
        narrow.criterion.high - narrow.criterion.low
    )
    assert ratio == pytest.approx(2)


def test_median_interval_by_hand() -> None:
    # n = 10: the 2nd and the 9th value hold the median with 97.9 % (tables of the sign test).
    found = st.median_estimate(range(1, 11))
    assert (found.value, found.low, found.high) == (5.5, 2, 9)
    few = st.median_estimate([1.0, 2.0, 3.0, 4.0, 5.0])  # 5 values can bound it with 93.75 % only
    assert (few.low, few.high) == (-np.inf, np.inf)
    assert np.isnan(st.median_estimate([]).value)


def test_two_way_draws_are_as_wide_as_theory() -> None:
    # Answers are a person's level plus a picture's: var of the mean = s2_i / I + s2_p / P.
    generator = np.random.default_rng(0)
    people, pictures = generator.normal(0, 1, 30), generator.normal(0, 2, 200)
    table = people[:, None] + pictures
    draws = st.two_way_draws(
        lambda i, p: table[np.ix_(i, p)].mean(), 30, np.arange(200) < 100, seed=1, repeats=2000
    )
    sides = (pictures[:100].var() + pictures[100:].var()) / 2 / 200
    assert draws.std() == pytest.approx(np.sqrt(people.var() / 30 + sides), rel=0.06)


def test_mean_of_what_is_there() -> None:
    table = np.array([[1.0, np.nan], [3.0, np.nan]])
    assert st.nan_mean(table).item() == 2
    columns = st.nan_mean(table, 0)
    assert columns[0] == 2 and np.isnan(columns[1])
