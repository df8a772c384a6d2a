"""Choose what of a map is listed as a region, on pictures whose masks are known."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twonines.datasets.masks import Mask
from twonines.types import FloatArray

THRESHOLDS = np.linspace(0.02, 0.98, 49)
SMALLEST_AREAS = (0.0, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005)
MOST_PLACES = 6_000_000
"""Of all maps that choose the regions together: 48 MB with the marks."""
MARKED = 1 / 16
"""A place belongs to a mark from this share on: one pixel of the input at stride 4."""
_TOUCHING = np.ones((3, 3))


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """The policy's ``region_threshold`` and ``min_region_area``, and what they reach.

    ``iou`` is the intersection over union, by area, on the pictures that were looked at, of which
    ``masks`` have a mask. ``f1`` is that of regions: one is right where it touches a mark, a mark
    is found where a region touches it.
    """

    threshold: float
    min_area: float
    iou: float
    f1: float
    masks: int

    def reached(self) -> dict[str, float]:
        """What the card says of it beside the calibration."""
        return {"region_iou": self.iou, "region_f1": self.f1, "masks": float(self.masks)}


def choose_regions(pictures: Iterable[tuple[FloatArray, FloatArray]]) -> RegionChoice | None:
    """The threshold with the best intersection over union, then the area with the best F1.

    Both are counted on the map's own places, where the decision cuts regions out: a region of so
    many places covers them whole.

    Args:
        pictures: maps (h, w) float32 in [0, 1], as the model gives them, and the share of each
            place (h, w) float32 that is marked; good pictures have nothing marked. All are kept
            in memory; :data:`MOST_PLACES` is the bound for who gives them.

    Returns:
        None where no mask marks anything: there is nothing to choose by.
    """
    kept = list(pictures)
    marked = sum(bool(cover.any()) for _, cover in kept)
    if not marked:
        return None
    hits, called = (np.zeros(len(THRESHOLDS)) for _ in range(2))
    total = 0.0
    for values, cover in kept:
        hits += _reaching(values, cover)
        called += _reaching(values, np.ones_like(cover))
        total += float(cover.sum(dtype=np.float64))
    overlap = hits / (total + called - hits)  # |A and B| / |A or B|
    threshold = float(THRESHOLDS[int(overlap.argmax())])
    found = [_Found.of(values, cover >= MARKED, threshold) for values, cover in kept]
    scores = [_f1(found, area) for area in SMALLEST_AREAS]
    best = int(np.argmax(scores))  # of equals the smallest: a small defect stays listed
    return RegionChoice(
        threshold, SMALLEST_AREAS[best], float(overlap.max()), scores[best], int(marked)
    )


def _reaching(values: FloatArray, weight: FloatArray) -> npt.NDArray[np.float64]:
    """The weight of the values that reach each of :data:`THRESHOLDS`, (T,)."""
    step = np.searchsorted(THRESHOLDS, values.ravel(), side="right")  # thresholds reached
    counts = np.bincount(step, weight.ravel().astype(np.float64), minlength=len(THRESHOLDS) + 1)
    reaching: npt.NDArray[np.float64] = counts[::-1].cumsum()[::-1][1:]
    return reaching


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one picture: every region's share and if it touches a mark, every mark's largest region.

    ``regions`` (R,), ``right`` (R,) bool and ``marks`` (M,), where 0 is a mark that none touches.
    """

    regions: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    marks: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: FloatArray, mask: Mask, threshold: float) -> "_Found":
        labels, count = ndimage.label(values >= threshold, _TOUCHING)
        shapes, shape_count = ndimage.label(mask, _TOUCHING)
        shares = np.bincount(labels.ravel(), minlength=count + 1) / values.size
        shares[0] = 0.0  # the rest of the picture is no region
        right = np.zeros(count + 1, bool)
        right[labels[mask]] = True
        marks = np.zeros(shape_count + 1)
        np.maximum.at(marks, shapes[mask], shares[labels[mask]])
        return cls(shares[1:], right[1:], marks[1:])


def _f1(found: list[_Found], area: float) -> float:
    """F1 of the regions of at least ``area`` of a picture, over all pictures."""
    least = max(area, 1e-12)
    right = sum(int((f.right & (f.regions >= least)).sum()) for f in found)
    regions = sum(int((f.regions >= least).sum()) for f in found)
    marks = sum(len(f.marks) for f in found)
    recall = sum(int((f.marks >= least).sum()) for f in found) / max(marks, 1)
    precision = right / max(regions, 1)
    return 2 * precision * recall / (precision + recall) if right else 0.0
