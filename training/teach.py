"""The recipe ``teach``: frozen backbone, heads fitted in seconds, export behind the parity gate."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from twonines import __version__
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split, good_only
from twonines.errors import DatasetError
from twonines.models.backbone import DEFAULT_BACKBONE
from twonines.models.card import Metric, ModelCard, Task, TrainingData
from twonines.models.decision import decide
from twonines.models.session import Outputs
from twonines.training.anomaly import teach_good
from twonines.training.classes import teach_classes
from twonines.training.export import graph_digest, write_model
from twonines.training.lesson import Lesson, Report, TaskChoice, Taught, TeachOptions
from twonines.training.parity import HttpScores, Parity, check_parity

__all__ = ["Report", "TeachOptions", "TeachResult", "choose_input_size", "choose_task", "teach"]

_LESSONS: dict[Task, Callable[[Lesson], Taught]] = {
    "classify": teach_classes,
    "anomaly": teach_good,
}


@dataclass(frozen=True, slots=True)
class TeachResult:
    """Where the model is, what it scored on the test split and what each stage took."""

    model: Path
    card: ModelCard
    split: Split
    parity: Parity
    seconds: dict[str, float]


def teach(
    dataset: Dataset,
    split: Split,
    out: Path,
    options: TeachOptions,
    *,
    cache: Path,
    http_scores: HttpScores | None,
    metrics: Callable[[Outputs, Sequence[Record], ModelCard], dict[str, Metric]],
    report: Report = lambda stage, done, total: None,
) -> TeachResult:
    """Teach a model and write ``out/model.onnx``, ``card.json`` and ``timings.json``.

    Raises:
        DatasetError: the split leaves a task without the pictures that it needs.
        GateError: PyTorch, ONNX and HTTP disagree; no model is written then.
    """
    if not split.test:
        raise DatasetError("test split: must not be empty")
    task = choose_task(split, options.task)
    if task == "anomaly":
        split = good_only(split)
    side = options.input_size or choose_input_size(dataset)
    size = (side, side)
    lesson = Lesson(dataset, split, options, size, cache, report)
    clock = lesson.clock
    taught = _LESSONS[task](lesson)
    out.mkdir(parents=True, exist_ok=True)
    # A model of an earlier run must not be taken for one that passed this run's gate.
    (out / "model.onnx").unlink(missing_ok=True)
    candidate = out / "candidate.onnx"
    card = _card(lesson, taught)
    write_model(taught.graph, card, candidate)
    clock.lap("export")
    with _left_only_if_good(candidate):
        pictures = [record.path for record in split.test]
        parity = check_parity(
            taught.reference,
            candidate,
            pictures,
            lambda outputs: [i.verdict.value for i in decide(outputs, card, [size] * len(outputs))],
            http_scores,
            progress=lambda d, t: report("parity", d, t),
        )
        clock.lap("parity")
        card = card.model_copy(
            update={
                "metrics": metrics(parity.outputs, split.test, card),
                "parity": {"reference": parity.reference}
                | ({} if parity.http is None else {"http": parity.http}),
            }
        )
        write_model(taught.graph, card, candidate)
    candidate.replace(out / "model.onnx")
    (out / "card.json").write_text(json.dumps(card.public(), indent=2, ensure_ascii=False) + "\n")
    (out / "timings.json").write_text(json.dumps(clock.seconds, indent=2) + "\n")
    return TeachResult(out / "model.onnx", card, split, parity, clock.seconds)


@contextmanager
def _left_only_if_good(candidate: Path) -> Iterator[None]:
    """Remove a model that did not pass the gate; nobody may serve it by mistake."""
    try:
        yield
    except BaseException:
        candidate.unlink(missing_ok=True)
        raise


def choose_task(split: Split, wanted: TaskChoice = "auto") -> Task:
    """What was asked for; auto takes ``anomaly`` where all training pictures are good."""
    if wanted != "auto":
        return wanted
    only_good = bool(split.train) and not any(record.is_defective for record in split.train)
    return "anomaly" if only_good else "classify"


def choose_input_size(dataset: Dataset) -> int:
    """The median shorter side of up to 64 pictures, at least 224 and at most 320 pixels.

    Below 224 the backbone sees too few places; elpv at 384 pixels was slower and no better.
    """
    step = max(1, len(dataset.records) // 64)
    sides = []
    for record in dataset.records[::step]:
        try:
            with PILImage.open(record.path) as image:
                sides.append(min(image.size))
        except OSError:
            continue
    return int(np.clip(np.median(sides), 224, 320)) if sides else 224


def _card(lesson: Lesson, taught: Taught) -> ModelCard:
    dataset, split = lesson.dataset, lesson.split
    return ModelCard(
        name=lesson.options.name or dataset.card.name,
        version=graph_digest(taught.graph)[:12],
        task=taught.task,
        classes=taught.classes,
        input_size=lesson.size,
        recipe="teach",
        backbone=DEFAULT_BACKBONE,
        training_data=TrainingData(
            name=dataset.card.name,
            licence=dataset.card.licence,
            digest=content_digest(dataset.records, dataset.root),
            split_kind=split.kind,
            seed=split.seed,
            n_train=len(split.train),
            n_calibration=len(split.calibration),
            n_test=len(split.test),
        ),
        metrics={},
        calibration=taught.calibration,
        policy=taught.policy,
        software={
            "twonines": __version__,
            "python": platform.python_version(),
            **{p: installed(p) for p in ("torch", "timm", "onnx", "onnxruntime", "numpy")},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
