"""Fit the map: which places of a picture speak for a defect, from labels of whole pictures."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg

from twonines.datasets.record import Record
from twonines.types import FloatArray

MOST_PICTURES = 320
STEPS = 4
TOP_SHARE = 0.15
"""Share of a defective picture's places that are taken to show its defect."""
QUIET_SHARE = 0.995
"""Share of places without the defect that must stay under one half on the map."""
RIDGE = 1e-2


def choose_records(
    records: Sequence[Record], classes: Sequence[str], seed: int
) -> list[tuple[Record, int]]:
    """A seeded choice with the same number of pictures of every class, with class indices."""
    rng = np.random.default_rng(seed)
    share = max(1, MOST_PICTURES // len(classes))
    chosen = []
    for label, name in enumerate(classes):
        members = [record for record in records if record.defect_class == name]
        picked = rng.permutation(len(members))[:share]
        chosen += [(members[i], label) for i in sorted(picked)]
    return chosen


def fit_places(
    places: FloatArray, labels: npt.NDArray[np.int64], count: int, *, has_good: bool
) -> tuple[FloatArray, FloatArray]:
    """Linear map heads by multiple-instance learning (mi-SVM's loop, Andrews et al. 2002).

    The places of pictures without the defect are negatives. Of pictures with it, those that
    answer most are positives: all of them at first, then fewer, refitted each time. A linear
    discriminant is fitted in closed form, so the result is deterministic.

    Args:
        places: (N, P, C) float32, P places of N pictures.
        labels: (N,) class indices.
        count: number of classes K.
        has_good: class 0 is good; one head tells any defect from good. Otherwise one head a class.

    Returns:
        Weights (C, H) and bias (H,) of logits; H is 1 with good parts and K without.
    """
    flat = places.reshape(-1, places.shape[2])
    mean, scale = flat.mean(0, dtype=np.float64), flat.std(0, dtype=np.float64) + 1e-3
    z = (places - mean) / scale  # (N, P, C)
    bags = [labels > 0] if has_good else [labels == k for k in range(count)]
    heads = [_fit_one(z, bag) for bag in bags]
    weights = np.stack([w for w, _ in heads], 1) / scale[:, None]
    bias = np.array([b for _, b in heads]) - mean @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _fit_one(
    z: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], float]:
    """Weights (C,) and bias for one kind of picture against the rest."""
    quiet = z[~positive].reshape(-1, z.shape[2])
    loud = z[positive]
    if not len(quiet) or not len(loud):
        return np.zeros(z.shape[2]), -4.0
    centre = quiet.mean(0)
    covariance = np.cov(quiet.T) + RIDGE * np.eye(z.shape[2])
    factor = linalg.cho_factor(covariance)
    chosen = loud.reshape(-1, z.shape[2])
    weights = np.zeros(z.shape[2])
    for step in range(STEPS):
        weights = linalg.cho_solve(factor, chosen.mean(0) - centre)
        share = 1.0 - (1.0 - TOP_SHARE) * (step + 1) / (STEPS - 1)
        chosen = _loudest(loud, weights, max(share, TOP_SHARE))
    answers = quiet @ weights
    limit, middle = np.quantile(answers, [QUIET_SHARE, 0.5])
    slope = 4.0 / max(limit - middle, 1e-6)
    return weights * slope, float(-limit * slope)


def _loudest(
    bags: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.float64]:
    """The places (M, C) that answer most in each picture of (N, P, C)."""
    keep = max(1, round(share * bags.shape[1]))
    order = np.argsort(-(bags @ weights), axis=1, kind="stable")[:, :keep]
    picked: npt.NDArray[np.float64] = np.take_along_axis(bags, order[:, :, None], 1)
    return picked.reshape(-1, bags.shape[2])


Extract = Callable[[Sequence[Record]], FloatArray]
"""Records -> places (N, C, h, w) float32."""


def learn_map(
    extract: Extract, records: Sequence[Record], classes: Sequence[str], seed: int, has_good: bool
) -> tuple[FloatArray, FloatArray]:
    """Choose pictures, take their places and fit the map's heads."""
    chosen = choose_records(records, classes, seed)
    maps = extract([record for record, _ in chosen])
    places = maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1)  # (N, P, C)
    labels = np.array([label for _, label in chosen])
    return fit_places(places, labels, len(classes), has_good=has_good)
