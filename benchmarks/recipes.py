"""The recipes that a benchmark can teach with, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split
from twonines.errors import SettingsError
from twonines.training.finetune_options import FinetuneOptions
from twonines.training.lesson import Report
from twonines.training.teach_options import InputSize, TaskChoice, TeachOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every set of a table.

    ``epochs`` and ``minutes`` bound a recipe that trains for as long as it is given; None is its
    own default, also of ``batch_size``, the pictures in a step.
    """

    task: TaskChoice = "auto"
    input_size: InputSize | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """The model file and the seconds that teaching took, its checks at the end left out."""

    model: Path
    seconds: float


Recipe = Callable[[Dataset, Split, Path, Plan, Path, Report], Learnt]
"""(set, split, folder of the run, plan, cache, report) -> model."""


def _teach_options(plan: Plan) -> TeachOptions:
    return TeachOptions(task=plan.task, input_size=plan.input_size)


def _finetune_options(plan: Plan) -> FinetuneOptions:
    return FinetuneOptions(
        task=plan.task,
        input_size=plan.input_size,
        epochs=plan.epochs,
        minutes=plan.minutes,
        batch_size=plan.batch_size,
    )


def _recipe(choose: Callable[[Plan], TeachOptions]) -> Recipe:
    def run(
        dataset: Dataset, split: Split, out: Path, plan: Plan, cache: Path, report: Report
    ) -> Learnt:
        result = teach_and_measure(
            dataset, out, choose(plan), split=split, cache=cache, report=report
        )
        spent = sum(seconds for stage, seconds in result.seconds.items() if stage != "parity")
        return Learnt(result.model, spent)

    return run


_OPTIONS = {"teach": _teach_options, "finetune": _finetune_options}
RECIPES: dict[str, Recipe] = {name: _recipe(choose) for name, choose in _OPTIONS.items()}


def check_plan(recipes: Sequence[str], plan: Plan) -> None:
    """Refuse a plan that one of the recipes cannot follow, before any set is read.

    Raises:
        SettingsError: the message names what the recipe demands.
    """
    for name in recipes:
        _OPTIONS[name](plan)


def teach_model(
    recipe: str, dataset: Dataset, split: Split, out: Path, plan: Plan, *, cache: Path,
    report: Report = lambda stage, done, total: None,
) -> Learnt:  # fmt: skip
    """Teach a model by a recipe's name, behind the recipe's own gates.

    Raises:
        SettingsError: no such recipe.
        TwoninesError: what the recipe refuses.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"recipes: must be among {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe](dataset, split, out, plan, cache, report)
