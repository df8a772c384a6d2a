import math

import numpy as np
import pytest
from scipy import optimize, stats

from twonines.benchmarks import comparison as cp
from twonines.benchmarks.crew import Crew, sensitivity_table
from twonines.benchmarks.statistics import Estimate
from twonines.errors import SettingsError


def test_tango_of_published_data() -> None:
    # Airway reactivity, Fagerland, Lydersen & Laake 2014: 1 and 7 of 21 differ, -0.517 to -0.026.
    low, high = cp.tango(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


def slow_score(d: float, b: int, c: int, n: int) -> float:
    """Tango's statistic with the constrained likelihood maximised by brute force."""

    def loss(q: float) -> float:  # q: share of "only second"; q + d: of "only first"
        rest = 1 - 2 * q - d
        return -float(b * np.log(q + d) + c * np.log(q) + (n - b - c) * np.log(rest))

    edge = 1e-12
    low, high = max(0.0, -d) + edge, (1 - d) / 2 - edge
    q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded",
                                 options={"xatol": 1e-12}).x  # fmt: skip
    return float((b - c - n * d) / math.sqrt(n * (2 * float(q) + d - d * d)))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 3, 60), (5, 1, 30), (40, 25, 500)])
def test_tango_solves_its_definition(b: int, c: int, n: int) -> None:
    low, high = cp.tango(b, c, n)
    assert slow_score(low, b, c, n) == pytest.approx(1.959964, abs=1e-3)
    assert slow_score(high, b, c, n) == pytest.approx(-1.959964, abs=1e-3)
    assert cp.tango(c, b, n) == pytest.approx((-high, -low))


def test_tango_at_the_ends_by_hand() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    # No pair differs: the score is sqrt(n d / (1 - d)) at its far side.
    assert cp.tango(0, 0, 20) == pytest.approx((-z2 / (20 + z2), z2 / (20 + z2)))
    # All differ one way: sqrt(n (1 - d) / (1 + d)) = z.
    low, high = cp.tango(5, 0, 5)
    assert (low, high) == pytest.approx(((5 - z2) / (5 + z2), 1.0))
    assert cp.tango(0, 5, 5)[0] == -1
    assert cp.tango(0, 0, 0) == (-1, 1)
    with pytest.raises(ValueError, match="n: must be at least"):
        cp.tango(3, 3, 5)


def test_mcnemar_by_hand_and_by_the_textbook() -> None:
    # Agresti, approval of the prime minister: 150 and 86 differ, z^2 = 17.36.
    assert cp.mcnemar(86, 150) == pytest.approx(stats.chi2.sf(17.356, 1), rel=0.25)
    assert cp.mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    assert cp.mcnemar(0, 0) == 1


def test_pairs() -> None:
    model = [True, True, True, False, False]
    people = [True, False, False, True, False]
    found = cp.compare_pairs(model, people)
    assert (found.both_right, found.only_model, found.only_people, found.both_wrong) == (1, 2, 1, 1)
    assert found.difference.value == pytest.approx(0.2)
    with pytest.raises(ValueError, match="people_right: must have the shape"):
        cp.compare_pairs(model, people[:3])


@pytest.mark.parametrize(
    ("low", "high", "non_inferior", "superior"),
    [
        (0.01, 0.05, "met", "met"),
        (0.0, 0.05, "met", "not shown by this much data"),
        (-0.019, 0.05, "met", "not shown by this much data"),
        (-0.02, 0.05, "not shown by this much data", "not shown by this much data"),
        (-0.019, -0.001, "met", "not met"),
        (-0.1, -0.03, "not met", "not met"),
        (-0.1, 0.0, "not shown by this much data", "not met"),
    ],
)
def test_non_inferiority_comes_first(
    low: float, high: float, non_inferior: str, superior: str
) -> None:
    found = cp.verdict(Estimate((low + high) / 2, 100, low, high), 0.02)
    assert (found["non_inferior"], found["superior"]) == (non_inferior, superior)


def test_margin_is_checked() -> None:
    with pytest.raises(SettingsError, match="margin"):
        cp.verdict(Estimate(0, 1, 0, 0), 1.0)


def test_rates_by_hand() -> None:
    defective = np.array([True, True, False, False])
    rejected = np.array([[[1, 1], [0, 1], [0, np.nan], [1, 0]]], float)
    accuracy, balanced, escape, overkill = cp.rates(rejected, defective)[:, 0]
    assert (escape, overkill) == (0.25, pytest.approx(1 / 3))
    assert accuracy == pytest.approx(5 / 7)
    assert balanced == pytest.approx(1 - (0.25 + 1 / 3) / 2)


