"""The task ``classify``: a kernel head on pooled features, from pictures of every class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from twonines.datasets.record import Record
from twonines.datasets.splits import Split
from twonines.errors import DatasetError, GateError
from twonines.models.backbone import Backbone
from twonines.models.card import Calibration, Policy
from twonines.models.head import HeadWeights, KernelHead
from twonines.training.export import Reference, export_backbone, export_model
from twonines.training.features import FeatureExtractor
from twonines.training.fit import FeatureLayout, calibrate, fit_head, novelty
from twonines.training.lesson import Lesson, Taught
from twonines.training.places import learn_map
from twonines.types import GOOD

NOVELTY_MARGIN = 1.25
FLATTEST = 0.1
"""Least slope of the calibration; useful models have 2 and more."""


@dataclass(frozen=True, slots=True)
class TaughtPictures:
    """The head for whole pictures, its calibration and the policy that follows from it."""

    weights: HeadWeights
    calibration: Calibration
    policy: Policy


def teach_classes(lesson: Lesson) -> Taught:
    """Extract features, fit the head and its calibration, and export.

    Raises:
        DatasetError: the split leaves a class without training or calibration pictures.
    """
    split, classes = lesson.split, lesson.dataset.classes
    if len(classes) < 2:
        raise DatasetError(
            f"classes: the task 'classify' needs at least two, got {', '.join(classes) or 'none'}"
        )
    check_split(split, classes)
    backbone = Backbone()
    lesson.report("backbone", 0, 1)
    backbone_onnx = export_backbone(backbone, lesson.size, lesson.cache)
    extract = FeatureExtractor(backbone_onnx, lesson.size, lesson.cache)
    lesson.clock.lap("backbone")
    pictures = teach_pictures(lesson, extract, backbone.widths)
    place_weights, place_bias = learn_map(
        extract.places, split.train, classes, split.seed, pictures.weights.has_good
    )
    lesson.clock.lap("heads")
    head = KernelHead(replace(pictures.weights, place_weights=place_weights, place_bias=place_bias))
    return Taught(
        task="classify",
        classes=classes,
        reference=Reference(backbone, head),
        graph=export_model(backbone_onnx, head),
        calibration=pictures.calibration,
        policy=pictures.policy,
    )


def teach_pictures(
    lesson: Lesson, extract: FeatureExtractor, widths: Sequence[int]
) -> TaughtPictures:
    """Fit and calibrate the head for whole pictures on a split that was checked.

    Args:
        lesson: pictures and choices.
        extract: the backbone's session.
        widths: channels of every block that ``features`` pools.

    Raises:
        GateError: the calibration finds no difference between good and defective.
    """
    split, report, classes = lesson.split, lesson.report, lesson.dataset.classes
    views = lesson.views
    features = [
        extract(split.train, view=v, progress=lambda d, t: report("features", d, t)) for v in views
    ]
    held = extract(split.calibration, progress=lambda d, t: report("calibration", d, t))
    lesson.clock.lap("features")
    taught = list(split.train) * len(views)
    weights = fit_head(
        np.concatenate(features),
        _labels(taught, classes),
        np.array([record.certainty for record in taught], np.float32),
        classes,
        FeatureLayout.of(widths),
        seed=split.seed,
    )
    weights = calibrate(weights, held, _labels(split.calibration, classes))
    _check_calibration(weights, len(split.calibration))
    return TaughtPictures(
        weights,
        Calibration(
            method="platt and temperature" if weights.has_good else "temperature",
            n=len(split.calibration),
            parameters={
                "slope": float(weights.reject[0]),
                "bias": float(weights.reject[1]),
                "temperature": float(weights.temperature[0]),
            },
        ),
        Policy(
            threshold=lesson.options.threshold,
            novelty_limit=float(novelty(weights, held).max() * NOVELTY_MARGIN),
        ),
    )


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


def check_split(split: Split, classes: Sequence[str]) -> None:
    """Refuse a split that lacks what the head for whole pictures needs.

    Raises:
        DatasetError: a class without training pictures, or calibration that cannot tell.
    """
    missing = [c for c in classes if c not in {r.defect_class for r in split.train}]
    if missing:
        raise DatasetError(
            f"training split: every class needs pictures, none of {missing}; "
            "--task anomaly learns from good pictures alone"
        )
    if not split.calibration:
        raise DatasetError("calibration split: must not be empty")
    defective = sum(record.is_defective for record in split.calibration)
    if classes[0] == GOOD and not 0 < defective < len(split.calibration):
        raise DatasetError(
            "calibration split: must hold good and defective pictures, got "
            f"{len(split.calibration) - defective} good and {defective} defective; every class "
            "needs at least three pictures, or three groups where the set names groups"
        )
