"""Is this a picture of the kind that the model was taught on? Told from its pixels alone.

A blank, blurred, saturated, wrongly lit or wrongly sized picture, or one of a colour camera where
training was grey, says nothing of the part. The limits are learnt from the pictures of training
and calibration, and stand on the card.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from twonines.models.parts import CardPart
from twonines.types import Image

_FULL, _EMPTY = 251, 4
_TAIL = 0.005
_MARGIN = 0.2

# Feature -> whether it is a ratio, the least margin (a factor or a difference), and the words for
# below and above. Margins are wide: a limit is meant for a broken picture; what drifts slowly is
# the validity watch's.
_RULES: dict[str, tuple[bool, float, str, str]] = {
    "brightness": (False, 12.0, "too dark", "too bright"),
    "contrast": (True, 1.5, "blank or too flat", "too much contrast"),
    "dark_share": (False, 0.10, "", "too many black pixels"),
    "bright_share": (False, 0.05, "", "saturated"),
    "sharpness": (True, 1.3, "blurred", "too noisy"),
    "colour": (False, 6.0, "grey, but training was in colour", "another colour than in training"),
    "height": (True, 2.0, "too few rows", "too many rows"),
    "width": (True, 2.0, "too few columns", "too many columns"),
    "aspect": (True, 1.15, "too narrow", "too wide"),
}
FEATURES: tuple[str, ...] = tuple(_RULES)


class QualityLimits(CardPart):
    """The least and greatest value of each feature that is taken, from ``n`` pictures."""

    n: int
    limits: dict[str, tuple[float, float]]


def measure(size: tuple[int, int], resized: Image) -> dict[str, float]:
    """Features of one picture, by name.

    ``brightness`` is the mean of the green channel, ``contrast`` its deviation, both in grey
    levels; ``dark_share`` and ``bright_share`` are shares of values at the ends of the range;
    ``sharpness`` is the mean size of the Laplacian in grey levels; ``colour`` is the mean
    difference between channels. ``height``, ``width`` and ``aspect`` (width / height) are of the
    uploaded picture.

    Args:
        size: (height, width) of the uploaded picture.
        resized: (h, w, 3) uint8 RGB, the same picture at the model's input size; what the model
            sees is measured, and the cost does not grow with the upload.
    """
    # Whole planes of bytes and whole sums: exact, and twice as fast as floats or strides.
    red, green, blue = (np.ascontiguousarray(resized[:, :, index]) for index in range(3))
    n = green.size
    total, squares = _sum(green), _sum(np.multiply(green, green, dtype=np.uint16))
    height, width = size
    return {
        "brightness": total / n,
        "contrast": math.sqrt(n * squares - total**2) / n,
        "dark_share": np.count_nonzero(green <= _EMPTY) / n,
        "bright_share": np.count_nonzero(resized >= _FULL) / resized.size,
        "sharpness": _edges(green.astype(np.int16)),
        "colour": _distance(red, blue) / n + _distance(red, green) / n,
        "height": float(height),
        "width": float(width),
        "aspect": width / height,
    }


def _sum(values: npt.NDArray[Any]) -> int:
    return int(values.sum(dtype=np.uint64))


def _distance(one: Image, other: Image) -> int:
    """Sum of absolute differences of bytes, without a wider type."""
    if np.array_equal(one, other):  # grey, as most pictures of a line are
        return 0
    return _sum(np.maximum(one, other) - np.minimum(one, other))


def _edges(grey: npt.NDArray[np.int16]) -> float:
    """Mean size of the Laplacian.

    On whole rows as one line, where a neighbour lies one step or one row away; the first and last
    column, whose neighbours are of other rows, are left out of the sum.
    """
    height, width = grey.shape
    if height < 3 or width < 3:
        return 0.0
    line, end = grey.ravel(), grey.size - width
    laplacian = line[width:end] << 2
    for shift in (-width, width, -1, 1):
        laplacian -= line[width + shift : end + shift]
    np.abs(laplacian, out=laplacian)
    inner = laplacian.reshape(height - 2, width)[:, 1:-1]
    return int(inner.sum(dtype=np.int64)) / inner.size


def learn_limits(pictures: Iterable[Mapping[str, float]]) -> QualityLimits:
    """Limits from what :func:`measure` gave for pictures that are as they should be.

    The 0.5 % and 99.5 % quantiles, moved outwards by a fifth of the range between them and by no
    less than a margin of each feature's own: so a few odd pictures in training do not open the
    limits, and a set whose pictures are all alike is not held to the last grey level.

    Raises:
        ValueError: there is no picture.
    """
    rows = list(pictures)
    if not rows:
        raise ValueError("pictures: must hold at least one picture, got 0")
    limits = {}
    for name, (ratio, least, _, _) in _RULES.items():
        values = np.array([row[name] for row in rows], np.float64)
        if ratio:
            values, least = np.log(np.maximum(values, 1e-6)), np.log(least)
        low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
        margin = max(_MARGIN * (high - low), least)
        ends = np.array([low - margin, high + margin])
        low, high = np.exp(ends) if ratio else ends
        limits[name] = (float(low), float(high))
    return QualityLimits(n=len(rows), limits=limits)


def find_faults(picture: Mapping[str, float], limits: QualityLimits | None) -> list[str]:
    """What is wrong with a picture, in words; empty where nothing is or nothing is known.

    A feature that is missing or not a number is a fault: it was not shown to be right.
    """
    if limits is None:
        return []
    faults = []
    for name, (low, high) in limits.limits.items():
        value = picture.get(name, float("nan"))
        if low <= value <= high:
            continue
        _, _, below, above = _RULES.get(name, (False, 0.0, "", ""))
        words = below if value < low else above if value > high else ""
        faults.append(
            f"picture {words or 'not as in training'}: {name} {value:.3g} outside "
            f"[{low:.3g}, {high:.3g}]"
        )
    return faults
