"""One record per picture, and the set that holds them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from twonines.datasets.mask_sources import MaskSource
from twonines.types import GOOD

SplitName = Literal["train", "calibration", "test"]
Task = Literal["classify", "segment", "detect", "anomaly"]
Turns = Literal[1, 2, 4]

DEFECTIVE = "defective"
"""The class of a defective part where the set names no kind."""
SEVERAL = "several"
"""The class of a picture whose marks are of different kinds."""


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
    ``mask`` says where the defective pixels are written down (see ``masks.read_mask``).
    ``reference`` is a picture of the same part without defects, aligned, where the set has one.
    ``annotated_size`` (height, width) is the picture's when it was marked, where the set tells it.
    """

    path: Path
    defect_class: str
    group: str | None = None
    official_split: Literal["train", "test"] | None = None
    mask: MaskSource | None = None
    boxes: tuple[Box, ...] = ()
    certainty: float = 1.0
    attributes: dict[str, str] = field(default_factory=dict)
    reference: Path | None = None
    annotated_size: tuple[int, int] | None = None

    @property
    def is_defective(self) -> bool:
        """True unless the part is good."""
        return self.defect_class != GOOD


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of the publisher's.

    ``url`` is None where it must be fetched by hand (a form, a login, an address that changes).
    ``sha256`` is None where no digest is known; the first download's is then recorded.
    """

    name: str
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a user must know of a set before quoting a figure from it.

    ``turns`` is in how many ways a part may lie: 1, 2 where half turns do not matter, 4 where
    quarter turns do not; ``flips_allowed`` says that a mirrored part (left is right) is one too.
    ``folder`` is where the set lies below ``$TWONINES_DATA``; generic layouts have none. ``tasks``
    is what its labels allow, ``download`` how to get it in words, ``published`` results to stand
    above, one a line.
    """

    name: str
    title: str
    licence: str
    source: str
    official_split: str
    traps: str
    turns: Turns = 1
    flips_allowed: bool = True
    folder: str | None = None
    tasks: tuple[Task, ...] = ()
    classes: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    download: str = ""
    archives: tuple[Archive, ...] = ()


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
