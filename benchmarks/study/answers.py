"""The looks of a study as arrays, and what they say of each inspector and of all."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from twonines.benchmarks.comparison import rates
from twonines.benchmarks.statistics import (
    Bools,
    Detection,
    Estimate,
    Floats,
    clustered_rate,
    detection,
    effective_size,
    median_estimate,
    nan_mean,
    percentile_estimate,
    two_way_draws,
    weighted_accuracy,
)
from twonines.benchmarks.study.looks import Look
from twonines.benchmarks.study.plan import Plan
from twonines.benchmarks.study.trend import fit_trend
from twonines.errors import InputError


@dataclass(frozen=True, slots=True)
class Answers:
    """All looks as arrays (I, P, R): inspectors, pictures in the plan's order, repeats.

    ``rejected`` is 1, 0 or NaN where nobody looked; ``seconds`` NaN where the time cannot be
    used; ``number`` is the look's place among the inspector's, from 1.
    """

    inspectors: list[str]
    defective: Bools
    rejected: Floats
    seconds: Floats
    number: Floats
    break_every: int

    @classmethod
    def of(cls, plan: Plan, looks: Sequence[Look]) -> "Answers":
        """Arrays from looks in the order in which they were taken.

        Raises:
            InputError: there are none.
        """
        if not looks:
            raise InputError("looks: at least one is needed, the study holds no answers yet")
        people: dict[str, str] = {}
        for look in looks:
            people.setdefault(look.inspector.casefold(), look.inspector)
        places = {p.id: i for i, p in enumerate(plan.pictures)}
        rows = {key: i for i, key in enumerate(people)}
        shape = (len(people), len(places), plan.repeats)
        rejected, seconds, number = (np.full(shape, np.nan) for _ in range(3))
        counts = dict.fromkeys(people, 0)
        for look in looks:
            who = look.inspector.casefold()
            counts[who] += 1
            at = (rows[who], places[look.picture], look.repeat - 1)
            rejected[at] = look.answer == "NG"
            number[at] = counts[who]
            if look.timed:
                seconds[at] = look.seconds
        defective = np.array([p.is_defective for p in plan.pictures], bool)
        return cls(list(people.values()), defective, rejected, seconds, number, plan.break_every)

    def only(self, inspector: int) -> "Answers":
        """One inspector's."""
        pick = slice(inspector, inspector + 1)
        return Answers(self.inspectors[pick], self.defective, self.rejected[pick],
                       self.seconds[pick], self.number[pick], self.break_every)  # fmt: skip


def _detection(answers: Floats, defective: Bools) -> Detection:
    """(P, R) to d' and criterion; repeats of a picture are a cluster."""
    hits, sizes = np.nansum(answers, 1), np.sum(~np.isnan(answers), 1)
    sides = [(hits[s], sizes[s]) for s in (defective, ~defective)]
    counts = [(float(h.sum()), float(n.sum())) for h, n in sides]
    if not all(n for _, n in counts):
        return detection(counts[0], counts[1])
    effective = [effective_size(h, n) for h, n in sides]
    return detection(counts[0], counts[1], effective=(effective[0], effective[1]))


def _figures_of_signal(rejected: Floats, defective: Bools) -> Floats:
    """Mean d' and mean criterion over inspectors; (I, P, R), (P,) -> (2,)."""
    looked = ~np.isnan(rejected)
    shares = []
    for side in (defective, ~defective):
        n = looked[:, side].sum((1, 2))
        k = np.nansum(rejected[:, side], (1, 2))
        shares.append(np.where(n > 0, (k + 0.5) / (n + 1), np.nan))
    z = stats.norm.ppf(np.stack(shares))
    return np.stack([nan_mean(z[0] - z[1]), nan_mean(-(z[0] + z[1]) / 2)])