def study(people_error: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    defective = np.arange(200) < 100
    wrong = np.random.default_rng(seed).random((3, 200, 1)) < people_error
    return np.where(wrong, ~defective[None, :, None], defective[None, :, None]) * 1.0, defective


def test_a_better_model_is_shown_and_a_worse_one_too() -> None:
    rejected, defective = study(0.15)
    names = ["a", "b", "c"]
    perfect = cp.compare_with_people(defective, rejected, defective, names, margin=0.02)
    assert perfect["verdict"]["superior"] == "met"
    assert perfect["model"]["accuracy"]["value"] == 1
    people = 1 - np.mean(rejected != defective[None, :, None])
    assert perfect["difference"]["accuracy"]["value"] == pytest.approx(1 - people)
    assert all(row["p_value"] < 0.001 for row in perfect["by_inspector"])
    # No error in 200 shows no infinite factor.
    factor = perfect["error_reduction"]
    assert factor["value"] == pytest.approx((1 - people) / (0.5 / 201))
    assert 4 < factor["low"] < factor["value"] < factor["high"] < np.inf
    poor = np.where(np.arange(200) % 3 == 0, ~defective, defective)
    worse = cp.compare_with_people(poor, rejected, defective, names, margin=0.02)
    assert worse["verdict"]["non_inferior"] == "not met"
    assert worse["difference"]["escape_rate"]["value"] > 0


def test_accepting_everything_is_not_superior_where_defects_are_rare() -> None:
    defective = np.arange(400) < 8
    people = np.repeat(defective[None, :, None].astype(float), 3, 0)
    people[:, 8:40] = 1  # careful people: they reject 32 good ones
    found = cp.compare_with_people(
        np.zeros(400, bool), people, defective, ["a", "b", "c"], margin=0.02
    )
    assert found["verdict"]["accuracy"]["superior"] == "met"
    assert found["verdict"]["superior"] == "not met"


def test_the_same_looks_are_compared() -> None:
    rejected, defective = study(0.1)
    rejected[0, :50] = np.nan  # one saw less; the model is counted over the same
    found = cp.compare_with_people(rejected, rejected, defective, ["a", "b", "c"], margin=0.02)
    assert found["difference"]["accuracy"] == {"value": 0, "n": 200, "low": 0, "high": 0}
    assert [row["difference"]["n"] for row in found["by_inspector"]] == [150, 200, 200]
    # A model that errs only where the first did not look: all right beside that person.
    errs = np.where(np.arange(200) < 50, ~defective, defective)
    found = cp.compare_with_people(errs, rejected, defective, ["a", "b", "c"], margin=0.02)
    assert found["model"]["accuracy"]["value"] == pytest.approx((1 + 0.75 + 0.75) / 3)
    rejected[1] = np.nan
    with pytest.raises(ValueError, match="got none of b"):
        cp.compare_with_people(defective, rejected, defective, ["a", "b", "c"], margin=0.02)


def test_interval_of_the_difference_covers() -> None:
    names = [str(i) for i in range(6)]
    inside = 0
    for seed in range(25):
        generator = np.random.default_rng(seed)
        defective = np.arange(80) < 40
        level = generator.normal(0.85, 0.05, 6)[:, None] + generator.normal(0, 0.1, 80)
        wrong = generator.random((6, 80)) > level
        people = np.where(wrong, ~defective, defective)[:, :, None] * 1.0
        model = np.where(generator.random(80) > 0.95, ~defective, defective)
        found = cp.compare_with_people(
            model, people, defective, names, margin=0.02, seed=seed, repeats=200
        )
        difference = found["difference"]["accuracy"]
        expected = 0.95 - np.clip(level, 0, 1).mean()  # these people on these pictures, nearly
        inside += difference["low"] <= expected <= difference["high"]
    assert inside >= 22


def test_conclusion_at_other_manual_accuracies() -> None:
    defective = np.arange(1000) < 500
    model = np.where(np.arange(1000) % 50 == 0, ~defective, defective)  # 98 %
    rows = cp.compare_with_model_of_people(model, defective, sensitivity_table(Crew()), margin=0.02)
    assert [row["manual_accuracy"] for row in rows] == [0.80, 0.85, 0.90, 0.95]
    assert rows[2]["difference"]["value"] == pytest.approx(0.08)
    assert rows[2]["error_reduction"]["value"] == pytest.approx(5)
    assert rows[2]["error_reduction"]["low"] < 5 < rows[2]["error_reduction"]["high"]
    assert all(row["verdict"]["superior"] == "met" for row in rows)
