"""Both recipes, with export behind the parity gate.

``teach`` fits heads on a frozen backbone in seconds, ``finetune`` trains the whole network.
"""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np

from twonines import __version__
from twonines.datasets.checks import content_digest
from twonines.datasets.orientation import read_upright_size
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split, good_only
from twonines.errors import DatasetError
from twonines.models.backbone import DEFAULT_BACKBONE
from twonines.models.card import Metric, ModelCard, Task, TrainingData
from twonines.training import finetune_labels as labels
from twonines.training.anomaly import teach_good
from twonines.training.classes import teach_classes
from twonines.training.export import graph_digest, write_model
from twonines.training.finetune import finetune
from twonines.training.lesson import Lesson, Report, Taught
from twonines.training.limits import learn_quality
from twonines.training.marks import MaskCount, drop_empty_masks, is_located
from twonines.training.parity import HttpScores, Parity, check_parity
from twonines.training.segment import teach_segments
from twonines.training.teach_options import SIDES, TaskChoice, TeachOptions
from twonines.types import Inspection

__all__ = ["Report", "TeachResult", "choose_input_size", "choose_task", "teach"]

_LESSONS: dict[Task, Callable[[Lesson], Taught]] = {
    "classify": teach_classes,
    "segment": teach_segments,
    "anomaly": teach_good,
}
_PACKAGES = {
    "teach": ("torch", "timm", "onnx", "onnxruntime", "numpy"),
    "finetune": ("torch", "torchvision", "lightning", "timm", "onnx", "onnxruntime", "numpy"),
}
Metrics = Callable[[Sequence[Inspection], Sequence[Record], ModelCard], dict[str, Metric]]
"""(what the model said of the test pictures, those pictures, card) -> figures for the card."""
LEAST_PIXELS = 224
"""Of a smaller input the backbone would see too few places."""
LENGTHY = 3.0
"""Pictures with a side so many times the other are not squeezed into a square."""
FEW = 0.1
"""So many pictures may lie otherwise than the input."""
CHANCE = 0.5
"""The AUROC of a model that knows nothing."""
DETECT_PIXELS = 640
"""The default input of a detector grows with the pictures up to this side."""


@dataclass(frozen=True, slots=True)
class TeachResult:
    """Where the model is, what it scored on the test split and what each stage took.

    ``masks`` counts those of training and calibration, where the task reads masks.
    """

    model: Path
    card: ModelCard
    split: Split
    parity: Parity
    seconds: dict[str, float]
    masks: MaskCount = MaskCount(0, 0)


def teach(
    dataset: Dataset,
    split: Split,
    out: Path,
    options: TeachOptions,
    *,
    cache: Path,
    http_scores: HttpScores | None,
    metrics: Metrics,
    report: Report = lambda stage, done, total: None,
) -> TeachResult:
    """Teach a model and write ``out/model.onnx``, ``card.json`` and ``timings.json``.

    Raises:
        DatasetError: the split leaves a task without the pictures that it needs, or every mask
            of a defective picture is empty.
        GateError: PyTorch, ONNX and HTTP disagree; no model is written then.
    """
    if not split.test:
        raise DatasetError("test split: must not be empty")
    whole = options.recipe == "finetune"
    task = (labels.choose_task if whole else choose_task)(split, options.task)
    if task == "anomaly":
        split = good_only(split)
    most = DETECT_PIXELS if task == "detect" else 320
    size = choose_input_size(dataset, most) if options.size is None else options.size
    out.mkdir(parents=True, exist_ok=True)
    masks, told = MaskCount(0, 0), split
    if whole or task == "segment":
        told, masks = _without_empty_masks(split)
    lesson = Lesson(dataset, told, options, task, size, out, cache, report)
    clock = lesson.clock
    taught = finetune(lesson) if whole else _LESSONS[task](lesson)
    # A model of an earlier run must not be taken for one that passed this run's gate.
    (out / "model.onnx").unlink(missing_ok=True)
    candidate = out / "candidate.onnx"
    # The limits come first: the gate and the card's figures are those of what is shipped.
    quality = learn_quality([*split.calibration, *split.train], size, split.seed)
    card = _card(lesson, taught).model_copy(update={"quality": quality})
    write_model(taught.graph, card, candidate)
    clock.lap("export")
    with _left_only_if_good(candidate):
        parity = check_parity(
            taught.reference,
            candidate,
            split.test,
            http_scores,
            progress=lambda d, t: report("parity", d, t),
        )
        clock.lap("parity")
        measured = metrics(parity.inspections, split.test, card)
        card = card.model_copy(
            update={
                "metrics": measured,
                "skill_fault": find_skill_fault(measured),
                "parity": {"reference": parity.reference}
                | ({} if parity.http is None else {"http": parity.http}),
            }
        )
        write_model(taught.graph, card, candidate)
    candidate.replace(out / "model.onnx")
    (out / "card.json").write_text(json.dumps(card.public(), indent=2, ensure_ascii=False) + "\n")
    (out / "timings.json").write_text(json.dumps(clock.seconds, indent=2) + "\n")
    return TeachResult(out / "model.onnx", card, split, parity, clock.seconds, masks)


