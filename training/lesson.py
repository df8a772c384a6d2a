"""What every task of the recipe is given, and what it gives back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import onnx
from torch import nn

from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split
from twonines.errors import SettingsError
from twonines.models.card import Calibration, Policy, Task

Report = Callable[[str, int, int], None]
"""(stage, done, total), for a progress display."""
TaskChoice = Literal["auto", "classify", "segment", "detect", "anomaly"]
TASKS: tuple[TaskChoice, ...] = ("auto", "classify", "segment", "anomaly")


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What a user may choose of the recipe.

    ``task`` auto follows the labels, see :func:`twonines.training.teach.choose_task`.
    ``input_size`` is the side of the model's square input in pixels; None takes what the pictures
    offer, see :func:`twonines.training.teach.choose_input_size`. ``overkill_aim`` is the share of
    good parts that a model taught on good pictures may reject.
    """

    recipe: ClassVar[str] = "teach"
    tasks: ClassVar[tuple[TaskChoice, ...]] = TASKS

    input_size: int | None = None
    threshold: float = 0.5
    views: int = 1
    name: str | None = None
    task: TaskChoice = "auto"
    overkill_aim: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        if self.input_size is not None and not 32 <= self.input_size <= 1024:
            raise SettingsError(f"input_size: must lie in [32, 1024], got {self.input_size}")
        if not 0 < self.threshold < 1:
            raise SettingsError(f"threshold: must lie in (0, 1), got {self.threshold}")
        if not 1 <= self.views <= 8:
            raise SettingsError(f"views: must lie in [1, 8], got {self.views}")
        if self.task not in self.tasks:
            raise SettingsError(
                f"task: must be one of {', '.join(self.tasks)} for the recipe {self.recipe!r}, "
                f"got {self.task!r}"
            )
        if not 0 < self.overkill_aim < 0.5:
            raise SettingsError(f"overkill_aim: must lie in (0, 0.5), got {self.overkill_aim}")


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
    def views(self) -> list[int]:
        """The picture itself, then the flips and turns that the part allows.

        Half turn and mirrors come first, then quarter turns.
        """
        card = self.dataset.card
        quarters = {1: (0,), 2: (0, 2), 4: (0, 2, 1, 3)}[card.turns]
        allowed = [v for v in (0, 2, 4, 6, 1, 3, 5, 7)
                   if v % 4 in quarters and (v < 4 or card.flips_allowed)]  # fmt: skip
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
