"""One record per picture, and the set that holds them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from twonines.types import GOOD

SplitName = Literal["train", "calibration", "test"]


@dataclass(frozen=True, slots=True)
class Box:
    """A marked defect.

    Convention: (x_min, y_min, x_max, y_max) in pixels, the maximum exclusive.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    defect_class: str


@dataclass(frozen=True, slots=True)
class Record:
    """One picture and what is known of it.

    ``defect_class`` is ``"good"`` or the kind of defect. ``group`` names the part, tile or coil
    that must stay on one side of a split. ``official_split`` is the publisher's, where there is
    one. ``certainty`` in [0, 1] is how sure the label is (1 unless the set grades its labels).
    """

    path: Path
    defect_class: str
    group: str | None = None
    official_split: Literal["train", "test"] | None = None
    mask: Path | None = None
    boxes: tuple[Box, ...] = ()
    certainty: float = 1.0
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def is_defective(self) -> bool:
        """True unless the part is good."""
        return self.defect_class != GOOD


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a user must know of a set before quoting a figure from it."""

    name: str
    title: str
    licence: str
    source: str
    official_split: str
    traps: str
    rotations_allowed: bool = False
    flips_allowed: bool = True


@dataclass(frozen=True, slots=True)
class Dataset:
    """The records of one set, in a stable order, below ``root``."""

    card: DatasetCard
    root: Path
    records: tuple[Record, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Sorted defect classes; ``good`` first where the set has it."""
        return tuple(sorted({r.defect_class for r in self.records}, key=lambda c: (c != GOOD, c)))

    @property
    def has_good(self) -> bool:
        """False where the set only tests typing, not accept or reject."""
        return any(not r.is_defective for r in self.records)

    @property
    def counts(self) -> Counter[str]:
        """Pictures per class."""
        return Counter(r.defect_class for r in self.records)
