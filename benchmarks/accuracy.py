"""The accuracy benchmark: any sets by any recipes, in one table with intervals and warnings."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twonines import __version__
from twonines.benchmarks.accuracy_table import write_table
from twonines.benchmarks.bench import metadata
from twonines.benchmarks.recipes import RECIPES, Plan
from twonines.benchmarks.report import plain
from twonines.benchmarks.trial import run_trial
from twonines.datasets.checks import CheckReport, check_dataset
from twonines.datasets.content import content_digest, label_digest
from twonines.datasets.record import Dataset
from twonines.datasets.registry import CARDS, find_card, load_dataset
from twonines.datasets.splits import METHODS, Split, SplitMethod, folds, make_split
from twonines.errors import DatasetError, SettingsError, TwoninesError
from twonines.models.image import decode
from twonines.training.lesson import Report

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SetChoice:
    """A set by name, as in ``visa:candle``; ``root`` is its folder where it was given."""

    name: str
    root: Path | None = None

    @property
    def label(self) -> str:
        """Name as in the table."""
        return self.name if self.root is None else f"{self.name}={self.root.name}"

    def load(self, above: Path | None) -> Dataset:
        """Read it, from its folder below ``above`` unless its own was given."""
        card = find_card(self.name.partition(":")[0])
        root = self.root
        if root is None and above is not None and card.folder:
            root = above / card.folder
            if not root.is_dir() and card.name == "elpv":
                root = None  # its package ships it
            elif not root.is_dir():
                raise DatasetError(f"root: {above} must hold {card.folder} of {card.name}")
        return load_dataset(self.name, root)


@dataclass(frozen=True, slots=True)
class AccuracyOptions:
    """How each set is split and taught.

    ``n_folds`` of 2 or more cross-validates; else ``n_seeds`` splits are drawn from ``seed`` on.
    """

    split: SplitMethod = "auto"
    seed: int = 0
    n_seeds: int = 1
    n_folds: int = 0
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        if self.split not in METHODS:
            raise SettingsError(f"split: must be one of {', '.join(METHODS)}, got {self.split!r}")
        if self.n_seeds < 1:
            raise SettingsError(f"seeds: must be at least 1, got {self.n_seeds}")
        if self.n_folds < 0 or self.n_folds == 1:
            raise SettingsError(f"folds: must be 0 (none) or 2 or more, got {self.n_folds}")
        if self.n_folds and self.n_seeds > 1:
            raise SettingsError(f"seeds: must be 1 with folds, got {self.n_seeds}")
        if self.plan.epochs is not None and self.plan.epochs < 1:
            raise SettingsError(f"epochs: must be at least 1, got {self.plan.epochs}")
        if self.plan.minutes is not None and self.plan.minutes <= 0:
            raise SettingsError(f"minutes: must be above 0, got {self.plan.minutes}")

    def splits(self, dataset: Dataset) -> Iterator[tuple[str, Split]]:
        """The splits of a set with their labels."""
        if self.n_folds:
            parts = folds(dataset, n_folds=self.n_folds, seed=self.seed, method=self.split)
            for number, split in enumerate(parts, start=1):
                yield f"fold-{number}-of-{self.n_folds}", split
            return
        for seed in range(self.seed, self.seed + self.n_seeds):
            yield f"seed-{seed}", make_split(dataset, seed=seed, method=self.split)


def parse_sets(text: str) -> list[SetChoice]:
    """Sets from ``magnetic-tile,visa:candle,pcb1,folder=parts/``.

    Raises:
        SettingsError: a name is unknown or comes twice; the message lists the names.
    """
    pieces: list[str] = []
    for piece in filter(None, (one.strip() for one in text.split(","))):
        # visa:candle,pcb1 names two categories of one set
        if pieces and ":" in pieces[-1] and re.split("[:=]", piece)[0] not in CARDS:
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    choices = []
    for piece in pieces:
        name, _, root = piece.partition("=")
        if name.partition(":")[0] not in CARDS:
            raise SettingsError(f"sets: must be among {', '.join(CARDS)}, got {name!r}")
        choices.append(SetChoice(name, Path(root) if root else None))
    if not choices or len(set(choices)) < len(choices):
        raise SettingsError(f"sets: must name at least one set and none twice, got {text!r}")
    return choices


def parse_recipes(text: str) -> list[str]:
    """Recipes from ``teach,finetune``.

    Raises:
        SettingsError: a name is unknown or comes twice.
    """
    names = [one.strip() for one in text.split(",") if one.strip()]
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names or len(set(names)) < len(names):
        raise SettingsError(
            f"recipes: must be among {', '.join(RECIPES)}, none twice, got {text!r}"
        )
    return names


def run_accuracy(
    sets: Sequence[SetChoice],
    recipes: Sequence[str],
    out: Path,
    options: AccuracyOptions,
    *,
    root: Path | None = None,
    report: Report = lambda stage, done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Teach and measure every set by every recipe; write ``accuracy.json`` and ``accuracy.html``.

    A trial that is finished is kept in ``out`` and not repeated where its set, recipe and options
    are the same. A set that fails leaves a row with its error, and the next one follows.

    Returns:
        Everything that ``accuracy.json`` holds.
    """
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "meta": metadata(options.seed),
        "options": asdict(options),
        "rows": [],
    }
    for number, choice in enumerate(sets):
        measured = _Set(choice, root, options, out)
        for place, recipe in enumerate(recipes, start=1):
            done = number * len(recipes) + place
            tell(f"{done} of {len(sets) * len(recipes)}: {choice.label}, {recipe}")
            row = measured.row(recipe, report, tell)
            if row["error"]:
                tell(f"{choice.label}, {recipe}: {row['error']}")
            result["rows"].append(row)
            write_table(plain(result), out)
    kept: dict[str, Any] = plain(result)
    return kept


