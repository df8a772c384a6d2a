"""Where the defective pixels of a picture are written down; ``masks.read_mask`` reads them all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MaskRule = Literal["above_127", "nonzero", "palette"]
"""Which values of a mask file mark a defect.

``above_127``: grey above 127 of 255, since published masks have soft edges; 16 bits are scaled.
``nonzero``: any stored value above 0, a class number or palette index. ``palette``: as ``nonzero``
where the file is a palette or holds nothing above 1, else as ``above_127``; for masks of one's own,
which tools write in either way.
"""

Point = tuple[float, float]
"""(x, y) in pixels of the picture."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A picture of the mask, of the same size."""

    path: Path
    rule: MaskRule = "above_127"


@dataclass(frozen=True, slots=True)
class MaskPolygons:
    """Outlines; every pixel on or inside one is defective."""

    polygons: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True, slots=True)
class MaskRuns:
    """Run lengths.

    Convention: (start, length) counts pixels down the columns from 0, as Severstal and COCO do.
    ``size`` (height, width) is the one they were made for, where the set tells it.
    """

    runs: tuple[tuple[int, int], ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class MaskMat:
    """A MATLAB file: values of ``field`` in the structure ``variable`` from ``least`` on."""

    path: Path
    variable: str
    field: str
    least: int


@dataclass(frozen=True, slots=True)
class MaskUnion:
    """All pixels that any of the sources marks."""

    sources: "tuple[MaskSource, ...]"


MaskSource = MaskFile | MaskPolygons | MaskRuns | MaskMat | MaskUnion
