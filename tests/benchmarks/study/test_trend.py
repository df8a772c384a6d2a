import numpy as np
import pytest
from scipy import stats

from twonines.benchmarks.statistics import Bools, Floats
from twonines.benchmarks.study.trend import fit_trend


def test_slopes_come_back() -> None:
    number = np.tile(np.arange(1, 201), 2)
    since, who = (number - 1) % 50, np.repeat([0, 1], 200)
    values = 3 * who - 0.1 * np.log2(number) + 0.5 * since / 100
    found = fit_trend(values, number, since, who)
    assert found.learning.value == pytest.approx(-0.1)
    assert found.fatigue.value == pytest.approx(0.5)


def test_intervals_cover_and_are_as_wide_as_plain_regression() -> None:
    generator = np.random.default_rng(0)
    number = np.arange(1, 121)
    since, who = (number - 1) % 40, np.zeros(120)
    inside = np.zeros(2)
    for _ in range(300):
        values = 0.05 * np.log2(number) - 0.2 * since / 100 + generator.normal(0, 0.4, 120)
        found = fit_trend(values, number, since, who)
        inside += [
            found.learning.low <= 0.05 <= found.learning.high,
            found.fatigue.low <= -0.2 <= found.fatigue.high,
        ]
    assert (np.abs(inside / 300 - 0.95) < 0.04).all()
    # Against scipy where the second slope has nothing to say: since is independent of number.
    since = generator.permutation(since)
    values = generator.normal(0, 1, 120)
    found = fit_trend(values, number, since, who)
    plain = stats.linregress(np.log2(number), values)
    half = (found.learning.high - found.learning.low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 117) * plain.stderr, rel=0.25)


def test_what_cannot_be_told_is_not_told() -> None:
    few = fit_trend([1, 2, 3], [1, 2, 3], [0, 1, 2], [0, 0, 0])
    assert np.isnan(few.learning.value)
    number = np.arange(1, 60)
    same = fit_trend(number * 1.0, number, np.zeros(59), np.zeros(59))
    assert np.isnan(same.fatigue.value)


def test_spread_is_that_of_leaving_one_out() -> None:
    # HC3 is the sum of squares of the changes when each look is left out in turn.
    generator = np.random.default_rng(1)
    number, since = np.arange(1, 13), np.arange(12) % 5
    values, who = generator.normal(0, 1, 12), np.zeros(12)
    design = np.stack([np.log2(number), since / 100, np.ones(12)], 1)

    def slopes(kept: Bools) -> Floats:
        return np.asarray(np.linalg.lstsq(design[kept], values[kept], rcond=None)[0], np.float64)

    whole = slopes(np.ones(12, bool))
    changes = np.stack([slopes(np.arange(12) != i) - whole for i in range(12)])
    half = stats.t.ppf(0.975, 9) * np.sqrt(np.sum(changes**2, 0))
    found = fit_trend(values, number, since, who)
    assert (found.learning.high - found.learning.low) / 2 == pytest.approx(half[0])
    assert (found.fatigue.high - found.fatigue.low) / 2 == pytest.approx(half[1])
