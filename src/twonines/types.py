"""The words that every layer shares."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, or (N, H, W, 3) for a batch."""
FloatArray = npt.NDArray[np.float32]

GOOD = "good"
"""The defect class of a part without a defect."""
DEFECTIVE = "defective"
"""The defect class of a part that is not good, where the model knows no kinds."""

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
"""What the name of a picture ends in, in lower case."""


class Verdict(StrEnum):
    """What is said of a part. ``ERROR`` is never ``OK``."""

    OK = "OK"
    NG = "NG"
    REVIEW = "REVIEW"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Region:
    """A place on the picture that looks defective.

    Convention: ``box`` is (x_min, y_min, x_max, y_max) in pixels of the uploaded picture,
    the maximum exclusive; ``area`` counts its pixels; ``score`` is the map's peak, [0, 1].
    """

    box: tuple[int, int, int, int]
    area: int
    score: float
    defect_class: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The decision on one picture.

    ``score`` and ``novelty`` are None where the picture could not be inspected; ``error`` then
    says why in plain words. ``certificate`` names the valid certificate under which the verdict
    was given; None where there is none. ``quality`` holds the picture's own features by name.
    """

    verdict: Verdict
    score: float | None = None
    defect_class: str | None = None
    class_scores: dict[str, float] = field(default_factory=dict)
    novelty: float | None = None
    regions: tuple[Region, ...] = ()
    error: str | None = None
    reasons: tuple[str, ...] = ()
    certificate: str | None = None
    quality: dict[str, float] = field(default_factory=dict)
