"""How well a map shows where the defects are: pixel figures with their intervals.

A picture becomes a :class:`Tally` of counts per level of its map, small enough to keep for every
picture; the figures and their bootstrap are sums of tallies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from scipy import ndimage

from twonines.benchmarks.statistics import Floats
from twonines.datasets.masks import Mask
from twonines.types import FloatArray

Ints = npt.NDArray[np.int64]
REPEATS = 200
FPR_LIMIT = 0.3
_OCTAVES = 20
_SHIFT = 15  # leaves 8 of float32's 23 bits of fraction: 256 levels an octave
_FLOOR = np.float32(2.0**-_OCTAVES)
_HALF = int(np.float32(0.5).view(np.uint32) >> _SHIFT)
_BASE = int(_FLOOR.view(np.uint32) >> _SHIFT)
LEVELS = 2 * (_HALF - _BASE) + 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval (NaN where none can be had).

    ``n`` pictures and ``instances`` marked regions or boxes stand behind it. ``oracle`` figures
    chose their threshold on the test pictures themselves: a bound, not a result.
    """

    value: float
    n: int
    instances: int
    low: float
    high: float
    oracle: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of one picture.

    ``good`` and ``defective`` (LEVELS,) are pixels per level of the map, highest first;
    ``overlap`` (LEVELS,) sums over the marked regions the share of the region at that level.
    ``confusion`` (K + 2, K + 1) counts pixels by truth (background, K kinds, a kind unknown) and
    by answer (background, K kinds) at the threshold.
    """

    good: npt.NDArray[np.int32]
    defective: npt.NDArray[np.int32]
    overlap: FloatArray
    regions: int
    confusion: Ints


def to_levels(values: FloatArray) -> Ints:
    """Levels of map values, [0, LEVELS), the highest value first.

    256 a octave of x, or of 1 - x above a half, down to 2^-20: a calibrated map crowds at both
    ends, where equal steps would tie what the map tells apart.
    """
    x = np.clip(np.asarray(values, np.float32), 0, 1)
    upper = x > 0.5
    distance = np.maximum(np.where(upper, 1 - x, x), _FLOOR)
    step = (distance.view(np.uint32) >> _SHIFT).astype(np.int64) - _BASE
    return np.where(upper, step, LEVELS - 1 - step)


def to_picture_size(defect_map: FloatArray, size: tuple[int, int]) -> FloatArray:
    """The map at a picture's (height, width); bilinear, pixel centres at halves."""
    if defect_map.shape == size:
        return defect_map
    image = PILImage.fromarray(np.asarray(defect_map, np.float32))
    return np.asarray(image.resize(size[::-1], PILImage.Resampling.BILINEAR), np.float32)


def tally(
    defect_map: FloatArray,
    mask: Mask,
    *,
    threshold: float,
    classes: int = 1,
    true_class: int | None = 0,
    said_class: int | npt.NDArray[np.int64] = 0,
) -> Tally:
    """Count one picture, at its own resolution.

    Args:
        defect_map: (h, w) float32 in [0, 1]; brought to the size of the mask.
        mask: (H, W) bool, true on defective pixels; all false for a good part.
        threshold: pixels from here on are called defective.
        classes: kinds of defect, K.
        true_class: kind of the marked pixels, [0, K); None where it is not known.
        said_class: kind that the model says, of the picture or (h, w) of each place.
    """
    values = to_picture_size(defect_map, mask.shape)
    levels = to_levels(values)
    # Bergmann et al. join regions over corners.
    labels, regions = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=regions + 1)
    share = 1 / np.maximum(areas, 1)
    inside = levels[mask]
    return Tally(
        good=np.bincount(levels[~mask], minlength=LEVELS).astype(np.int32),
        defective=np.bincount(inside, minlength=LEVELS).astype(np.int32),
        overlap=np.bincount(inside, share[labels[mask]], minlength=LEVELS).astype(np.float32),
        regions=int(regions),
        confusion=_confusion(values >= threshold, mask, classes, true_class, said_class),
    )


