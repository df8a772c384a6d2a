"""What a user may choose of the recipe ``teach``."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from twonines.errors import SettingsError

TaskChoice = Literal["auto", "classify", "segment", "detect", "anomaly"]
SIDES = (32, 1024)
"""The shortest and the longest side of a model's input in pixels."""
InputSize = int | tuple[int, int]
TASKS: tuple[TaskChoice, ...] = ("auto", "classify", "segment", "anomaly")


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What a user may choose of the recipe.

    ``task`` auto follows the labels, see :func:`twonines.training.teach.choose_task`.
    ``input_size`` is the (height, width) of the model's input in pixels, or the side of a square
    one; None takes what the pictures offer, see
    :func:`twonines.training.teach.choose_input_size`. ``overkill_aim`` is the share of
    good parts that a model taught on good pictures may reject.
    """

    recipe: ClassVar[str] = "teach"
    tasks: ClassVar[tuple[TaskChoice, ...]] = TASKS

    input_size: InputSize | None = None
    threshold: float = 0.5
    views: int = 1
    name: str | None = None
    task: TaskChoice = "auto"
    overkill_aim: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        low, high = SIDES
        sides = (low, low) if self.size is None else self.size
        if len(sides) != 2 or not all(type(s) is int and low <= s <= high for s in sides):
            raise SettingsError(
                f"input_size: must be a side or (height, width), each in [{low}, {high}] pixels, "
                f"got {self.input_size}"
            )
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

    @property
    def size(self) -> tuple[int, int] | None:
        """``input_size`` as (height, width)."""
        if isinstance(self.input_size, int):
            return self.input_size, self.input_size
        return self.input_size