@contextmanager
def _left_only_if_good(candidate: Path) -> Iterator[None]:
    """Remove a model that did not pass the gate; nobody may serve it by mistake."""
    try:
        yield
    except BaseException:
        candidate.unlink(missing_ok=True)
        raise


def _without_empty_masks(split: Split) -> tuple[Split, MaskCount]:
    records, masks = drop_empty_masks((*split.train, *split.calibration))
    count = len(split.train)
    return replace(split, train=records[:count], calibration=records[count:]), masks


def choose_task(split: Split, wanted: TaskChoice = "auto") -> Task:
    """What was asked for; auto follows the labels of the training pictures.

    All of them good gives ``anomaly``, a mask or boxes on any defective one ``segment``, else
    ``classify``.
    """
    if wanted != "auto":
        return wanted
    if split.train and not any(record.is_defective for record in split.train):
        return "anomaly"
    return "segment" if any(is_located(record) for record in split.train) else "classify"


def choose_input_size(dataset: Dataset, most: int = 320) -> tuple[int, int]:
    """(height, width) that up to 64 pictures suggest, of ``most`` pixels squared at most.

    A square of their median shorter side, in [:data:`LEAST_PIXELS`, ``most``]. Where nine of ten
    are strips, all upright or all lying, the input is one too: squeezed into a square, a strip
    loses what is fine along it (RSDDs: pixel AP 66 % in a square, 78 % in a strip of as many
    pixels). It has as many pixels as they have, between the squares of the same limits. BSData,
    2.4 times as wide as high, gained nothing by that; elpv at 384 px was slower and no better.
    """
    step = max(1, len(dataset.records) // 64)
    found = []
    for record in dataset.records[::step]:
        try:
            found.append(read_upright_size(record.path))
        except Exception:  # damaged; whoever decodes it gives the reason
            continue
    if not found:
        return LEAST_PIXELS, LEAST_PIXELS
    sizes = np.array(found, np.float64)
    least, upper = np.quantile(np.log(sizes[:, 0] / sizes[:, 1]), (FEW, 1 - FEW))
    ratio = np.exp(least if least > 0 else min(upper, 0.0))
    if 1 / LENGTHY < ratio < LENGTHY:
        side = int(np.clip(np.median(sizes.min(1)), LEAST_PIXELS, most))
        return side, side
    pixels = np.clip(np.median(sizes.prod(1)), LEAST_PIXELS**2, most**2)
    sides = np.sqrt([pixels * ratio, pixels / ratio])
    low, high = SIDES
    height, width = np.maximum(sides * min(1.0, high / sides.max()), low)
    return round(height), round(width)


def find_skill_fault(metrics: Mapping[str, Metric]) -> str | None:
    """Why the test pictures do not show that the model ranks better than chance; None if they do.

    A model is written all the same: its maps and worst mistakes say what is wrong with it, and
    more pictures may show that nothing is. It only must not accept a part. Where the test
    pictures are all good or all defective nothing is measured, and nothing said.
    """
    auroc = metrics.get("auroc")
    if auroc is None or auroc.low is None or auroc.low > CHANCE:
        return None
    return (
        f"no skill shown: AUROC {auroc.value:.3f} on {auroc.n} test pictures, the lower end of its "
        f"95 % interval must lie above {CHANCE}, got {auroc.low:.3f}"
    )


def _card(lesson: Lesson, taught: Taught) -> ModelCard:
    dataset, split = lesson.dataset, lesson.split
    return ModelCard(
        name=lesson.options.name or dataset.card.name,
        version=graph_digest(taught.graph)[:12],
        task=taught.task,
        classes=taught.classes,
        input_size=lesson.size,
        recipe=lesson.options.recipe,
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
        reference=taught.pairs,
        software={
            "twonines": __version__,
            "python": platform.python_version(),
            **{p: installed(p) for p in _PACKAGES[lesson.options.recipe]},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
