"""How many pictures a study needs. Exact where that is cheap; scipy does the mathematics."""

import numpy as np
from scipy import stats

from twonines.errors import SettingsError

_LARGEST = 1_000_000


def _inside(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    if not low < value < high:
        raise SettingsError(f"{name}: must lie in ({low:g}, {high:g}), got {value}")


def pictures_to_show(limit: float, errors: int = 0, confidence: float = 0.95) -> int:
    """Fewest pictures with which ``errors`` mistakes still show a rate of at most ``limit``.

    One-sided Clopper-Pearson: 299 pictures without a mistake show at most 1 %.
    """
    _inside("limit", limit)
    _inside("confidence", confidence)
    if errors < 0:
        raise SettingsError(f"errors: must not be negative, got {errors}")
    low, high = errors, errors + 1
    while stats.binom.cdf(errors, high, limit) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        enough = stats.binom.cdf(errors, middle, limit) <= 1 - confidence
        low, high = (low, middle) if enough else (middle, high)
    return high


def chance_to_show(n: int, limit: float, true_rate: float, confidence: float = 0.95) -> float:
    """Chance that ``n`` pictures show a rate of at most ``limit`` where it is ``true_rate``."""
    _inside("limit", limit)
    counts = np.arange(n + 1)
    passing = stats.binom.cdf(counts, n, limit) <= 1 - confidence
    return float(stats.binom.cdf(passing.sum() - 1, n, true_rate)) if passing.any() else 0.0


def mcnemar_power(n: int, only_first: float, only_second: float, alpha: float = 0.05) -> float:
    """Power of the exact two-sided McNemar test over ``n`` pairs.

    Args:
        n: pairs.
        only_first: share of pairs on which only the first is right.
        only_second: share of pairs on which only the second is right.
        alpha: two-sided level.
    """
    differing = only_first + only_second
    if not 0 < differing <= 1 or min(only_first, only_second) < 0:
        raise SettingsError(
            f"only_first, only_second: must be shares that add up to more than 0 and at most 1, "
            f"got {only_first} and {only_second}"
        )
    chances = stats.binom.pmf(np.arange(n + 1), n, differing)
    power = 0.0
    for count in np.flatnonzero(chances > 1e-9).tolist():
        # The largest count that is rare enough on the low side; the high side mirrors it.
        edge = int(stats.binom.ppf(alpha / 2, count, 0.5)) - 1
        while stats.binom.cdf(edge + 1, count, 0.5) <= alpha / 2:
            edge += 1
        if edge < 0:
            continue
        share = only_first / differing
        tails = stats.binom.cdf(edge, count, share) + stats.binom.sf(count - edge - 1, count, share)
        power += float(chances[count] * tails)
    return power


def pairs_for_mcnemar(
    first: float, second: float, *, power: float = 0.9, alpha: float = 0.05
) -> int:
    """Pictures on which accuracies of ``first`` and ``second`` are told apart.

    The two are taken to err independently, which asks for more pictures than where they stumble
    over the same ones. The exact power wobbles; the size given holds for the next ten as well.
    """
    for name, value in (("first", first), ("second", second), ("power", power), ("alpha", alpha)):
        _inside(name, value)
    if first == second:
        raise SettingsError(f"first, second: must differ, got {first} twice")
    b, c = first * (1 - second), second * (1 - first)
    # Connor (1987), without continuity: a start from which the exact search goes on.
    z, zb = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(power)
    start = (z * np.sqrt(b + c) + zb * np.sqrt(b + c - (b - c) ** 2)) ** 2 / (b - c) ** 2
    if start > _LARGEST:
        raise SettingsError(f"first, second: {first} and {second} are too close to tell apart")
    n = max(5, int(0.9 * start))
    held = 0
    while held < 10:
        held = held + 1 if mcnemar_power(n, b, c, alpha) >= power else 0
        n += 1
    return n - 10


def pictures_for_kappa(
    kappa: float, prevalence: float, half_width: float, confidence: float = 0.95
) -> int:
    """Pictures for which Cohen's kappa of two raters is known to within ``half_width``.

    Two raters who both reject a share ``prevalence``; the variance is Fleiss, Cohen and Everitt's
    (1969) as in Cantor (1996).
    """
    _inside("kappa", kappa, -1.0)
    _inside("prevalence", prevalence)
    _inside("half_width", half_width)
    p, q = prevalence, 1 - prevalence
    chance = p * p + q * q
    observed = kappa * (1 - chance) + chance
    apart = (1 - observed) / 2
    if not 0 <= apart <= min(p, q):
        raise SettingsError(f"kappa: {kappa} cannot be had at a prevalence of {prevalence}")
    same = [p - apart, q - apart]
    # Q of Cantor: the diagonal, the rest, and the correction.
    diagonal = sum(
        cell * ((1 - chance) - 2 * share * (1 - observed)) ** 2
        for cell, share in zip(same, (p, q), strict=True)
    )
    rest = (1 - observed) ** 2 * 2 * apart * (p + q) ** 2
    correction = (observed * chance - 2 * chance + observed) ** 2
    variance = (diagonal + rest - correction) / (1 - chance) ** 4
    z = stats.norm.ppf(0.5 + confidence / 2)
    return int(np.ceil(z**2 * variance / half_width**2))
