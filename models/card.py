"""The card: one JSON in the model file that says everything about it."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from twonines.errors import ModelFileError
from twonines.models.certificate import Certificate
from twonines.models.parts import CardPart
from twonines.models.parts import Metric as Metric
from twonines.models.quality import QualityLimits
from twonines.types import GOOD

CARD_KEY = "twonines.card"
Task = Literal["classify", "segment", "detect", "anomaly"]
"""``classify`` learns from pictures of every class, ``segment`` from masks too, ``detect`` from
boxes, ``anomaly`` from good pictures alone."""


class TrainingData(CardPart):
    """What the model was taught on, and how the data were split."""

    name: str
    licence: str
    digest: str
    split_kind: Literal["official", "grouped", "random"]
    seed: int
    n_train: int
    n_calibration: int
    n_test: int


class ClassRule(CardPart):
    """What holds for one kind of defect beside the thresholds.

    From ``review_from`` on, the class score makes the part at least ``REVIEW``, from
    ``reject_from`` on ``NG``: "never pass a crack". ``severity`` weighs an escape of this kind
    where costs choose the thresholds.
    """

    severity: float = Field(default=1.0, gt=0)
    review_from: float | None = Field(default=None, ge=0, le=1)
    reject_from: float | None = Field(default=None, ge=0, le=1)


class Policy(CardPart):
    """The decision policy: ``NG`` means ``score >= threshold``, ``OK`` ``score < accept_below``.

    In between a person decides; without ``accept_below`` nothing is in between. A rule of
    ``class_rules`` can only make a verdict stricter. A rejected part whose largest region is
    smaller than ``min_defect_area`` (a share of the picture) goes to a person; nothing becomes
    ``OK`` for being small.

    A picture whose novelty is above ``novelty_limit`` is ``REVIEW``, whatever its score.
    ``region_threshold`` cuts the defect map; regions under ``min_region_area`` (a share of the
    picture, [0, 1]) are not listed. Of a detector, boxes from ``box_threshold`` on are listed.
    """

    threshold: float = Field(ge=0, le=1)
    accept_below: float | None = Field(default=None, ge=0, le=1)
    novelty_limit: float | None = None
    class_rules: dict[str, ClassRule] = Field(default_factory=dict)
    min_defect_area: float = Field(default=0.0, ge=0, le=1)
    region_threshold: float = Field(default=0.5, ge=0, le=1)
    min_region_area: float = Field(default=0.001, ge=0, le=1)
    box_threshold: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> "Policy":
        if self.accept_below is not None and self.accept_below > self.threshold:
            raise ValueError(
                f"accept_below: must be at most threshold {self.threshold}, got {self.accept_below}"
            )
        return self

    @property
    def accepts_below(self) -> float:
        """``OK`` needs a score under this."""
        return self.threshold if self.accept_below is None else self.accept_below


class Tiling(CardPart):
    """How a picture is cut where the model looks at it in pieces of ``input_size``.

    The picture is resized by ``scale``, then cut into tiles whose neighbours share ``overlap``
    of their side.
    """

    overlap: float = Field(default=0.25, ge=0, le=0.75)
    scale: float = Field(default=1.0, gt=0, le=8)


class Calibration(CardPart):
    """How raw scores came to [0, 1]: Platt's sigmoid, temperature scaling or a limit.

    A limit is what good pictures alone can give: the score decides, but is no probability.
    """

    method: str
    n: int
    parameters: dict[str, float]


class Reduction(CardPart):
    """What a file of reduced precision was made from, and how far its scores moved.

    ``parent`` is the SHA-256 of the float32 file. On ``pictures`` calibration pictures both gave
    the same verdicts and classes, and scores that differ by at most ``score_shift``; one that is
    ``guarded`` did so only as its parent runs it, with the float32 file for what is near a limit.
    """

    precision: Literal["int8", "int8-mixed"]
    parent: str = Field(pattern=r"^[0-9a-f]{64}$")
    pictures: int = Field(ge=1)
    score_shift: float = Field(ge=0, le=1)
    guarded: bool = False


class ModelCard(CardPart):
    """Everything that a client, an auditor or the service must know of a model."""

    name: str = Field(min_length=1)
    version: str
    task: Task
    classes: tuple[str, ...] = Field(min_length=1)
    input_size: tuple[int, int]
    recipe: str
    backbone: str
    training_data: TrainingData
    metrics: dict[str, Metric]
    calibration: Calibration
    policy: Policy
    quality: QualityLimits | None = None
    certificate: Certificate | None = None
    tiling: Tiling | None = None
    reference: bool = False
    """True where the model compares a picture with an aligned one of a part without defects."""
    skill_fault: str | None = None
    """Why the test pictures do not show that the model knows good from defective: then nothing is
    ``OK`` but under a certificate, whose pictures show it."""
    parity: dict[str, float] = Field(default_factory=dict)
    reduced: Reduction | None = None
    software: dict[str, str]
    created: str

    @model_validator(mode="after")
    def _check(self) -> "ModelCard":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: must be distinct, got {self.classes}")
        if GOOD in self.classes[1:]:
            raise ValueError(f"classes: {GOOD!r} must stand first, got {self.classes}")
        strangers = sorted(set(self.policy.class_rules) - set(self.classes[self.has_good :]))
        if strangers:
            raise ValueError(
                f"class_rules: must name kinds of defect among {self.classes}, got {strangers}"
            )
        if min(self.input_size) < 1:
            raise ValueError(f"input_size: must be positive, got {self.input_size}")
        return self

    @property
    def has_good(self) -> bool:
        """False for a typing model, which cannot accept a part."""
        return self.classes[0] == GOOD

    def decision_digest(self) -> str:
        """SHA-256 over everything on the card that decides: policy, limits, classes, sizes.

        Values that are the defaults are left out, so that a later version's new field does not
        void a certificate.
        """
        parts = self.model_dump(
            mode="json",
            include={"task", "classes", "input_size", "policy", "quality", "tiling", "reference",
                     "skill_fault"},
            exclude_defaults=True,
        )  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def names_kinds(self) -> bool:
        """True where classes were taught by name, so that naming them can be right or wrong."""
        return self.task != "anomaly" and len(self.classes) > 1

    def to_json(self) -> str:
        """Stable text: sorted keys, no line breaks."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], origin: str) -> "ModelCard":
        """Read the card from an ONNX file's metadata.

        Raises:
            ModelFileError: there is no card, or it is not valid; the message names ``origin``.
        """
        text = metadata.get(CARD_KEY)
        if text is None:
            raise ModelFileError(
                f"model: {origin} must hold a twonines card in its metadata, got none; "
                "teach one with `twonines train`"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            raise ModelFileError(f"model: {origin} holds a card that is not valid: {exc}") from exc

    def public(self) -> dict[str, Any]:
        """The card as plain JSON types."""
        result: dict[str, Any] = self.model_dump(mode="json")
        return result
