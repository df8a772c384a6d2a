"""Fit the patch memory on good pictures: a sample, its covariance, a coreset and a limit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from twonines.errors import DatasetError
from twonines.models.patches import PatchWeights, top_count
from twonines.types import FloatArray

SAMPLE = 50_000
"""Patches kept while pictures stream by; 384 channels of them are 77 MB."""
MEMORY = 1000
SHRINKAGE = 0.05
"""Added to the correlations' diagonal, so that a direction without variance cannot rule."""
SKETCH = 64
"""Dimensions of the random projection in which the coreset is chosen."""
MIN_CALIBRATION = 10
_DEAD = 1e-3
_LOGIT = 4.0
"""The median good picture gets a logit this far below that of the limit."""


def sample_patches(
    batches: Iterable[FloatArray], pictures: int, *, seed: int, sample: int = SAMPLE
) -> FloatArray:
    """The same number of random patches of every picture, about ``sample`` in all.

    Args:
        batches: arrays (n, h, w, C) float32 that hold ``pictures`` pictures together.
        pictures: how many come.
        seed: chooses the places.
        sample: where this is less than one patch a picture, each still gives one.

    Returns:
        (S, C) float32; no more than ``sample + pictures`` rows are ever held.
    """
    rng = np.random.default_rng(seed)
    kept = []
    for batch in batches:
        flat = batch.reshape(len(batch), -1, batch.shape[-1])  # (n, h w, C)
        share = min(flat.shape[1], -(-sample // pictures))
        for patches in flat:
            kept.append(patches[rng.permutation(len(patches))[:share]])
    return np.concatenate(kept)


def fit_memory(patches: FloatArray, *, seed: int, memory: int = MEMORY) -> PatchWeights:
    """Whiten patches (S, C) of good pictures and keep a coreset of at most ``memory``.

    Returns:
        Weights without a limit; see :func:`calibrate_limit`.
    """
    mean, deviation = patches.mean(0, dtype=np.float64), patches.std(0, dtype=np.float64)
    gain = 1 / np.maximum(deviation, _DEAD)
    z = (patches - mean) * gain
    channels = z.shape[1]
    correlation = z.T @ z / len(z) + SHRINKAGE * np.eye(channels)
    root = linalg.cholesky(correlation, lower=True)
    inverse = linalg.solve_triangular(root, np.eye(channels), lower=True)
    whiten = (gain[:, None] * inverse.T / np.sqrt(channels)).astype(np.float32)
    weights = PatchWeights(
        whiten=whiten,
        offset=(-mean @ whiten).astype(np.float32),
        memory=np.empty((0, channels), np.float16),
    )
    white = whitened(weights, patches)
    chosen = k_center(white, memory, seed=seed)
    return replace(weights, memory=white[chosen].astype(np.float16))


def whitened(weights: PatchWeights, patches: FloatArray) -> FloatArray:
    """Patches (S, C) as the head sees them."""
    result: FloatArray = (patches @ weights.whiten + weights.offset).astype(np.float32)
    return result


def k_center(
    points: FloatArray, count: int, *, seed: int, sketch: int = SKETCH
) -> npt.NDArray[np.int64]:
    """Greedy k-center (Gonzalez 1985): each next point is the farthest from those chosen.

    Distances are those of a seeded Gaussian projection (Johnson and Lindenstrauss), as in
    PatchCore; the first point is drawn.

    Args:
        points: (S, C) float32.
        count: points to choose; all where there are no more.
        seed: draws the projection and the first point.
        sketch: dimensions after the projection; C or more leaves the points as they are.

    Returns:
        Indices in the order in which they were chosen.
    """
    if len(points) <= count:
        return np.arange(len(points))
    rng = np.random.default_rng(seed)
    width = points.shape[1]
    if sketch < width:
        projection = rng.normal(size=(width, sketch)) / np.sqrt(sketch)
        points = points @ projection.astype(np.float32)
    squares = np.square(points).sum(1)
    chosen = [int(rng.integers(len(points)))]
    nearest = np.full(len(points), np.inf, np.float32)
    for _ in range(count - 1):
        last = chosen[-1]
        squared = squares + squares[last] - 2 * (points @ points[last])
        nearest = np.minimum(nearest, squared)
        nearest[last] = -np.inf  # rounding must not choose a point twice
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def picture_distances(weights: PatchWeights, patches: FloatArray) -> npt.NDArray[np.float64]:
    """The head's distance of every picture, (n,), from its patches (n, h, w, C)."""
    count, height, width, channels = patches.shape
    z = whitened(weights, patches.reshape(-1, channels)).astype(np.float64)
    memory = weights.memory.astype(np.float64)
    squared = (z**2).sum(1)[:, None] + (memory**2).sum(1) - 2 * z @ memory.T  # (n h w, M)
    distance = np.sqrt(np.maximum(squared.min(1), 0)).reshape(count, height * width)
    result: npt.NDArray[np.float64] = np.sort(distance, axis=1)[
        :, -top_count(height * width) :
    ].mean(1)
    return result


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit with what it promises of good pictures like those it was set on.

    ``expected_overkill`` bounds the chance that the next good picture reaches it.
    """

    limit: float
    scale: float
    expected_overkill: float


def find_limit(distances: npt.NDArray[np.float64], overkill_aim: float) -> Limit:
    """Set the limit on good pictures that were not taught.

    Of n exchangeable good pictures and the next one, the next lies above the k-th smallest with
    chance at most 1 - k / (n + 1) (Vovk et al. 2005): the smallest k that keeps this at the aim is
    taken. Too few pictures cannot show the aim; then the largest distance is the limit, nothing
    is extrapolated, and ``expected_overkill`` says what n pictures can show.

    Raises:
        DatasetError: there are fewer than ``MIN_CALIBRATION``.
    """
    count = len(distances)
    if count < MIN_CALIBRATION:
        raise DatasetError(
            f"calibration split: must hold at least {MIN_CALIBRATION} good pictures to set the "
            f"limit of the task 'anomaly', got {count}; add good pictures"
        )
    ordered = np.sort(distances)
    rank = min(count, int(np.ceil((count + 1) * (1 - overkill_aim) - 1e-9)))
    # On the limit is NG, so it lies above the k-th: halfway to the next, or a little beyond.
    above = ordered[rank] if rank < count else ordered[-1] * 1.002
    limit = max(float(ordered[rank - 1] + above) / 2, 0.1)
    scale = max((limit - float(np.median(ordered))) / _LOGIT, 0.02)
    return Limit(limit, scale, 1 - rank / (count + 1))
