"""COCO's run lengths, plain or packed into a string."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from twonines.datasets.mask_sources import MaskRuns


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