def _confusion(
    called: Mask,
    mask: Mask,
    classes: int,
    true_class: int | None,
    said_class: int | npt.NDArray[np.int64],
) -> Ints:
    kind = np.asarray(said_class)
    if kind.ndim:  # nearest place, as the centre of each pixel falls
        rows = ((np.arange(mask.shape[0]) + 0.5) * kind.shape[0] / mask.shape[0]).astype(int)
        columns = ((np.arange(mask.shape[1]) + 0.5) * kind.shape[1] / mask.shape[1]).astype(int)
        kind = kind[rows[:, None], columns]
    said = np.where(called, kind + 1, 0)
    truth = np.where(mask, classes + 1 if true_class is None else true_class + 1, 0)
    counts = np.bincount((truth * (classes + 1) + said).ravel(),
                         minlength=(classes + 2) * (classes + 1))  # fmt: skip
    return counts.reshape(classes + 2, classes + 1)


def average_precision(defective: Floats, good: Floats) -> Floats:
    """Pixel average precision: sum of precision times the step of recall.

    Args:
        defective: (R, LEVELS) pixels per level, highest first.
        good: the same of the good pixels.

    Returns:
        (R,), NaN where there is no defective pixel.
    """
    caught = np.cumsum(defective, axis=1)
    called = caught + np.cumsum(good, axis=1)
    precision = np.divide(caught, called, out=np.zeros_like(caught), where=called > 0)
    return _ratio((defective * precision).sum(axis=1), caught[:, -1])


