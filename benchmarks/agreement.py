"""Agreement of inspectors: kappa, the attribute study of AIAG, and Knapp's reject zone.

Convention: answers are one array ``rejected`` (I, P, R) float64: inspectors, pictures, repeats; 1
where the part was rejected, 0 where it was accepted, NaN where nobody looked.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twonines.benchmarks.statistics import (
    Bools,
    Estimate,
    Floats,
    Rate,
    clustered_rate,
    percentile_estimate,
    rate,
    two_way_draws,
)

Grade = Literal["accept", "marginal", "reject", "not known"]
_GRADES: tuple[Grade, ...] = ("accept", "marginal", "not known", "reject")

EFFECTIVENESS, MISS, FALSE_ALARM = (0.90, 0.80), (0.02, 0.05), (0.05, 0.10)
"""AIAG MSA, 4th edition: the limits of acceptable and of marginal for each of the three rates."""
KAPPA_GOOD, KAPPA_POOR = 0.75, 0.40
"""AIAG MSA, 4th edition: above the first agreement is good, below the second poor."""
REJECT_ZONE, ACCEPT_ZONE = 0.7, 0.3
"""Knapp: parts that at least 7 in 10 looks reject must be rejected; those below 3 in 10 pass."""


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Cohen's kappa of two raters over the same parts; NaN where both always say one thing.

    Args:
        first: (N,) answers; NaN leaves the pair out.
        second: (N,) answers.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"second: must have the shape of first {a.shape}, got {b.shape}")
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if not len(a):
        return float("nan")
    observed = float(np.mean(a == b))
    chance = sum(float(np.mean(a == c) * np.mean(b == c)) for c in np.union1d(a, b))
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Fleiss' kappa (1971); NaN where all answers are one.

    Args:
        counts: (parts, categories) how many raters chose each; a part needs two ratings, and
            parts may differ in their number of ratings.
    """
    table = np.asarray(counts, np.float64)
    table = table[table.sum(1) >= 2]
    if not len(table):
        return float("nan")
    raters = table.sum(1)
    agreeing = (np.sum(table**2, 1) - raters) / (raters * (raters - 1))
    shares = table.sum(0) / table.sum()
    chance = float(np.sum(shares**2))
    return (float(np.mean(agreeing)) - chance) / (1 - chance) if chance < 1 else float("nan")


def _binary_counts(answers: Floats) -> Floats:
    """(P, K) answers to (P, 2) counts of rejected and accepted."""
    return np.stack([np.sum(answers == 1, 1), np.sum(answers == 0, 1)], 1).astype(np.float64)


def within_kappa(answers: Floats) -> float:
    """Agreement of an inspector's repeats; (P, R)."""
    return fleiss_kappa(_binary_counts(answers))


def between_kappa(rejected: Floats) -> float:
    """Fleiss' kappa of the inspectors, each repeat apart, mean over repeats; (I, P, R)."""
    found = [fleiss_kappa(_binary_counts(rejected[:, :, r].T)) for r in range(rejected.shape[2])]
    kept = [k for k in found if not np.isnan(k)]
    return float(np.mean(kept)) if kept else float("nan")


def reference_kappa(answers: Floats, defective: Bools) -> float:
    """Cohen's kappa of all of an inspector's looks with the truth; (P, R), (P,)."""
    truth = np.repeat(defective[:, None], answers.shape[1], 1)
    return cohen_kappa(answers.ravel(), truth.ravel().astype(np.float64))


def grade_high(value: float, limits: tuple[float, float]) -> Grade:
    """Grade of a figure that should be high; a figure on a limit has reached it."""
    if np.isnan(value):
        return "not known"
    return "accept" if value >= limits[0] else "marginal" if value >= limits[1] else "reject"


def grade_low(value: float, limits: tuple[float, float]) -> Grade:
    """Grade of a figure that should be low; a figure on a limit has reached it."""
    if np.isnan(value):
        return "not known"
    return "accept" if value <= limits[0] else "marginal" if value <= limits[1] else "reject"


