"""A model against people on the same pictures.

Convention: answers of people are one array ``rejected`` (I, P, R) float64 as in ``agreement``.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from twonines.benchmarks.claims import Answer, judge, weakest
from twonines.benchmarks.statistics import (
    Bools,
    Estimate,
    Floats,
    balanced_accuracy,
    nan_mean,
    percentile_estimate,
    two_way_draws,
)
from twonines.errors import SettingsError

_FIGURES = ("accuracy", "balanced_accuracy", "escape_rate", "overkill_rate")


def tango(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Tango's score interval (1998) of a difference of paired shares, first less second.

    Args:
        only_first: pairs on which only the first was right.
        only_second: pairs on which only the second was right.
        n: all pairs.
        confidence: of the interval, in (0, 1).
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ValueError(
            f"n: must be at least only_first + only_second and none negative, got {n}, "
            f"{only_first} and {only_second}"
        )
    if not n:
        return -1.0, 1.0
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    b, c = only_first, only_second

    def score(d: float) -> float:
        # q is the constrained maximum-likelihood share of the pairs that only the second has.
        linear = -b - c + (2 * n - b + c) * d
        root = np.sqrt(max(0.0, linear**2 + 8 * n * c * d * (1 - d)))
        q = (root - linear) / (4 * n)
        variance = n * max(0.0, 2 * q + d * (1 - d))
        gap = b - c - n * d
        return float(gap / np.sqrt(variance)) if variance > 0 else float(np.sign(gap) * np.inf)

    centre, edge = (b - c) / n, 1 - 1e-12

    def solve(target: float, first: float, last: float) -> float:
        # Bounded, for brentq wants finite values at the ends.
        def gap(d: float) -> float:
            return float(np.clip(score(d) - target, -1e6, 1e6))

        return float(optimize.brentq(gap, first, last, xtol=1e-12))

    low = -1.0 if centre == -1 else solve(z, -edge, min(edge, centre + 1e-12))
    high = 1.0 if centre == 1 else solve(-z, max(-edge, centre - 1e-12), edge)
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided P value of McNemar's test; 1 where no pair differs."""
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0


@dataclass(frozen=True, slots=True)
class Paired:
    """Two sets of right and wrong over the same pictures; the difference is model less people."""

    both_right: int
    only_model: int
    only_people: int
    both_wrong: int
    difference: Estimate
    p_value: float


def compare_pairs(model_right: npt.ArrayLike, people_right: npt.ArrayLike) -> Paired:
    """Exact McNemar and Tango's interval; one look per picture, (N,) bool each."""
    model, people = np.asarray(model_right, bool), np.asarray(people_right, bool)
    if model.shape != people.shape or model.ndim != 1:
        raise ValueError(
            f"people_right: must have the shape of model_right {model.shape}, got {people.shape}"
        )
    b, c, n = int(np.sum(model & ~people)), int(np.sum(~model & people)), len(model)
    low, high = tango(b, c, n)
    value = (b - c) / n if n else float("nan")
    return Paired(
        both_right=int(np.sum(model & people)),
        only_model=b,
        only_people=c,
        both_wrong=int(np.sum(~model & ~people)),
        difference=Estimate(value, n, low, high),
        p_value=mcnemar(b, c),
    )


def verdict(difference: Estimate, margin: float) -> dict[str, Any]:
    """Non-inferiority, then superiority, by one interval; no price for testing both in turn.

    Args:
        difference: model less people of a figure that should be high.
        margin: how much worse would still do; fixed before anybody looked.

    Returns:
        ``margin``, ``non_inferior`` and ``superior``; the second is only asked where the first
        was met.
    """
    if not 0 <= margin < 1:
        raise SettingsError(f"margin: must lie in [0, 1), got {margin}")
    first = judge(difference.low, difference.high, -margin, strict=True)
    second: Answer = judge(difference.low, difference.high, 0.0, strict=True)
    return {"margin": margin, "non_inferior": first,
            "superior": second if first == "met" else weakest([first, second])}  # fmt: skip


