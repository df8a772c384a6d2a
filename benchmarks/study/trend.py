"""Learning and fatigue: does a person get faster, slower, better or worse along the study?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from twonines.benchmarks.statistics import Estimate, Floats


@dataclass(frozen=True, slots=True)
class Trend:
    """Change of a figure along the study, each with its interval.

    ``learning`` is the change with each doubling of the number of looks, ``fatigue`` that with
    100 looks since the last break; each holds with the other kept the same.
    """

    learning: Estimate
    fatigue: Estimate


def fit_trend(
    values: npt.ArrayLike,
    number: npt.ArrayLike,
    since_break: npt.ArrayLike,
    who: npt.ArrayLike,
    confidence: float = 0.95,
) -> Trend:
    """Least squares with one level a person; errors may differ in spread (HC3, Long & Ervin 2000).

    Args:
        values: (N,) what may change, such as log seconds, or 1 for right and 0 for wrong.
        number: (N,) the look's place among the person's looks, from 1.
        since_break: (N,) looks since the last break.
        who: (N,) int, the person.
        confidence: of the intervals, in (0, 1).
    """
    y = np.asarray(values, np.float64)
    people = np.asarray(who)
    levels = (people[:, None] == np.unique(people)).astype(np.float64)
    slopes = np.stack([np.log2(np.asarray(number, np.float64)),
                       np.asarray(since_break, np.float64) / 100], 1)  # fmt: skip
    # (N, 2 + people); a column that adds nothing leaves both slopes unknown.
    design = np.concatenate([slopes, levels], 1)
    n, columns = design.shape
    if n <= columns + 2 or np.linalg.matrix_rank(design) < columns:
        nothing = Estimate(float("nan"), n, float("nan"), float("nan"))
        return Trend(nothing, nothing)
    inverse = np.linalg.inv(design.T @ design)
    slope = inverse @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    # A look that alone fixes a column has leverage 1 and no error of its own.
    error = (y - design @ slope) / np.maximum(1 - leverage, 1e-9)
    covariance = inverse @ (design.T * error**2) @ design @ inverse
    half = float(stats.t.ppf(0.5 + confidence / 2, n - columns)) * _root(covariance)
    learning, fatigue = (
        Estimate(float(slope[i]), n, float(slope[i] - half[i]), float(slope[i] + half[i]))
        for i in (0, 1)
    )
    return Trend(learning, fatigue)


def _root(covariance: Floats) -> Floats:
    return np.sqrt(np.maximum(np.diag(covariance), 0.0))
