"""The card: one JSON in the model file that says everything about it."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twonines.errors import ModelFileError
from twonines.types import GOOD

CARD_KEY = "twonines.card"
Task = Literal["classify", "anomaly"]
"""``classify`` learns from pictures of every class, ``anomaly`` from good pictures alone."""


class _Part(BaseModel):
    # A limit or rate that is not a number would compare as false, and so pass.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(_Part):
    """One measured rate or score with its sample size and 95 % interval."""

    value: float
    n: int = Field(ge=0)
    low: float | None = None
    high: float | None = None
    count: int | None = None


class TrainingData(_Part):
    """What the model was taught on, and how the data were split."""

    name: str
    licence: str
    digest: str
    split_kind: Literal["official", "grouped", "random"]
    seed: int
    n_train: int
    n_calibration: int
    n_test: int


class Policy(_Part):
    """The decision policy: ``NG`` means ``score >= threshold``.

    A picture whose novelty is above ``novelty_limit`` is ``REVIEW``, whatever its score.
    ``region_threshold`` cuts the defect map; regions under ``min_region_area`` (a share of the
    picture, [0, 1]) are not listed.
    """

    threshold: float = Field(ge=0, le=1)
    novelty_limit: float | None = None
    region_threshold: float = Field(default=0.5, ge=0, le=1)
    min_region_area: float = Field(default=0.001, ge=0, le=1)


class Calibration(_Part):
    """How raw scores came to [0, 1]: Platt's sigmoid, temperature scaling or a limit.

    A limit is what good pictures alone can give: the score decides, but is no probability.
    """

    method: str
    n: int
    parameters: dict[str, float]


class ModelCard(_Part):
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
    certificate: None = None
    parity: dict[str, float] = Field(default_factory=dict)
    software: dict[str, str]
    created: str

    @model_validator(mode="after")
    def _check(self) -> "ModelCard":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: must be distinct, got {self.classes}")
        if GOOD in self.classes[1:]:
            raise ValueError(f"classes: {GOOD!r} must stand first, got {self.classes}")
        if min(self.input_size) < 1:
            raise ValueError(f"input_size: must be positive, got {self.input_size}")
        return self

    @property
    def has_good(self) -> bool:
        """False for a typing model, which cannot accept a part."""
        return self.classes[0] == GOOD

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
