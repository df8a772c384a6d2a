"""Rates with their intervals; no model and no data set is needed here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
IntervalMethod = Literal["wilson", "clopper-pearson"]


@dataclass(frozen=True, slots=True)
class Rate:
    """``k`` of ``n`` with its interval; NaN values where ``n`` is 0."""

    k: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share k / n."""
        return self.k / self.n if self.n else float("nan")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure that is no plain share, with its interval; ``n`` pictures stand behind it."""

    value: float
    n: int
    low: float
    high: float


def _check_counts(k: float, n: float, confidence: float) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"k: must lie in [0, n = {n}], got {k}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1), got {confidence}")


def wilson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share; (0, 1) where n is 0."""
    _check_counts(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are exact at k = 0 and k = n, but rounding leaves 1e-17.
    low = 0.0 if k == 0 else max(0.0, float(centre - half))
    high = 1.0 if k == n else min(1.0, float(centre + half))
    return low, high


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share: it covers at least ``confidence``."""
    _check_counts(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def rate(
    k: int, n: int, *, confidence: float = 0.95, method: IntervalMethod = "clopper-pearson"
) -> Rate:
    """Count ``k`` of ``n`` as a rate; the interval is exact unless Wilson's is asked for."""
    interval = wilson if method == "wilson" else clopper_pearson
    low, high = interval(int(k), int(n), confidence)
    return Rate(int(k), int(n), low, high)


def _pair(defective: npt.ArrayLike, other: npt.ArrayLike, name: str) -> tuple[Bools, Floats]:
    truth, values = np.asarray(defective, bool), np.asarray(other, np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(
            f"{name}: must have the shape of defective {truth.shape}, got {values.shape}"
        )
    return truth, values


def accuracy(defective: npt.ArrayLike, rejected: npt.ArrayLike) -> Rate:
    """Share of right decisions."""
    truth, said = _pair(defective, rejected, "rejected")
    return rate(int(np.sum(truth == said.astype(bool))), len(truth))


def escape_rate(defective: npt.ArrayLike, rejected: npt.ArrayLike) -> Rate:
    """Escapes (defective parts that were accepted) of the defective parts."""
    truth, said = _pair(defective, rejected, "rejected")
    return rate(int(np.sum(truth & ~said.astype(bool))), int(truth.sum()))


def overkill_rate(defective: npt.ArrayLike, rejected: npt.ArrayLike) -> Rate:
    """Overkill (good parts that were rejected) of the good parts."""
    truth, said = _pair(defective, rejected, "rejected")
    return rate(int(np.sum(~truth & said.astype(bool))), int((~truth).sum()))


def weighted_accuracy(
    escapes: Rate, overkill: Rate, prevalence: float, confidence: float = 0.95
) -> Estimate:
    """Accuracy where a share ``prevalence`` of the parts is defective.

    The interval combines the two rates' own (Newcombe's square-and-add), so that it stays wide
    where a rate of 0 was seen in few pictures.
    """
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence: must lie in [0, 1], got {prevalence}")
    good, bad = 1 - prevalence, prevalence
    value = bad * (1 - escapes.value) + good * (1 - overkill.value)
    e_low, e_high = wilson(escapes.k, escapes.n, confidence)
    o_low, o_high = wilson(overkill.k, overkill.n, confidence)
    down = np.hypot(bad * (e_high - escapes.value), good * (o_high - overkill.value))
    up = np.hypot(bad * (escapes.value - e_low), good * (overkill.value - o_low))
    low, high = max(0.0, float(value - down)), min(1.0, float(value + up))
    return Estimate(float(value), escapes.n + overkill.n, low, high)


def balanced_accuracy(defective: npt.ArrayLike, rejected: npt.ArrayLike) -> Estimate:
    """Mean of the shares of good parts accepted and of defective parts rejected."""
    return weighted_accuracy(
        escape_rate(defective, rejected), overkill_rate(defective, rejected), 0.5
    )


def auroc(defective: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC by ranks: ties count half; NaN where a side is empty."""
    truth, values = _pair(defective, scores, "scores")
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = stats.rankdata(values)
    above = float(ranks[truth].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def average_precision(defective: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Sum of precision times the step of recall, one step per distinct score."""
    truth, values = _pair(defective, scores, "scores")
    if not truth.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ordered, hits = values[order], np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc(defective: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Overkill rate and catch rate at every threshold, from (0, 0) to (1, 1)."""
    truth, values = _pair(defective, scores, "scores")
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    caught, false = np.cumsum(truth[order])[ends], np.cumsum(~truth[order])[ends]
    return (
        np.append(0.0, false / max(1, int((~truth).sum()))),
        np.append(0.0, caught / max(1, int(truth.sum()))),
    )


def bootstrap(
    defective: npt.ArrayLike,
    scores: npt.ArrayLike,
    figure: Literal["auroc", "average_precision"],
    *,
    seed: int = 0,
    repeats: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """A ranking figure with its percentile interval; good and defective are drawn apart."""
    truth, values = _pair(defective, scores, "scores")
    function = auroc if figure == "auroc" else average_precision
    generator = np.random.default_rng(seed)
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    value = function(truth, values)
    if not len(positives) or not len(negatives):
        return Estimate(value, len(truth), float("nan"), float("nan"))
    drawn = np.empty(repeats)
    for index in range(repeats):
        chosen = np.concatenate(
            [
                generator.choice(positives, len(positives)),
                generator.choice(negatives, len(negatives)),
            ]
        )
        drawn[index] = function(truth[chosen], values[chosen])
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, len(truth), float(low), float(high))


def expected_calibration_error(
    defective: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 10
) -> float:
    """Mean gap between the score and the share that is defective, over equal-width bins."""
    truth, values = _pair(defective, scores, "scores")
    if not len(truth):
        return float("nan")
    place = np.minimum((values * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, values - truth, minlength=bins)
    return float(np.abs(gap[count > 0]).sum() / len(truth))


def effective_size(hits: npt.ArrayLike, sizes: npt.ArrayLike) -> float:
    """How many independent looks stand behind looks that come in clusters.

    Several looks at one picture tell less than as many pictures. The looks are divided by the
    design effect, the between-cluster variance over the binomial one (Rao & Scott 1992). Where
    nothing varies it cannot be known, and each cluster counts once.

    Args:
        hits: (C,) counts per cluster.
        sizes: (C,) looks per cluster; clusters without looks are left out.
    """
    size = np.asarray(sizes, np.float64)
    count, size = np.asarray(hits, np.float64)[size > 0], size[size > 0]
    n, clusters = float(size.sum()), len(size)
    if n == clusters:
        return n
    share = float(count.sum()) / n
    spread = float(np.sum((count - share * size) ** 2))
    if clusters < 2 or spread == 0:
        return float(clusters)
    variance = clusters / (clusters - 1) * spread / n**2
    return min(n, share * (1 - share) / variance)


def clustered_rate(hits: npt.ArrayLike, sizes: npt.ArrayLike, confidence: float = 0.95) -> Rate:
    """Share of hits where looks come in clusters, such as repeats of one picture.

    The interval is Clopper and Pearson's at the effective size (Korn & Graubard 1998).

    Args:
        hits: (C,) counts per cluster.
        sizes: (C,) looks per cluster.
        confidence: of the interval, in (0, 1).
    """
    k, n = int(np.sum(hits)), int(np.sum(sizes))
    if n == 0:
        return rate(k, n, confidence=confidence)
    effective = effective_size(hits, sizes)
    low, high = clopper_pearson(k / n * effective, effective, confidence)
    return Rate(k, n, low, high)


@dataclass(frozen=True, slots=True)
class Detection:
    """Equal-variance signal detection: sensitivity d' and criterion c.

    Above 0, c leans to accepting.
    """

    sensitivity: Estimate
    criterion: Estimate


def detection(
    caught: tuple[float, float],
    overkill: tuple[float, float],
    *,
    effective: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Detection:
    """Sensitivity d' and criterion c (Stanislaw & Todorov 1999), with normal intervals.

    Half a look is added on either side (log-linear, Hautus 1995), so that rates of 0 and 1 give
    finite figures. The variance is Gourevitch and Galanter's (1967).

    Args:
        caught: defective looks that were rejected, and all defective looks.
        overkill: good looks that were rejected, and all good looks.
        effective: independent looks of either kind where they come in clusters.
        confidence: of the intervals, in (0, 1).
    """
    shares = np.array([(k + 0.5) / (n + 1) for k, n in (caught, overkill)])
    sizes = np.array(effective or (caught[1], overkill[1]), np.float64)
    n = int(caught[1] + overkill[1])
    if not sizes.all():
        nothing = Estimate(float("nan"), n, float("nan"), float("nan"))
        return Detection(nothing, nothing)
    z = stats.norm.ppf(shares)
    variance = float(np.sum(shares * (1 - shares) / (sizes * stats.norm.pdf(z) ** 2)))
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * np.sqrt(variance)
    d, c = float(z[0] - z[1]), float(-(z[0] + z[1]) / 2)
    return Detection(
        Estimate(d, n, float(d - half), float(d + half)),
        Estimate(c, n, float(c - half / 2), float(c + half / 2)),
    )


def two_way_draws(
    figures: Callable[[npt.NDArray[np.intp], npt.NDArray[np.intp]], npt.ArrayLike],
    inspectors: int,
    defective: npt.ArrayLike,
    *,
    seed: int = 0,
    repeats: int = 1000,
) -> Floats:
    """Bootstrap draws over inspectors and pictures at once; (repeats, F).

    Both are drawn with replacement, good and defective pictures apart, so that the interval
    speaks of other inspectors and other pictures. It is somewhat too wide (Owen 2007) where there
    are many inspectors, and somewhat too narrow where there are three or fewer.

    Args:
        figures: takes indices of the inspectors and of the pictures drawn; gives F figures.
        inspectors: how many there are; a single one is kept.
        defective: (P,) true where the part is defective.
        seed: seeds the draws.
        repeats: draws.
    """
    truth = np.asarray(defective, bool)
    sides = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(repeats):
        people = generator.integers(0, inspectors, inspectors)
        pictures = np.concatenate([generator.choice(s, len(s)) for s in sides if len(s)])
        drawn.append(np.atleast_1d(np.asarray(figures(people, pictures), np.float64)))
    return np.stack(drawn)


def nan_mean(values: npt.ArrayLike, axis: int | tuple[int, ...] | None = None) -> Floats:
    """Mean over what is there; NaN, without a warning, where nothing is."""
    array = np.asarray(values, np.float64)
    there = ~np.isnan(array)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, array, 0).sum(axis) / there.sum(axis), np.float64)


def percentile_estimate(value: float, draws: Floats, n: int, confidence: float = 0.95) -> Estimate:
    """A figure with the percentile interval of its draws; NaN draws are left out."""
    kept = draws[~np.isnan(draws)]
    if not len(kept):
        return Estimate(value, n, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(value, n, float(low), float(high))


def median_estimate(values: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Median with its exact interval between order statistics (binomial, any distribution)."""
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if not n:
        return Estimate(float("nan"), 0, float("nan"), float("nan"))
    # The largest rank r for which fewer than r values below the median are rare enough.
    rank = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    bounded = rank >= 1
    low = float(ordered[rank - 1]) if bounded else float("-inf")
    high = float(ordered[n - rank]) if bounded else float("inf")
    return Estimate(float(np.median(ordered)), n, low, high)