def rates(rejected: Floats, defective: Bools) -> Floats:
    """Accuracy, balanced accuracy, escape and overkill rate of each inspector.

    Args:
        rejected: (I, P, R) answers; NaN looks are left out.
        defective: (P,) the truth.

    Returns:
        (4, I) float64; NaN where there are no looks.
    """
    looked = ~np.isnan(rejected)
    wrong = looked & (rejected != defective[None, :, None])
    counts = [
        (side[:, picked].sum((1, 2)).astype(np.float64))
        for picked in (defective, ~defective)
        for side in (wrong, looked)
    ]
    missed, bad, false, good = (np.asarray(c) for c in counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        escape, overkill = missed / bad, false / good
        accuracy = 1 - (missed + false) / (bad + good)
    return np.stack([accuracy, 1 - (escape + overkill) / 2, escape, overkill])


def compare_with_people(
    model_rejected: npt.ArrayLike,
    rejected: Floats,
    defective: Bools,
    inspectors: list[str],
    *,
    margin: float,
    seed: int = 0,
    repeats: int = 1000,
) -> dict[str, Any]:
    """A model against several inspectors on the same pictures, as plain types.

    Args:
        model_rejected: (P,) bool, or (I, P, R) like ``rejected`` where people share in it.
        rejected: (I, P, R) answers of people.
        defective: (P,) the truth.
        inspectors: I names.
        margin: of non-inferiority, a share; fixed before.
        seed: seeds the bootstrap over inspectors and pictures.
        repeats: draws of it.

    Returns:
        ``model``, ``people`` (mean inspector) and ``difference`` of each of the four figures with
        intervals; ``by_inspector`` with exact McNemar on first looks; ``verdict`` on accuracy and
        on balanced accuracy, and the weaker of both; ``error_reduction``.
    """
    machine = np.asarray(model_rejected, np.float64)
    machine = np.broadcast_to(machine[None, :, None], rejected.shape) if machine.ndim == 1 else (
        machine)  # fmt: skip
    # Both are counted over the same looks.
    machine = np.where(np.isnan(rejected), np.nan, machine)

    def figures(people: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp]) -> Floats:
        pick = np.ix_(people, chosen)
        theirs = nan_mean(rates(rejected[pick], defective[chosen]), 1)
        ours = nan_mean(rates(machine[pick], defective[chosen]), 1)
        return np.concatenate([ours, theirs, ours - theirs])

    _check_looks(rejected, inspectors)
    everyone, everything = np.arange(len(inspectors)), np.arange(len(defective))
    values = figures(everyone, everything)
    draws = two_way_draws(figures, len(inspectors), defective, seed=seed, repeats=repeats)
    n = len(defective)
    estimates = [percentile_estimate(v, draws[:, i], n) for i, v in enumerate(values.tolist())]
    kinds = ("model", "people", "difference")
    result: dict[str, Any] = {
        kind: {name: asdict(estimates[4 * k + i]) for i, name in enumerate(_FIGURES)}
        for k, kind in enumerate(kinds)
    }
    verdicts = {name: verdict(estimates[8 + i], margin) for i, name in enumerate(_FIGURES[:2])}
    result["verdict"] = {
        **verdicts,
        "margin": margin,
        "non_inferior": weakest([v["non_inferior"] for v in verdicts.values()]),
        "superior": weakest([v["superior"] for v in verdicts.values()]),
    }
    result["by_inspector"] = [
        {"inspector": name, **asdict(_first_looks(machine[i], rejected[i], defective))}
        for i, name in enumerate(inspectors)
    ]
    wrong = float(np.mean((machine != defective[None, :, None])[~np.isnan(machine)])) * n
    result["error_reduction"] = asdict(
        error_reduction(wrong, n, 1 - draws[:, 4], 1 - float(values[4]), seed=seed)
    )
    return result


def _check_looks(rejected: Floats, inspectors: list[str]) -> None:
    for answers, name in zip(rejected, inspectors, strict=True):
        if np.isnan(answers).all():
            raise ValueError(f"rejected: every inspector must have looked, got none of {name}")


def _first_looks(machine: Floats, rejected: Floats, defective: Bools) -> Paired:
    seen = ~np.isnan(rejected[:, 0])
    return compare_pairs((machine[:, 0] == defective)[seen], (rejected[:, 0] == defective)[seen])


def error_reduction(
    model_errors: float, n: int, people_draws: Floats, people_error: float, *, seed: int = 0
) -> Estimate:
    """How many times fewer errors the model makes: people's error rate over the model's.

    The model's rate is drawn from its posterior under Jeffreys' prior, so that no error in few
    pictures gives a wide interval and no infinite factor; the value adds half an error as that
    prior does. Model and people are drawn apart although they saw the same pictures, which makes
    the interval somewhat too wide.

    Args:
        model_errors: wrong answers of the model.
        n: pictures.
        people_draws: bootstrap draws of the people's error rate.
        people_error: their error rate.
        seed: seeds the draws.
    """
    generator = np.random.default_rng(seed)
    model = generator.beta(model_errors + 0.5, n - model_errors + 0.5, len(people_draws))
    value = people_error / ((model_errors + 0.5) / (n + 1))
    return percentile_estimate(value, people_draws / model, n)


def compare_with_model_of_people(
    model_rejected: npt.ArrayLike,
    defective: npt.ArrayLike,
    people: list[dict[str, Any]],
    *,
    margin: float,
) -> list[dict[str, Any]]:
    """The conclusion at several modelled manual accuracies, as plain types.

    The people's figures are inputs without an interval; only the model's pictures vary.

    Args:
        model_rejected: (P,) bool.
        defective: (P,) the truth.
        people: rows of ``crew.sensitivity_table``.
        margin: of non-inferiority, a share; fixed before.

    Returns:
        For each row ``manual_accuracy``, ``difference`` in balanced accuracy, ``verdict`` and
        ``error_reduction`` (people's balanced error over the model's; its interval follows from
        that of the model).
    """
    ours = balanced_accuracy(defective, model_rejected)
    rows = []
    for row in people:
        theirs = row["balanced_accuracy"]
        difference = Estimate(ours.value - theirs, ours.n, ours.low - theirs, ours.high - theirs)
        factor = [
            (1 - theirs) / (1 - share) if share < 1 else float("inf")
            for share in (ours.value, ours.low, ours.high)
        ]
        rows.append(
            {
                "manual_accuracy": row["manual_accuracy"],
                "difference": asdict(difference),
                "verdict": verdict(difference, margin),
                "error_reduction": asdict(Estimate(factor[0], ours.n, factor[1], factor[2])),
            }
        )
    return rows
