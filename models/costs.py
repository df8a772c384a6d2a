"""Thresholds that cost least, where escapes, overkill and reviews have a price."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twonines.models.card import Policy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What one escape, one overkill and one review cost, in any one unit, and the prevalence.

    Raises:
        ValueError: a cost is negative or not finite, or the prevalence is outside [0, 1].
    """

    escape: float
    overkill: float
    review: float
    prevalence: float

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        for name in ("escape", "overkill", "review"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: must be at least 0 and finite, got {value}")
        if not 0 <= self.prevalence <= 1:
            raise ValueError(f"prevalence: must lie in [0, 1], got {self.prevalence}")


def severities(classes: list[str], policy: Policy) -> Floats:
    """The severity of each part's class by the policy's rules, 1 where there is none."""
    rules = policy.class_rules
    return np.array([rules[c].severity if c in rules else 1.0 for c in classes], np.float64)


def cheapest_thresholds(
    scores: npt.ArrayLike, defective: npt.ArrayLike, costs: Costs, severity: npt.ArrayLike = 1.0
) -> tuple[float, float, float]:
    """The pair (accept_below, threshold) with the least expected cost a part.

    A defective part under ``accept_below`` costs an escape times its severity, a good one from
    ``threshold`` on an overkill, one in between a review. The cost falls into a term of either
    threshold alone, so one pass over the sorted scores finds the best pair with
    ``accept_below <= threshold``; of equal pairs the strictest is taken.

    Args:
        scores: (N,) in [0, 1].
        defective: (N,) true where the part is defective; both kinds must be there.
        costs: prices and prevalence.
        severity: (N,) or one; factor of an escape's cost.

    Returns:
        accept_below, threshold and the expected cost a part.

    Raises:
        ValueError: there are no good or no defective parts, or a score is outside [0, 1].
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(defective, bool)
    weight = np.broadcast_to(np.asarray(severity, np.float64), values.shape)
    if not truth.any() or truth.all():
        raise ValueError(
            f"defective: must hold good and defective parts, got {int(truth.sum())} defective of "
            f"{len(truth)}"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("scores: must lie in [0, 1]")
    p = costs.prevalence
    # Scores on the threshold are not under it; above the last score nothing is cut off.
    cuts = np.unique(np.concatenate([[0.0], values, [1.0]]))
    bad, good = _below(values, truth, cuts), _below(values, ~truth, cuts)
    escapes = _below(values, truth, cuts, weight)
    reviewed = costs.review * (p * bad + (1 - p) * good)
    accept = p * costs.escape * escapes - reviewed
    reject = reviewed + (1 - p) * costs.overkill * (1 - good)
    best = np.minimum.accumulate(accept)
    place = int(np.argmin(best + reject))
    lower = int(np.argmin(accept[: place + 1]))
    return float(cuts[lower]), float(cuts[place]), float(accept[lower] + reject[place])


def _below(
    values: Floats, chosen: npt.NDArray[np.bool_], cuts: Floats, weight: Floats | None = None
) -> Floats:
    """Mean over the chosen parts of weight * (value < cut), for every cut."""
    order = np.argsort(values[chosen], kind="stable")
    weights = np.ones(len(order)) if weight is None else weight[chosen][order]
    total = np.concatenate([[0.0], np.cumsum(weights)])
    result: Floats = total[np.searchsorted(values[chosen][order], cuts)] / len(order)
    return result
