"""Fit the image head on features: closed form, seconds, deterministic."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

from twonines.models.head import HeadWeights
from twonines.types import GOOD, FloatArray

MAX_LANDMARKS = 2048
RIDGE = 0.3
"""Added to the kernel's diagonal; found by inner validation on three public sets."""


def fit_head(
    features: FloatArray,
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    place_columns: npt.NDArray[np.int64],
    *,
    seed: int,
) -> HeadWeights:
    """Kernel ridge classification (Saunders et al. 1998) with an RBF kernel.

    Args:
        features: (N, D) float32 of the training pictures.
        labels: (N,) index into ``classes``.
        classes: K names, ``good`` first where there is one.
        place_columns: (C,) columns of ``features`` that are the mean-pooled places.
        seed: chooses the landmarks where there are more than ``MAX_LANDMARKS`` pictures.

    Returns:
        Weights with an identity calibration; see :func:`calibrate`.
    """
    mean = features.mean(0, dtype=np.float64)
    scale = np.maximum(features.std(0, dtype=np.float64), 1e-3)
    z = ((features - mean) / scale).astype(np.float32)
    targets = np.eye(len(classes))[labels]
    offset = targets.mean(0)
    chosen = _landmarks(labels, seed)
    gamma = 1.0 / features.shape[1]
    kernel = np.exp(-gamma * _squared_distances(z, z[chosen]))
    alphas = _solve(kernel, chosen, targets - offset)
    weights, bias = _fit_places(features[:, place_columns], targets)
    count = len(classes)
    return HeadWeights(
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        landmarks=z[chosen],
        alphas=alphas.astype(np.float32),
        offset=offset.astype(np.float32),
        slope=np.ones(count, np.float32),
        bias=np.zeros(count, np.float32),
        place_weights=weights.astype(np.float32),
        place_bias=bias.astype(np.float32),
        gamma=gamma,
        has_good=classes[0] == GOOD,
    )


def _landmarks(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """All pictures, or a seeded choice that keeps every class's share."""
    if len(labels) <= MAX_LANDMARKS:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share = max(1, round(MAX_LANDMARKS * len(members) / len(labels)))
        chosen.append(rng.choice(members, min(share, len(members)), replace=False))
    return np.sort(np.concatenate(chosen))


def _solve(
    kernel: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.int64],
    targets: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Kernel ridge; with fewer landmarks than pictures, its subset-of-regressors form."""
    if kernel.shape[0] == kernel.shape[1]:
        system, right = kernel + RIDGE * np.eye(len(kernel)), targets
    else:
        system = kernel.T @ kernel + RIDGE * kernel[chosen] + 1e-6 * np.eye(len(chosen))
        right = kernel.T @ targets
    solution: npt.NDArray[np.float64] = linalg.solve(system, right, assume_a="pos")
    return solution


def _squared_distances(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squared = (a64**2).sum(1)[:, None] + (b64**2).sum(1)[None] - 2 * a64 @ b64.T
    result: npt.NDArray[np.float64] = np.maximum(squared, 0.0)
    return result


def _fit_places(
    pooled: FloatArray, targets: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ridge regression on mean-pooled places; linear, so it holds at every place too.

    A response of 1 becomes a logit of +4 and one of 0 a logit of -4.
    """
    mean, scale = pooled.mean(0, dtype=np.float64), pooled.std(0, dtype=np.float64) + 1e-3
    z = (pooled - mean) / scale
    offset = targets.mean(0)
    gram = z.T @ z + 0.1 * len(z) * np.eye(z.shape[1])
    solved: npt.NDArray[np.float64] = linalg.solve(gram, z.T @ (targets - offset), assume_a="pos")
    weights = np.asarray(solved / scale[:, None], np.float64)
    bias: npt.NDArray[np.float64] = 8.0 * (offset - mean @ weights - 0.5)
    return 8.0 * weights, bias


def responses(weights: HeadWeights, features: FloatArray) -> npt.NDArray[np.float64]:
    """Uncalibrated kernel ridge responses (N, K)."""
    z = ((features - weights.mean) / weights.scale).astype(np.float32)
    kernel = np.exp(-weights.gamma * _squared_distances(z, weights.landmarks))
    return np.asarray(kernel @ weights.alphas + weights.offset, np.float64)


def novelty(weights: HeadWeights, features: FloatArray) -> npt.NDArray[np.float64]:
    """Root mean squared distance to the nearest landmark, (N,)."""
    z = ((features - weights.mean) / weights.scale).astype(np.float32)
    nearest = _squared_distances(z, weights.landmarks).min(1)
    result: npt.NDArray[np.float64] = np.sqrt(nearest / z.shape[1])
    return result


def calibrate(
    raw: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Slope and bias (K,) that turn responses into logits, by maximum likelihood.

    Two classes get Platt's sigmoid (Platt 1999) with his smoothed targets; more classes get one
    temperature (Guo et al. 2017), since small calibration splits cannot carry a bias per class.
    """
    count = raw.shape[1]
    smooth = 1.0 / (len(labels) + 2.0)
    targets = np.full_like(raw, smooth / max(count - 1, 1))
    targets[np.arange(len(labels)), labels] = 1.0 - smooth

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        slope, shift = np.exp(parameters[0]), parameters[1] if count == 2 else 0.0
        logits = raw * slope
        logits[:, -1] += shift
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return float(-(targets * log_p).sum(1).mean())

    best = optimize.minimize(loss, np.array([np.log(6.0), 0.0]), method="Nelder-Mead").x
    slope = np.full(count, np.exp(best[0]), np.float32)
    bias = np.zeros(count, np.float32)
    if count == 2:
        bias[-1] = best[1]
    return slope, bias