def describe_inspector(answers: Answers, index: int) -> dict[str, Any]:
    """One inspector: rates, d', criterion, seconds, trend; plain types."""
    mine = answers.only(index)
    looks, defective = mine.rejected[0], mine.defective
    looked = ~np.isnan(looks)
    wrong = looked & (looks != defective[:, None])
    escape = clustered_rate(wrong[defective].sum(1), looked[defective].sum(1))
    overkill = clustered_rate(wrong[~defective].sum(1), looked[~defective].sum(1))
    right = clustered_rate((looked & ~wrong).sum(1), looked.sum(1))
    signal = _detection(looks, defective)
    return {
        "inspector": mine.inspectors[0],
        "looks": int(looked.sum()),
        "of": int(looked.size),
        "accuracy": {"value": right.value, **asdict(right)},
        "balanced_accuracy": asdict(weighted_accuracy(escape, overkill, 0.5)),
        "escape_rate": {"value": escape.value, **asdict(escape)},
        "overkill_rate": {"value": overkill.value, **asdict(overkill)},
        "sensitivity": asdict(signal.sensitivity),
        "criterion": asdict(signal.criterion),
        "seconds": describe_seconds(mine.seconds),
        "trend": describe_trend(mine),
    }


def describe_seconds(seconds: Floats) -> dict[str, Any]:
    """Median, mean and log-normal fit of the times that can be used; one person's.

    ``log_median`` is exp of the mean logarithm, ``spread`` the standard deviation of the
    logarithms, both with normal theory's intervals.
    """
    times = seconds[~np.isnan(seconds)]
    n = len(times)
    nothing = Estimate(float("nan"), n, float("nan"), float("nan"))
    made = {"n": n, "left_out": int(seconds.size - n), "median": asdict(median_estimate(times)),
            "mean": float(times.mean()) if n else float("nan"),
            "log_median": asdict(nothing), "spread": asdict(nothing)}  # fmt: skip
    logs = np.log(times)
    if n < 2:
        return made
    mu, sigma = float(logs.mean()), float(logs.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sigma / math.sqrt(n)
    ends = [sigma * math.sqrt((n - 1) / stats.chi2.ppf(q, n - 1)) for q in (0.975, 0.025)]
    made["log_median"] = asdict(Estimate(math.exp(mu), n, math.exp(mu - half), math.exp(mu + half)))
    made["spread"] = asdict(Estimate(sigma, n, ends[0], ends[1]))
    return made


def describe_trend(answers: Answers) -> dict[str, Any]:
    """Learning and fatigue in seconds (as factors) and in being right (as differences)."""
    looked = ~np.isnan(answers.rejected)
    who = np.broadcast_to(np.arange(len(looked))[:, None, None], looked.shape)
    right = (answers.rejected == answers.defective[None, :, None]).astype(np.float64)

    def fit(values: Floats, kept: Bools) -> dict[str, Estimate]:
        number = answers.number[kept]
        trend = fit_trend(values[kept], number, (number - 1) % answers.break_every, who[kept])
        return {"learning": trend.learning, "fatigue": trend.fatigue}

    timed = looked & ~np.isnan(answers.seconds)
    logs = np.log(np.where(timed, answers.seconds, 1.0))
    speed = {
        name: Estimate(math.exp(e.value), e.n, math.exp(e.low), math.exp(e.high))
        for name, e in fit(logs, timed).items()
    }
    return {
        "seconds_factor": {name: asdict(e) for name, e in speed.items()},
        "right_difference": {name: asdict(e) for name, e in fit(right, looked).items()},
    }


_POOLED = ("accuracy", "balanced_accuracy", "escape_rate", "overkill_rate", "sensitivity",
           "criterion", "median_seconds", "mean_seconds")  # fmt: skip


def describe_all(answers: Answers, *, seed: int = 0) -> dict[str, Any]:
    """The mean inspector; intervals by bootstrap over inspectors and pictures; plain types."""
    defective = answers.defective

    def figures(people: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp]) -> Floats:
        pick = np.ix_(people, chosen)
        looks, times = answers.rejected[pick], answers.seconds[pick]
        middle = [_middle(t) for t in times]
        return np.concatenate(
            [
                nan_mean(rates(looks, defective[chosen]), 1),
                _figures_of_signal(looks, defective[chosen]),
                [nan_mean(middle), nan_mean(nan_mean(times, (1, 2)))],
            ]
        )

    count, n = len(answers.inspectors), len(defective)
    values = figures(np.arange(count), np.arange(n)).tolist()
    draws = two_way_draws(figures, count, defective, seed=seed)
    pooled: dict[str, Any] = {
        name: asdict(percentile_estimate(values[i], draws[:, i], n))
        for i, name in enumerate(_POOLED)
    }
    pooled["trend"] = describe_trend(answers)
    return pooled


def _middle(times: Floats) -> float:
    kept = times[~np.isnan(times)]
    return float(np.median(kept)) if len(kept) else float("nan")
