"""What calibration pictures look like, as rare events for the validity watch.

An event is "the feature lies beyond a cut". Its probability is bounded for good parts and for
defective parts apart, and the larger bound is kept, so that it holds for *every* mix of the two:
a line with other, even changing, prevalence raises no alarm. Of the score, high values are as
likely as parts are defective and low ones as parts are good, so only its middle says something.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from twonines.models.certificate import WatchCut, escape_bound

Floats = npt.NDArray[np.float64]
CALIBRATION_RISK = 0.0005
"""Chance that the calibration sample is so odd that any bound of any cut is wrong."""
_SHARES = (0.0, 0.05)
_MIDDLE = (0.25, 0.75)
_SIDES: dict[str, tuple[str, ...]] = {
    "novelty": ("above",),
    "brightness": ("below", "above"),
    "contrast": ("below", "above"),
    "dark_share": ("above",),
    "bright_share": ("above",),
    "sharpness": ("below", "above"),
    "colour": ("above",),
}
LEAST = 20
"""Units of a class under which no cut is learnt: its bounds would be near 1."""


def learn_cuts(
    good: Sequence[Mapping[str, float]], defective: Sequence[Mapping[str, float]]
) -> tuple[WatchCut, ...]:
    """Cuts from independent pictures of good and of defective parts.

    For n values and a cut at their (k + 1)-th greatest, the chance of a value above it is at
    most Beta(k + 1, n - k) distributed, whatever the distribution (Wilks 1941); its quantile at
    1 - risk is the bound. The risk is shared by all cuts and both classes (Bonferroni).

    Args:
        good: features by name of good parts, one picture of each; a class of fewer than ``LEAST``
            is left out, and then the watch takes its parts for drift where they differ.
        defective: the same of defective parts.
    """
    classes = [rows for rows in (good, defective) if len(rows) >= LEAST]
    if not classes:
        return ()
    present = [n for n in _SIDES if all(n in row for rows in classes for row in rows)]
    wanted = [(name, side, share) for name in present for side in _SIDES[name] for share in _SHARES]
    risk = CALIBRATION_RISK / ((len(wanted) + 1) * len(classes))
    cuts = [_tail(name, side, share, classes, risk) for name, side, share in wanted]
    low, high = _MIDDLE
    bounds = []
    for rows in classes:
        scores = np.array([row["score"] for row in rows])
        inside = int(np.sum((scores > low) & (scores < high)))
        bounds.append(_bound(inside, len(rows), risk))
    cuts.append(WatchCut(feature="score", low=low, high=high, probability=max(bounds)))
    # A cut that half of the pictures may cross says nothing.
    return tuple(cut for cut in cuts if cut.probability < 0.5)


def _tail(
    name: str, side: str, share: float, classes: Sequence[Sequence[Mapping[str, float]]],
    risk: float,
) -> WatchCut:  # fmt: skip
    sign = 1.0 if side == "above" else -1.0
    limits, bounds = [], []
    for rows in classes:
        values = np.sort(sign * np.array([row[name] for row in rows], np.float64))
        beyond = int(share * len(rows))
        limits.append(values[len(rows) - 1 - beyond])
        bounds.append(_bound(beyond, len(rows), risk))
    limit = sign * float(max(limits))
    low, high = (limit, None) if side == "above" else (None, limit)
    return WatchCut(feature=name, low=low, high=high, probability=max(bounds))


def _bound(beyond: int, n: int, risk: float) -> float:
    return min(escape_bound(beyond, n, risk), 1 - 1e-9)
