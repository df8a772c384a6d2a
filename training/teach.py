"""The recipe ``teach``: frozen backbone, heads fitted in seconds, export behind the parity gate."""

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from twonines import __version__
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split
from twonines.errors import DatasetError, GateError, SettingsError
from twonines.models.backbone import DEFAULT_BACKBONE, Backbone
from twonines.models.card import Calibration, Metric, ModelCard, Policy, TrainingData
from twonines.models.decision import decide
from twonines.models.head import HeadWeights, KernelHead
from twonines.models.session import Outputs
from twonines.training.export import (
    Reference,
    export_backbone,
    export_model,
    graph_digest,
    write_model,
)
from twonines.training.features import FeatureExtractor
from twonines.training.fit import FeatureLayout, calibrate, fit_head, novelty
from twonines.training.parity import HttpScores, Parity, check_parity
from twonines.training.places import learn_map
from twonines.types import GOOD

Report = Callable[[str, int, int], None]
"""(stage, done, total), for a progress display."""
NOVELTY_MARGIN = 1.25
FLATTEST = 0.1
"""Least slope of the calibration; useful models have 2 and more."""


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What a user may choose of the recipe.

    ``input_size`` is the side of the model's square input in pixels; None takes what the pictures
    offer, see :func:`choose_input_size`.
    """

    input_size: int | None = None
    threshold: float = 0.5
    views: int = 1
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse values outside their range by name."""
        if self.input_size is not None and not 32 <= self.input_size <= 1024:
            raise SettingsError(f"input_size: must lie in [32, 1024], got {self.input_size}")
        if not 0 < self.threshold < 1:
            raise SettingsError(f"threshold: must lie in (0, 1), got {self.threshold}")
        if not 1 <= self.views <= 8:
            raise SettingsError(f"views: must lie in [1, 8], got {self.views}")


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
        DatasetError: the split leaves a class without training or calibration pictures.
        GateError: PyTorch, ONNX and HTTP disagree; no model is written then.
    """
    classes = dataset.classes
    _check_split(split, classes)
    clock = _Clock()
    backbone = Backbone()
    side = options.input_size or choose_input_size(dataset)
    size = (side, side)
    report("backbone", 0, 1)
    backbone_onnx = export_backbone(backbone, size, cache)
    extract = FeatureExtractor(backbone_onnx, size, cache)
    clock.lap("backbone")
    views = [0, *_extra_views(dataset, options.views)]
    features = [
        extract(split.train, view=v, progress=lambda d, t: report("features", d, t)) for v in views
    ]
    held = extract(split.calibration, progress=lambda d, t: report("calibration", d, t))
    clock.lap("features")
    taught = list(split.train) * len(views)
    weights = fit_head(
        np.concatenate(features),
        _labels(taught, classes),
        np.array([record.certainty for record in taught], np.float32),
        classes,
        FeatureLayout.of(backbone.widths),
        seed=split.seed,
    )
    weights = calibrate(weights, held, _labels(split.calibration, classes))
    _check_calibration(weights, len(split.calibration))
    place_weights, place_bias = learn_map(
        extract.places, split.train, classes, split.seed, weights.has_good
    )
    weights = replace(weights, place_weights=place_weights, place_bias=place_bias)
    limit = float(novelty(weights, held).max() * NOVELTY_MARGIN)
    clock.lap("heads")
    head = KernelHead(weights)
    model = export_model(backbone_onnx, head)
    out.mkdir(parents=True, exist_ok=True)
    # A model of an earlier run must not be taken for one that passed this run's gate.
    (out / "model.onnx").unlink(missing_ok=True)
    candidate = out / "candidate.onnx"
    card = _card(dataset, split, options, size, graph_digest(model), weights, limit)
    write_model(model, card, candidate)
    clock.lap("export")
    with _left_only_if_good(candidate):
        pictures = [record.path for record in split.test]
        parity = check_parity(
            Reference(backbone, head),
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
        write_model(model, card, candidate)
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


class _Clock:
    """Seconds since the last lap, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def _extra_views(dataset: Dataset, count: int) -> list[int]:
    """Flips and turns that the part allows: half turn, mirrors, then quarter turns."""
    if dataset.card.rotations_allowed:
        return [2, 4, 6, 1, 3, 5, 7][: count - 1]
    return [4][: count - 1] if dataset.card.flips_allowed else []


def _labels(records: Sequence[Record], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[r.defect_class] for r in records], np.int64)


def _check_calibration(weights: HeadWeights, count: int) -> None:
    """A sigmoid that is flat answers every picture alike; such a model must not exist."""
    if weights.has_good and weights.reject[0] < FLATTEST:
        raise GateError(
            f"calibration: the head must tell good from defective on {count} held-out pictures, "
            f"its slope is {weights.reject[0]:.2g}; teach with more pictures or look at the labels"
        )


def _check_split(split: Split, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DatasetError(
            f"classes: the recipe 'teach' needs at least two, got {', '.join(classes) or 'none'}"
        )
    for name, records in (("training", split.train), ("calibration", split.calibration)):
        missing = [c for c in classes if c not in {r.defect_class for r in records}]
        if name == "training" and missing:
            raise DatasetError(f"{name} split: every class needs pictures, none of {missing}")
        if not records:
            raise DatasetError(f"{name} split: must not be empty")
    if not split.test:
        raise DatasetError("test split: must not be empty")
    defective = sum(record.is_defective for record in split.calibration)
    if classes[0] == GOOD and not 0 < defective < len(split.calibration):
        raise DatasetError(
            "calibration split: must hold good and defective pictures, got "
            f"{len(split.calibration) - defective} good and {defective} defective; every class "
            "needs at least three pictures, or three groups where the set names groups"
        )


def _card(
    dataset: Dataset,
    split: Split,
    options: TeachOptions,
    size: tuple[int, int],
    weights_sha: str,
    weights: HeadWeights,
    limit: float,
) -> ModelCard:
    return ModelCard(
        name=options.name or dataset.card.name,
        version=weights_sha[:12],
        task="classify",
        classes=dataset.classes,
        input_size=size,
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
        calibration=Calibration(
            method="platt and temperature" if weights.has_good else "temperature",
            n=len(split.calibration),
            parameters={
                "slope": float(weights.reject[0]),
                "bias": float(weights.reject[1]),
                "temperature": float(weights.temperature[0]),
            },
        ),
        policy=Policy(threshold=options.threshold, novelty_limit=limit),
        software={
            "twonines": __version__,
            "python": platform.python_version(),
            **{p: installed(p) for p in ("torch", "timm", "onnx", "onnxruntime", "numpy")},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