def aupro(overlap: Floats, good: Floats, regions: Floats, limit: float = FPR_LIMIT) -> Floats:
    """Area under the per-region overlap up to a false-positive rate, over that rate.

    Bergmann et al., "Uninformed Students", CVPR 2020, and "The MVTec Anomaly Detection Dataset",
    IJCV 129, 2021: every region counts the same, however large; trapezoids between thresholds.

    Args:
        overlap: (R, LEVELS) shares of regions per level, highest first.
        good: (R, LEVELS) good pixels per level.
        regions: (R,) marked regions.
        limit: false-positive rate to integrate to, (0, 1].

    Returns:
        (R,), NaN where there is no region or no good pixel.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit: must lie in (0, 1], got {limit}")
    rate = _ratio(np.cumsum(good, axis=1), good.sum(axis=1)[:, None])
    share = _ratio(np.cumsum(overlap, axis=1), regions[:, None])
    from_rate = np.concatenate([np.zeros((len(rate), 1)), rate[:, :-1]], axis=1)
    from_share = np.concatenate([np.zeros((len(share), 1)), share[:, :-1]], axis=1)
    width = rate - from_rate
    kept = np.clip(limit - from_rate, 0, width)
    # Part of the step that lies below the limit, 0 to 1.
    part = np.divide(kept, width, out=np.zeros_like(kept), where=width > 0)
    area: Floats = (kept * (from_share + (share - from_share) * part / 2)).sum(axis=1) / limit
    return area


def best_iou(defective: Floats, good: Floats) -> Floats:
    """Best IoU of defective against the rest over all levels, (R, LEVELS) twice -> (R,)."""
    caught, false = np.cumsum(defective, axis=1), np.cumsum(good, axis=1)
    result: Floats = _ratio(caught, caught[:, -1:] + false).max(axis=1)
    return np.where(caught[:, -1] > 0, result, np.nan)


def class_iou(confusion: Floats) -> Floats:
    """IoU of background and each kind: (R, K + 2, K + 1) -> (R, K + 1).

    NaN where the truth has none of a kind. Pixels of unknown kind are left out.
    """
    known = confusion[:, :-1]
    right = np.diagonal(known, axis1=1, axis2=2)
    truth, said = known.sum(axis=2), known.sum(axis=1)
    return np.where(truth > 0, _ratio(right, truth + said - right), np.nan)


def defect_iou(confusion: Floats) -> Floats:
    """IoU of defective against the rest at the threshold: (R, K + 2, K + 1) -> (R,)."""
    right = confusion[:, 1:, 1:].sum(axis=(1, 2))
    union = confusion.sum(axis=(1, 2)) - confusion[:, 0, 0]
    return np.where(confusion[:, 1:].sum(axis=(1, 2)) > 0, _ratio(right, union), np.nan)


def pixel_figures(
    tallies: Sequence[Tally],
    units: Sequence[str],
    classes: Sequence[str] = ("defective",),
    *,
    seed: int = 0,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """All pixel figures of a test set.

    Args:
        tallies: one a picture.
        units: the group of each picture; the bootstrap draws groups, since pictures of one part
            are no independent evidence. A name of its own where the set names no groups.
        classes: names of the K kinds.
        seed: seeds the bootstrap.
        repeats: draws.

    Returns:
        :class:`Figure` by name: ``pixel_average_precision``, ``aupro``, ``iou`` (defective against
        the rest at the threshold), ``best_iou`` (an oracle), ``mean_iou`` over kinds of defect,
        ``mean_iou_with_background``; and ``class_iou``, a figure by kind. Empty where no pixel is
        marked.
    """
    if not any(one.regions for one in tallies):
        return {}
    draw = Draws(units, seed=seed, repeats=repeats)
    good, defective, overlap, confusion = (
        draw.sums(np.stack([getattr(one, name) for one in tallies]))
        for name in ("good", "defective", "overlap", "confusion")
    )
    count = np.array([one.regions for one in tallies])
    regions = draw.sums(count)
    by_class = class_iou(confusion)
    instances = int(count.sum())

    def figure(values: Floats, oracle: bool = False) -> Figure:
        return draw.figure(values, instances=instances, oracle=oracle)

    return {
        "pixel_average_precision": figure(average_precision(defective, good)),
        "aupro": figure(aupro(overlap, good, regions)),
        "iou": figure(defect_iou(confusion)),
        "best_iou": figure(best_iou(defective, good), oracle=True),
        "mean_iou": figure(mean_known(by_class[:, 1:])),
        "mean_iou_with_background": figure(mean_known(by_class)),
        "class_iou": {
            name: figure(by_class[:, 1 + k])
            for k, name in enumerate(classes)
            if np.isfinite(by_class[0, 1 + k])
        },
    }


class Draws:
    """The whole test set in row 0, then ``repeats`` bootstrap draws of its groups."""

    def __init__(self, units: Sequence[str], *, seed: int = 0, repeats: int = REPEATS) -> None:
        """Draw as many groups as there are, with replacement."""
        names, self.unit = np.unique(np.asarray(units), return_inverse=True)
        self.pictures, self.units = len(units), len(names)
        drawn = np.random.default_rng(seed).multinomial(
            self.units, np.full(self.units, 1 / self.units), size=repeats
        )
        self.counts: Floats = np.concatenate([np.ones((1, self.units)), drawn])

    @property
    def weights(self) -> Floats:
        """(1 + repeats, N) how often each picture is in each draw."""
        return self.counts[:, self.unit]

    def sums(self, values: npt.NDArray[Any]) -> Floats:
        """Sums over the pictures of each draw: (N, ...) -> (1 + repeats, ...)."""
        result: Floats = np.tensordot(self.weights, values, axes=1)
        return result

    def figure(self, values: Floats, *, instances: int, oracle: bool = False) -> Figure:
        """The figure of row 0 with the percentile interval of the other rows, (1 + repeats,)."""
        drawn = values[1:][np.isfinite(values[1:])]
        low, high = np.quantile(drawn, [0.025, 0.975]) if self.units > 1 and len(drawn) else (
            np.nan, np.nan)  # fmt: skip
        return Figure(float(values[0]), self.pictures, instances, float(low), float(high), oracle)


def mean_known(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _ratio(over: npt.NDArray[Any], under: npt.NDArray[Any]) -> Floats:
    """The quotient; NaN where ``under`` is 0."""
    over, under = np.broadcast_arrays(over, under)
    result: Floats = np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)
    return result
