"""What a user may choose of the recipe ``finetune``."""

from dataclasses import dataclass
from typing import ClassVar

from twonines.errors import SettingsError
from twonines.training.teach_options import TaskChoice, TeachOptions

TASKS: tuple[TaskChoice, ...] = ("auto", "classify", "segment", "detect")
DEFAULT_EPOCHS = 30
MOST_EPOCHS = 10_000


@dataclass(frozen=True, slots=True)
class FinetuneOptions(TeachOptions):
    """The recipe's choices beside those that all recipes have.

    ``epochs`` passes over the training pictures; with ``minutes``, training ends by the clock and
    the learning rate falls by it. ``lr`` is the highest learning rate of the heads. ``batch_size``
    is of a step, ``crop`` the longest side of what training sees of a picture; None takes what the
    task suggests.
    ``validation`` is the share of training pictures, whole groups, that only decide when to stop:
    after ``patience`` epochs without a better loss. Without it, training runs to the end of its
    schedule with every picture.
    """

    recipe: ClassVar[str] = "finetune"
    tasks: ClassVar[tuple[TaskChoice, ...]] = TASKS

    epochs: int | None = None
    batch_size: int | None = None
    lr: float = 3e-3
    minutes: float | None = None
    crop: int | None = None
    validation: float = 0.0
    patience: int = 8

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        TeachOptions.__post_init__(self)  # slots make a new class, which super() does not know
        if self.epochs is not None and not 1 <= self.epochs <= MOST_EPOCHS:
            raise SettingsError(f"epochs: must lie in [1, {MOST_EPOCHS}], got {self.epochs}")
        if self.batch_size is not None and not 2 <= self.batch_size <= 1024:
            raise SettingsError(f"batch_size: must lie in [2, 1024], got {self.batch_size}")
        if not 0 < self.lr <= 1:
            raise SettingsError(f"lr: must lie in (0, 1], got {self.lr}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise SettingsError(f"minutes: must be above 0, got {self.minutes}")
        if self.crop is not None and not 32 <= self.crop <= 1024:
            raise SettingsError(f"crop: must lie in [32, 1024], got {self.crop}")
        if not 0 <= self.validation <= 0.5:
            raise SettingsError(f"validation: must lie in [0, 0.5], got {self.validation}")
        if self.patience < 1:
            raise SettingsError(f"patience: must be at least 1, got {self.patience}")
        if self.views != 1:
            raise SettingsError("views: must be 1 for finetune, which changes pictures at random")

    @property
    def most_epochs(self) -> int:
        """Epochs to count with; without a number, the clock alone ends training."""
        return self.epochs or (DEFAULT_EPOCHS if self.minutes is None else MOST_EPOCHS)