class _Set:
    """One set of the table, read and checked once for all its recipes."""

    def __init__(
        self, choice: SetChoice, root: Path | None, options: AccuracyOptions, out: Path
    ) -> None:
        self.choice, self.root, self.options, self.out = choice, root, options, out
        self._dataset: Dataset | None = None
        self._check: CheckReport | None = None

    def row(self, recipe: str, report: Report, tell: Callable[[str], None]) -> dict[str, Any]:
        """The row of a recipe; its error where it failed."""
        card = find_card(self.choice.name.partition(":")[0])
        row: dict[str, Any] = {
            "set": self.choice.label, "recipe": recipe, "title": card.title,
            "licence": card.licence, "source": card.source, "traps": card.traps,
            "published": list(card.published), "error": None, "trials": [], "figures": {},
        }  # fmt: skip
        try:
            if self._dataset is None:
                self._dataset = self.choice.load(self.root)
            row |= {"traps": self._dataset.card.traps, "pictures": len(self._dataset.records)}
            row["trials"] = list(self._trials(self._dataset, recipe, report, tell))
            row["figures"] = summarise([trial["figures"] for trial in row["trials"]])
        except TwoninesError as exc:
            row["error"] = str(exc)
        except Exception as exc:  # the other sets are still worth their table
            _LOG.exception("%s, %s", self.choice.label, recipe)
            row["error"] = f"{type(exc).__name__}: {exc}"
        return row

    def _trials(
        self, dataset: Dataset, recipe: str, report: Report, tell: Callable[[str], None]
    ) -> Iterator[dict[str, Any]]:
        digest = content_digest(dataset.records, dataset.root)
        labels = label_digest(dataset.records, dataset.root)
        for label, split in self.options.splits(dataset):
            folder = self.out / "runs" / f"{_slug(self.choice.label)}--{recipe}" / label
            key = {
                "schema": SCHEMA, "version": __version__, "set": self.choice.label,
                "digest": digest, "labels": labels, "recipe": recipe, "label": label,
                "split": self.options.split, "seed": split.seed, "plan": asdict(self.options.plan),
            }  # fmt: skip
            kept = _read_kept(folder / "trial.json", key)
            if kept is not None:
                tell(f"{self.choice.label}, {recipe}, {label}: kept from an earlier run")
                yield kept
                continue

            def named(stage: str, done: int, total: int, label: str = label) -> None:
                report(f"{self.choice.label}, {recipe}, {label}: {stage}", done, total)

            if self._check is None:
                self._check = check_dataset(
                    dataset, decode=decode, progress=lambda d, t: named("look for copies", d, t)
                )
            trial = run_trial(recipe, dataset, split, self._check, self.options.plan, folder, named)
            for name in ("model", "worst"):
                trial[name] = trial[name].relative_to(self.out).as_posix()
            trial = plain({"key": key, "label": label, **trial})
            _write_whole(folder / "trial.json", trial)
            yield trial


def summarise(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of a row: those of its one trial, or mean and spread over several.

    ``sd`` is the sample standard deviation over trials; they share pictures, so it is no
    confidence interval, and ``low`` and ``high`` are None. A figure that one trial lacks is left
    out. ``n`` and ``instances`` are summed.
    """
    if len(trials) == 1:
        return dict(trials[0])
    names = [name for name in trials[0] if all(name in trial for trial in trials)]
    return {
        # class_iou and class_ap_50 hold a figure by kind
        name: (summarise if name.startswith("class_") else _spread)(
            [trial[name] for trial in trials]
        )
        for name in names
    }


def _spread(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [figure["value"] for figure in figures]
    if any(value is None for value in values):
        values = [float("nan")]
    return {
        "value": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
        "n": sum(figure["n"] for figure in figures),
        "low": None,
        "high": None,
        "trials": values,
        **({"instances": sum(f["instances"] for f in figures), "oracle": figures[0]["oracle"]}
           if "instances" in figures[0] else {}),
    }  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


def _read_kept(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """A finished trial with the same key; None where there is none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and kept.get("key") == plain(key) else None


def _write_whole(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all: a file that a killed run left must not look finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
                       encoding="utf-8")  # fmt: skip
    partial.replace(path)
