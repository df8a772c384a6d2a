"""Fit the image head on features: closed form, seconds, deterministic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize
from scipy.special import expit, logsumexp, softmax

from twonines.models.backbone import POOLS
from twonines.models.head import CLIP, HeadWeights
from twonines.types import GOOD, FloatArray

MAX_LANDMARKS = 2048
RIDGE = 0.1
"""Added to the kernel's diagonal; chosen on elpv, held on NEU-DET and X-SDD."""
_DEAD = 1e-3
"""A feature that varies less in training says nothing; its scale would blow up."""


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """How the columns of the features belong to the backbone.

    ``weight`` (D,) float32 gives every block the same share of a squared distance, whatever its
    width.
    """

    weight: FloatArray

    @classmethod
    def of(cls, widths: Sequence[int]) -> "FeatureLayout":
        """From the channels of every pooled block."""
        shares = [np.full(POOLS * w, 1 / np.sqrt(POOLS * w * len(widths))) for w in widths]
        return cls(np.concatenate(shares).astype(np.float32))


def standardise(
    features: FloatArray, mean: FloatArray, gain: FloatArray, weight: FloatArray
) -> FloatArray:
    """The head's view of features (N, D): centred, scaled, cut at ``CLIP``, weighted."""
    result: FloatArray = np.clip((features - mean) * gain, -CLIP, CLIP) * weight
    return result


def soft_targets(
    labels: npt.NDArray[np.int64], certainty: FloatArray, count: int
) -> npt.NDArray[np.float64]:
    """Targets (N, K) that sum to 1; a sure label gets 1, the others 0."""
    own = (1.0 + certainty.astype(np.float64)) / 2
    targets = np.repeat(((1 - own) / max(count - 1, 1))[:, None], count, axis=1)
    targets[np.arange(len(labels)), labels] = own
    return targets


