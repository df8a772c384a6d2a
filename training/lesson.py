"""What every task of the recipe is given, and what it gives back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from torch import nn

from twonines.datasets.record import Dataset, Turns
from twonines.datasets.splits import Split
from twonines.models.card import Calibration, Policy, Task
from twonines.training.teach_options import TeachOptions

Report = Callable[[str, int, int], None]
"""(stage, done, total), for a progress display."""


class Clock:
    """Seconds since the last lap, by stage."""

    def __init__(self) -> None:
        """Start now."""
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Give the time since the last lap to ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


@dataclass(frozen=True, slots=True)
class Lesson:
    """The pictures and the choices, with ``size`` (height, width) of the model's input.

    ``out`` is the folder of the run, ``cache`` that of what any run may use again.
    """

    dataset: Dataset
    split: Split
    options: TeachOptions
    task: Task
    size: tuple[int, int]
    out: Path
    cache: Path
    report: Report
    clock: Clock = field(default_factory=Clock)

    @property
    def turns(self) -> Turns:
        """In how many ways a part may lie: no quarter turns where the input is not square."""
        turns = self.dataset.card.turns
        return turns if self.size[0] == self.size[1] or turns == 1 else 2

    @property
    def views(self) -> list[int]:
        """The picture itself, then the flips and turns that the part allows.

        Half turn and mirrors come first, then quarter turns.
        """
        quarters = {1: (0,), 2: (0, 2), 4: (0, 2, 1, 3)}[self.turns]
        allowed = [v for v in (0, 2, 4, 6, 1, 3, 5, 7)
                   if v % 4 in quarters and (v < 4 or self.dataset.card.flips_allowed)]  # fmt: skip
        return allowed[: self.options.views]


@dataclass(frozen=True, slots=True)
class Taught:
    """A task's result: the PyTorch model, its ONNX graph, and what the card says of both.

    ``reference`` is the PyTorch model that ONNX must agree with; ``pairs`` says that both compare
    a picture with one of a part without defects.
    """

    task: Task
    classes: tuple[str, ...]
    reference: nn.Module
    graph: onnx.ModelProto
    calibration: Calibration
    policy: Policy
    pairs: bool = False
