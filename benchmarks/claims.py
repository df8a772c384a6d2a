"""What the report claims, and whether the data show it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Answer = Literal["met", "not met", "not shown by this much data"]
SPEED_TARGET = 3.0
_ORDER: tuple[Answer, ...] = ("not met", "not shown by this much data", "met")


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim: ``value`` with its interval against ``target``."""

    name: str
    sentence: str
    value: float
    low: float
    high: float
    target: float
    n: int
    answer: Answer

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def judge(low: float, high: float, target: float, *, strict: bool = False) -> Answer:
    """Met where the whole interval reaches the target, not met where none of it does.

    ``strict`` asks for more than the target. A NaN anywhere shows nothing.
    """
    if math.isnan(low) or math.isnan(high) or math.isnan(target):
        return "not shown by this much data"
    if low > target or (low == target and not strict):
        return "met"
    if high < target or (high == target and strict):
        return "not met"
    return "not shown by this much data"


def weakest(answers: Sequence[Answer]) -> Answer:
    """The least of several answers, all of which must hold."""
    return min(answers, key=_ORDER.index)


def accuracy_claim(
    accuracy: tuple[float, float, float],
    balanced: tuple[float, float, float],
    *,
    n: int,
    manual: float,
    manual_balanced: float,
) -> Claim:
    """The model is right more often than the inspector.

    Both accuracy at the test set's mix and balanced accuracy must be better: a model that accepts
    everything has a high accuracy wherever defects are rare.

    Args:
        accuracy: value, low and high of the accuracy on the test pictures.
        balanced: the same of the balanced accuracy.
        n: test pictures.
        manual: the inspector's accuracy at the test set's mix.
        manual_balanced: the inspector's balanced accuracy.
    """
    answer = weakest(
        [
            judge(accuracy[1], accuracy[2], manual, strict=True),
            judge(balanced[1], balanced[2], manual_balanced, strict=True),
        ]
    )
    sentence = f"More often right than manual inspection at {manual:.1%}"
    return Claim("accuracy", sentence, *accuracy, manual, n, answer)


def speed_claim(seconds: Sequence[float], *, manual_seconds: float, n: int) -> Claim:
    """The model takes a third of the inspector's time or less.

    Args:
        seconds: seconds a part, one value per measured round; the interval is their range.
        manual_seconds: the inspector's median seconds a part.
        n: pictures in a round.
    """
    gains = sorted(manual_seconds / value for value in seconds)
    if any(math.isnan(gain) for gain in gains):  # NaN is not sorted: it could hide in the middle
        gains = [math.nan]
    middle = (
        gains[len(gains) // 2]
        if len(gains) % 2
        else sum(gains[len(gains) // 2 - 1 : len(gains) // 2 + 1]) / 2
    )
    answer = judge(gains[0], gains[-1], SPEED_TARGET)
    sentence = (
        f"Computing alone: at least {SPEED_TARGET:g} times as fast as {manual_seconds:g} s by hand"
    )
    return Claim("speed", sentence, middle, gains[0], gains[-1], SPEED_TARGET, n, answer)