def fit_head(
    features: FloatArray,
    labels: npt.NDArray[np.int64],
    certainty: FloatArray,
    classes: Sequence[str],
    layout: FeatureLayout,
    *,
    seed: int,
) -> HeadWeights:
    """Kernel ridge classification (Saunders et al. 1998) with an RBF kernel.

    Args:
        features: (N, D) float32 of the training pictures.
        labels: (N,) index into ``classes``.
        certainty: (N,) in [0, 1]; an unsure label pulls less: its target is (1 + certainty) / 2.
        classes: K names, ``good`` first where there is one.
        layout: how the columns of ``features`` belong to blocks.
        seed: chooses the landmarks where there are more than ``MAX_LANDMARKS`` pictures.

    Returns:
        Weights with an identity calibration and an empty map; see :func:`calibrate` and
        :func:`twonines.training.places.learn_map`.
    """
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    gain = np.where(deviation > _DEAD, 1 / np.maximum(deviation, _DEAD), 0.0)
    mean, gain = mean.astype(np.float32), gain.astype(np.float32)
    z = standardise(features, mean, gain, layout.weight)
    count = len(classes)
    targets = soft_targets(labels, certainty, count)
    offset = targets.mean(0)
    chosen = _landmarks(labels, seed)
    landmarks = z[chosen].astype(np.float16)  # half the file; the fit sees the rounding
    kernel = np.exp(-_squared_distances(z, landmarks))
    alphas = _solve(kernel, chosen, targets - offset)
    return HeadWeights(
        mean=mean,
        gain=gain,
        weight=layout.weight,
        landmarks=landmarks,
        alphas=alphas.astype(np.float32),
        offset=offset.astype(np.float32),
        reject=np.array([1, 0], np.float32),
        temperature=np.ones(1, np.float32),
        place_weights=np.zeros((1, 1), np.float32),
        place_bias=np.zeros(1, np.float32),
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


def _squared_distances(
    a: FloatArray, b: FloatArray | npt.NDArray[np.float16]
) -> npt.NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squared = (a64**2).sum(1)[:, None] + (b64**2).sum(1)[None] - 2 * a64 @ b64.T
    result: npt.NDArray[np.float64] = np.maximum(squared, 0.0)
    return result


def responses(weights: HeadWeights, features: FloatArray) -> npt.NDArray[np.float64]:
    """Uncalibrated kernel ridge responses (N, K)."""
    z = standardise(features, weights.mean, weights.gain, weights.weight)
    kernel = np.exp(-_squared_distances(z, weights.landmarks))
    return np.asarray(kernel @ weights.alphas + weights.offset, np.float64)


def novelty(weights: HeadWeights, features: FloatArray) -> npt.NDArray[np.float64]:
    """Root mean squared distance to the nearest landmark, (N,)."""
    z = standardise(features, weights.mean, weights.gain, weights.weight)
    result: npt.NDArray[np.float64] = np.sqrt(_squared_distances(z, weights.landmarks).min(1))
    return result


def calibrate(
    weights: HeadWeights, features: FloatArray, labels: npt.NDArray[np.int64]
) -> HeadWeights:
    """Fit the probabilities on pictures that the head has not seen.

    Good or not gets Platt's sigmoid with his smoothed targets (Platt 1999); the kinds of defect
    get one temperature (Guo et al. 2017), since small splits cannot carry a bias per class.

    Args:
        weights: the fitted head.
        features: (N, D) float32 of the calibration split.
        labels: (N,) class indices.
    """
    raw = responses(weights, features)
    if not weights.has_good:
        return replace(weights, temperature=fit_temperature(raw, labels))
    defective = labels > 0
    return replace(
        weights,
        reject=fit_sigmoid(1 - 2 * raw[:, :1], defective),
        temperature=fit_temperature(raw[defective, 1:], labels[defective] - 1),
    )


def fit_sigmoid(signs: npt.NDArray[np.float64], defective: npt.NDArray[np.bool_]) -> FloatArray:
    """Slopes of signs (N, S), none below 0, and bias of a sigmoid, (S + 1,), by likelihood."""
    count = int(defective.sum())
    targets = np.where(defective, (count + 1) / (count + 2), 1 / (len(defective) - count + 2))

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = signs @ parameters[:-1] + parameters[-1]
        wrong = expit(logits) - targets
        value = float((np.logaddexp(0, logits) - targets * logits).mean())
        return value, np.append(wrong @ signs, wrong.sum()) / len(signs)

    slopes = signs.shape[1]
    best = optimize.minimize(
        loss, np.append(np.ones(slopes), 0.0), jac=True, method="L-BFGS-B",
        bounds=[*[(0.0, None)] * slopes, (None, None)], options={"ftol": 1e-14, "gtol": 1e-8},
    ).x  # fmt: skip
    return np.asarray(best, np.float32)


def fit_temperature(raw: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> FloatArray:
    """The multiplier of responses (N, K); 1 where there is nothing to fit."""
    if raw.shape[1] < 2 or not len(raw):
        return np.ones(1, np.float32)
    smooth = 1.0 / (len(labels) + 2.0)
    targets = np.full_like(raw, smooth / (raw.shape[1] - 1))
    targets[np.arange(len(labels)), labels] = 1.0 - smooth

    def loss(log_scale: float) -> float:
        logits = raw * np.exp(log_scale)
        return float((logsumexp(logits, axis=1) - (targets * logits).sum(1)).mean())

    best = optimize.minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x
    return np.array([np.exp(best)], np.float32)


def probabilities(weights: HeadWeights, features: FloatArray) -> npt.NDArray[np.float64]:
    """Calibrated class scores (N, K), as the model's graph gives them."""
    raw = responses(weights, features)
    if not weights.has_good:
        kinds: npt.NDArray[np.float64] = softmax(raw * weights.temperature, axis=1)
        return kinds
    score = expit(weights.reject[0] * (1 - 2 * raw[:, 0]) + weights.reject[1])
    share = softmax(raw[:, 1:] * weights.temperature, axis=1)
    return np.concatenate([1 - score[:, None], share * score[:, None]], axis=1)
