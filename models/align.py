"""Align a reference with a picture: one shift of whole pixels, by phase correlation.

The method is that of Kuglin and Hines, "The phase correlation image alignment method", 1975.
"""

import numpy as np
from PIL import Image as PILImage
from scipy import fft

from twonines.errors import ImageError
from twonines.types import FloatArray, Image

MAX_SHIFT = 0.04
"""The largest shift that is looked for, as a share of the picture's side."""
MIN_PEAK = 0.1
"""A weaker correlation, of at most 1, says nothing: the pictures stay as they are."""
MAX_STRETCH = 0.02
"""How far the ratio of a reference's sides may differ from the picture's, as a share."""
_CLOSER = 0.95
_STEPS = 5
_MAX_SIDE = 1024
_BAND = 0.1
"""Frequencies that count, in cycles per pixel: finer ones are mostly noise."""


def find_shift(image: Image, reference: Image) -> tuple[int, int]:
    """How far the reference must move to lie on the picture.

    The same pictures give the same shift. Of large pictures it is found on smaller copies of at
    most 1,024 pixels a side, and so in steps of several pixels.

    Convention: (down, right) in pixels; content at (y, x) of the reference is found at
    (y + down, x + right) of the picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        reference: the same shape.

    Returns:
        The shift, at most ``MAX_SHIFT`` of each side; (0, 0) where the correlation is weaker
        than ``MIN_PEAK``, or where the grey values differ hardly less with the shift.
    """
    height, width = image.shape[:2]
    step = max(1, -(-max(height, width) // _MAX_SIDE))
    mine, other = _grey(image, step), _grey(reference, step)
    surface = _correlate(mine, other)
    reach = [int(side * MAX_SHIFT) for side in mine.shape]
    rows, columns = (np.arange(-r, r + 1) for r in reach)
    near = surface[np.ix_(rows, columns)]  # negative indices are negative shifts
    if not near.max() >= MIN_PEAK:
        return 0, 0
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    best = _descend(mine, other, (int(rows[row]), int(columns[column])), reach)
    if _difference(mine, other, *best) > _CLOSER * _difference(mine, other, 0, 0):
        return 0, 0
    return best[0] * step, best[1] * step


def _descend(
    mine: FloatArray, other: FloatArray, start: tuple[int, int], reach: list[int]
) -> tuple[int, int]:
    """From the peak to the least difference nearby: widths of lines may move the peak by pixels."""
    best, least = start, _difference(mine, other, *start)
    for _ in range(_STEPS):
        around = [
            (best[0] + down, best[1] + right)
            for down, right in ((-1, 0), (0, -1), (0, 1), (1, 0))
            if abs(best[0] + down) <= reach[0] and abs(best[1] + right) <= reach[1]
        ]
        found = [(_difference(mine, other, *place), place) for place in around]
        if not found or min(found)[0] >= least:
            break
        least, best = min(found)
    return best


def shift(image: Image, down: int, right: int) -> Image:
    """Move a picture by whole pixels; what comes in repeats its edge.

    Args:
        image: (H, W, 3) uint8 RGB.
        down: rows to move by, negative for up.
        right: columns to move by, negative for left.
    """
    if not (down or right):
        return image
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows[:, None], columns]


def lay_on(image: Image, reference: Image) -> Image:
    """The reference, moved to lie on the picture: what a model of pairs is shown beside it."""
    return shift(reference, *find_shift(image, reference))


def check_view(size: tuple[int, int], reference: tuple[int, int]) -> None:
    """Refuse a reference whose sides are in another ratio than the picture's.

    Args:
        size: (height, width) of the picture as it came.
        reference: the same of the reference.

    Raises:
        ImageError: the ratios differ by more than ``MAX_STRETCH``.
    """
    height, width = reference
    stretch = (width * size[0]) / (height * size[1])
    if not 1 - MAX_STRETCH <= stretch <= 1 + MAX_STRETCH:
        raise ImageError(
            f"reference: must show the view of the picture, {size[1]} x {size[0]} pixels or "
            f"sides in that ratio, got {width} x {height}"
        )


def _grey(image: Image, step: int) -> FloatArray:
    picture = PILImage.fromarray(image).convert("L")
    return np.asarray(picture.reduce(step) if step > 1 else picture, np.float32)


def _correlate(mine: FloatArray, other: FloatArray) -> FloatArray:
    """Phase correlation of two pictures; 1 at the shift of two that are shifted copies."""
    height, width = mine.shape
    # Without a window the edges, which do not go on at the other side, correlate at shift 0.
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    spectra = [fft.rfft2((picture - picture.mean()) * window) for picture in (mine, other)]
    cross = spectra[0] * spectra[1].conj()
    strength = np.abs(cross)
    # Frequencies that hold nothing but rounding would each count as much as the others.
    floor = max(float(strength.max()) * 1e-6, 1e-6)
    down, right = fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None]
    weight = np.exp(-(down**2 + right**2) / (2 * _BAND**2)).astype(np.float32)
    surface: FloatArray = fft.irfft2(weight * cross / np.maximum(strength, floor), s=mine.shape)
    surface /= fft.irfft2(weight, s=mine.shape)[0, 0]
    return surface


def _difference(mine: FloatArray, other: FloatArray, down: int, right: int) -> float:
    """Mean absolute grey difference where the shifted reference covers the picture."""
    height, width = mine.shape
    top, left = max(down, 0), max(right, 0)
    bottom, end = height + min(down, 0), width + min(right, 0)
    moved = other[top - down : bottom - down, left - right : end - right]
    return float(np.abs(mine[top:bottom, left:end] - moved).mean())