def grade_kappa(value: float) -> Literal["good", "fair", "poor", "not known"]:
    """What AIAG calls a kappa."""
    if np.isnan(value):
        return "not known"
    return "good" if value > KAPPA_GOOD else "fair" if value >= KAPPA_POOR else "poor"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One inspector by AIAG's attribute study.

    ``effectiveness`` counts parts on which every look was right, ``consistency`` parts on which
    all looks were the same, ``miss_rate`` and ``false_alarm_rate`` count looks.
    """

    inspector: str
    effectiveness: Rate
    consistency: Rate
    miss_rate: Rate
    false_alarm_rate: Rate
    kappa_within: Estimate
    kappa_reference: Estimate
    grades: dict[str, Grade]
    grade: Grade

    def to_json(self) -> dict[str, Any]:
        """Plain types, each rate with its value."""
        made = asdict(self)
        for name in ("effectiveness", "consistency", "miss_rate", "false_alarm_rate"):
            made[name]["value"] = getattr(self, name).value
        return made


def _effectiveness(answers: Floats, defective: Bools) -> tuple[Rate, Rate]:
    seen = ~np.isnan(answers).any(1)  # a part that lacks a look cannot be "all right"
    right = (answers == defective[:, None]).all(1)
    same = (answers == answers[:, :1]).all(1)
    n = int(seen.sum())
    return rate(int((right & seen).sum()), n), rate(int((same & seen).sum()), n)


def _look_rate(wrong: Bools, looked: Bools) -> Rate:
    return clustered_rate(wrong.sum(1), looked.sum(1))


def attribute_study(
    rejected: Floats, defective: Bools, inspectors: list[str], *, seed: int = 0
) -> dict[str, Any]:
    """AIAG MSA (4th edition) attribute agreement of a study, as plain types.

    Args:
        rejected: (I, P, R) answers.
        defective: (P,) the reference.
        inspectors: I names.
        seed: seeds the intervals of kappa, bootstraps over pictures.

    Returns:
        ``inspectors`` (:class:`Attribute` each), ``pairs`` (Cohen between two), ``between``
        (Fleiss over all), ``system_effectiveness`` (parts on which everyone was always right)
        and ``grade``, the worst inspector's.
    """
    people = [_attribute(rejected[i], defective, name, seed) for i, name in enumerate(inspectors)]
    pairs = []
    for a, b in combinations(range(len(inspectors)), 2):
        value = cohen_kappa(rejected[a].ravel(), rejected[b].ravel())
        pairs.append({"inspectors": [inspectors[a], inspectors[b]], "kappa": value,
                      "grade": grade_kappa(value)})  # fmt: skip
    between = between_kappa(rejected) if len(inspectors) > 1 else float("nan")
    draws = _picture_draws(lambda chosen: between_kappa(rejected[:, chosen]), defective, seed)
    system, _ = _effectiveness(np.concatenate(list(rejected), 1), defective)
    grades = [p.grade for p in people]
    return {
        "inspectors": [p.to_json() for p in people],
        "pairs": pairs,
        "between": asdict(percentile_estimate(between, draws, len(defective)))
        | {"grade": grade_kappa(between)},
        "system_effectiveness": {"value": system.value, **asdict(system)},
        "grade": max(grades, key=_GRADES.index) if grades else "not known",
        "limits": {"effectiveness": EFFECTIVENESS, "miss_rate": MISS,
                   "false_alarm_rate": FALSE_ALARM, "kappa": (KAPPA_GOOD, KAPPA_POOR),
                   "source": "AIAG Measurement Systems Analysis, 4th edition (2010), III-C"},
    }  # fmt: skip


def _picture_draws(figure: Any, defective: Bools, seed: int) -> Floats:
    return two_way_draws(lambda _, chosen: figure(chosen), 1, defective, seed=seed)[:, 0]


def _attribute(answers: Floats, defective: Bools, name: str, seed: int) -> Attribute:
    effectiveness, consistency = _effectiveness(answers, defective)
    looked = ~np.isnan(answers)
    miss = _look_rate((answers == 0)[defective], looked[defective])
    false_alarm = _look_rate((answers == 1)[~defective], looked[~defective])
    n = len(defective)

    def both(chosen: npt.NDArray[np.intp]) -> tuple[float, float]:
        drawn = answers[chosen]
        return within_kappa(drawn), reference_kappa(drawn, defective[chosen])

    draws = two_way_draws(lambda _, chosen: both(chosen), 1, defective, seed=seed)
    within, reference = both(np.arange(n))
    grades: dict[str, Grade] = {
        "effectiveness": grade_high(effectiveness.value, EFFECTIVENESS),
        "miss_rate": grade_low(miss.value, MISS),
        "false_alarm_rate": grade_low(false_alarm.value, FALSE_ALARM),
    }
    return Attribute(
        inspector=name,
        effectiveness=effectiveness,
        consistency=consistency,
        miss_rate=miss,
        false_alarm_rate=false_alarm,
        kappa_within=percentile_estimate(within, draws[:, 0], n),
        kappa_reference=percentile_estimate(reference, draws[:, 1], n),
        grades=grades,
        grade=max(grades.values(), key=_GRADES.index),
    )


def knapp(
    rejected: Floats, defective: Bools, model: npt.ArrayLike | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Knapp's reject-zone efficiency (Knapp & Kushner 1980; USP <1790>).

    The zones come from the people's looks alone: a part belongs to the reject zone where at least
    seven looks in ten rejected it. Efficiency is the mean share of rejections in that zone. A
    machine must reach that of the people, and reject no more of what lies outside (RAG).

    Args:
        rejected: (I, P, R) answers of people.
        defective: (P,) for drawing pictures apart; the zones do not use it.
        model: (P,) share of the machine's runs that rejected the part, 0 or 1 where it is
            deterministic.
        seed: seeds the interval, a bootstrap over pictures.

    Returns:
        Counts of the zones, ``people`` and ``model`` with ``rze`` and ``rag``, and ``efficiency``,
        the machine's reject-zone efficiency over the people's.
    """
    looks = np.sum(~np.isnan(rejected), (0, 2))
    share = np.nansum(rejected, (0, 2)) / np.where(looks == 0, np.nan, looks)
    # 7 of 10 must lie in the zone whatever rounding does to 0.7.
    zone, accept = share >= REJECT_ZONE - 1e-9, share < ACCEPT_ZONE - 1e-9
    outside = ~zone & (looks > 0)
    result: dict[str, Any] = {
        "looks_per_part": float(np.mean(looks)),
        "parts": {"reject": int(zone.sum()), "grey": int((outside & ~accept).sum()),
                  "accept": int((outside & accept).sum())},
        "people": {"rze": _mean(share[zone]), "rag": _mean(share[outside])},
    }  # fmt: skip
    if model is None:
        return result
    machine = np.asarray(model, np.float64)
    result["model"] = {"rze": _mean(machine[zone]), "rag": _mean(machine[outside])}

    def efficiency(chosen: npt.NDArray[np.intp]) -> float:
        inside = chosen[zone[chosen]]
        return _mean(machine[inside]) / _mean(share[inside]) if len(inside) else float("nan")

    value = efficiency(np.arange(len(share)))
    draws = _picture_draws(efficiency, defective, seed)
    result["efficiency"] = asdict(percentile_estimate(value, draws, int(zone.sum())))
    return result


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
