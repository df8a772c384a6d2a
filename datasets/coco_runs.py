"""Run lengths: COCO's, plain or packed into a string, and those of a drawn mask."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from twonines.datasets.mask_sources import MaskRuns
from twonines.datasets.masks import Mask


def read_runs(segmentation: dict[str, Any]) -> MaskRuns:
    """Runs of ``{"size": [height, width], "counts": list or string}``.

    Raises:
        ValueError: the string is cut off or the counts do not fill the size.
    """
    height, width = (int(one) for one in segmentation["size"])
    counts = segmentation["counts"]
    lengths = list(_unpack(counts)) if isinstance(counts, str) else [int(one) for one in counts]
    ends = list(accumulate(lengths))
    if min(lengths, default=-1) < 0 or ends[-1] != height * width:
        raise ValueError(f"run lengths must fill {height} x {width}")
    # counts alternate: background first
    runs = zip(ends[::2], lengths[1::2], strict=False)
    return MaskRuns(tuple(runs), (height, width))


def crop_runs(crop: Mask, left: int, top: int, size: tuple[int, int]) -> MaskRuns:
    """Runs of a mask (h, w) bool that lies at column ``left``, row ``top`` of a picture.

    Raises:
        ValueError: it is not inside ``size`` (height, width).
    """
    height, width = size
    if min(left, top) < 0 or top + crop.shape[0] > height or left + crop.shape[1] > width:
        raise ValueError(f"a mask of {crop.shape} at ({left}, {top}) must lie inside {size}")
    steps = np.diff(np.pad(crop.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    columns, firsts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    starts = (left + columns) * height + top + firsts
    return MaskRuns(tuple(zip(starts.tolist(), (ends - firsts).tolist(), strict=True)), size)


def _unpack(text: str) -> Iterator[int]:
    """Numbers of the packed string: 5 bits a character, and from the third on as differences."""
    numbers: list[int] = []
    value = shift = 0
    for char in text:
        code = ord(char) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
        yield numbers[-1]
    if shift:
        raise ValueError("packed run lengths are cut off")
