"""What a record teaches: kinds of defect, targets of the picture and of every pixel."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twonines.datasets.masks import read_mask
from twonines.datasets.record import DEFECTIVE, SEVERAL, Box, Record
from twonines.datasets.splits import Split
from twonines.errors import DatasetError
from twonines.models.card import Task
from twonines.models.network import Layout
from twonines.types import GOOD, FloatArray

KindMap = npt.NDArray[np.uint8]
"""(H, W): 0 is good, k + 1 is defect kind k, :data:`UNKNOWN` is not known."""
UNKNOWN = 255
MOST_KINDS = 200
_CORE = 0.5
"""Share of a box's sides in its middle that is taken as defective where a box stands for a mask."""


def choose_task(split: Split, wanted: str) -> Task:
    """What was asked for; auto takes what most defective training pictures are marked with.

    Raises:
        DatasetError: there are only good pictures, which ``finetune`` cannot learn from.
    """
    defective = [record for record in split.train if record.is_defective]
    if not defective:
        raise DatasetError(
            f"training split: the recipe 'finetune' needs defective pictures, got "
            f"{len(split.train)} good ones; --recipe teach --task anomaly learns from those"
        )
    boxed = any(record.boxes for record in defective)
    if wanted == "detect" and not boxed:
        raise DatasetError("training split: the task 'detect' needs boxes, no picture has one")
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    masks = sum(record.mask is not None for record in defective)
    only_boxes = sum(bool(record.boxes) and record.mask is None for record in defective)
    if only_boxes > masks:
        return "detect"
    return "segment" if masks else "classify"


def choose_layout(split: Split, task: Task) -> Layout:
    """Kinds from the pictures' classes; for ``detect`` from the boxes' classes.

    Raises:
        DatasetError: there is nothing to tell apart, or only some pictures have references.
    """
    records = (*split.train, *split.calibration, *split.test)
    names = {record.defect_class for record in records if record.is_defective}
    if task == "detect":
        names = {box.defect_class for record in split.train for box in record.boxes} - {GOOD}
    has_good = any(not record.is_defective for record in split.train)
    if len(names) + has_good < 2 and task == "classify":
        raise DatasetError(
            f"classes: the task {task!r} needs at least two, got {', '.join(names) or 'none'}"
        )
    if len(names) > MOST_KINDS:
        raise DatasetError(f"classes: at most {MOST_KINDS} kinds of defect, got {len(names)}")
    paired = Counter(record.reference is not None for record in records)
    if len(paired) == 2:
        raise DatasetError(
            f"references: every picture needs one or none may have one, got {paired[True]} with "
            f"and {paired[False]} without"
        )
    return Layout(tuple(sorted(names)), has_good, task == "detect", paired[True] > 0)


@dataclass(frozen=True, slots=True)
class PictureTarget:
    """What is known of a whole picture with n kinds.

    ``defect`` is the probability that it is defective, ``kinds`` (n,) sums to 1, or is 0 where no
    kind is known; ``bags`` (n,) says of each kind 1 it is there, 0 it is not, -1 unknown.
    """

    defect: float
    kinds: FloatArray
    bags: FloatArray


def picture_target(record: Record, layout: Layout) -> PictureTarget:
    """From the label of the picture and the kinds of its boxes.

    An unsure label pulls less: its target is (1 + certainty) / 2, as the recipe ``teach`` has it.
    """
    own = (1.0 + record.certainty) / 2
    kinds = np.zeros(len(layout.kinds), np.float32)
    if not record.is_defective:
        bags = np.where(own == 1.0, kinds, -1.0).astype(np.float32)
        return PictureTarget(1.0 - own, kinds, bags)
    for name in _kinds_of(record, layout):
        kinds[layout.kinds.index(name)] = 1.0
    several = record.defect_class in (SEVERAL, DEFECTIVE) and not record.boxes
    unknown = several and len(layout.kinds) > 1 or own < 1.0
    bags = np.where(kinds > 0, 1.0, -1.0 if unknown else 0.0).astype(np.float32)
    if own < 1.0:
        bags[:] = -1.0
    return PictureTarget(own, kinds / max(float(kinds.sum()), 1.0), bags)


def _kinds_of(record: Record, layout: Layout) -> set[str]:
    """Kinds that are known to be there: the boxes' where they have one, else the picture's."""
    boxed = {box.defect_class for box in record.boxes} & set(layout.kinds)
    return boxed or ({record.defect_class} & set(layout.kinds))


def kind_map(record: Record, layout: Layout, size: tuple[int, int]) -> KindMap:
    """The defective pixels of a picture of ``size`` (height, width), by kind.

    A mask decides where there is one, and boxes inside it name its parts. A box alone says that
    its middle is defective and leaves its rim open. A defective picture with neither is unknown.

    Raises:
        MaskError: the mask is missing, cannot be decoded or has another size.
    """
    mask = read_mask(record, size)
    if not record.is_defective:
        return np.zeros(size, np.uint8)
    own = 1 + layout.kinds.index(record.defect_class) if record.defect_class in layout.kinds else 0
    if mask is None and not record.boxes:
        return np.full(size, UNKNOWN, np.uint8)
    if mask is not None and not mask.any():  # an empty mask on a defective part shows nothing
        return np.full(size, UNKNOWN, np.uint8)
    result = np.zeros(size, np.uint8)
    if mask is not None:
        result[mask] = own or UNKNOWN
    # Small boxes last: they are the more exact ones.
    for box in sorted(record.boxes, key=_area, reverse=True):
        kind = 1 + layout.kinds.index(box.defect_class) if box.defect_class in layout.kinds else own
        if mask is not None:
            part = result[_slices(box, size, 1.0)]
            part[part > 0] = kind or UNKNOWN
        else:
            rim = result[_slices(box, size, 1.0)]
            rim[rim == 0] = UNKNOWN
            result[_slices(box, size, _CORE)] = kind or UNKNOWN
    return result


def _area(box: Box) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)


def _slices(box: Box, size: tuple[int, int], share: float) -> tuple[slice, slice]:
    """Rows and columns of the middle ``share`` of a box, at least one pixel of each."""
    edges = []
    for low, high, limit in ((box.y_min, box.y_max, size[0]), (box.x_min, box.x_max, size[1])):
        middle, half = (low + high) / 2, (high - low) / 2 * share
        start = int(np.clip(np.floor(middle - half), 0, limit - 1))
        edges.append(slice(start, max(start + 1, int(np.ceil(min(middle + half, limit))))))
    return edges[0], edges[1]


def box_table(records: Sequence[Record], layout: Layout) -> list[tuple[FloatArray, FloatArray]]:
    """Boxes (B, 4) xyxy in pixels of the file and kinds (B,) of each record."""
    tables = []
    for record in records:
        known = [box for box in record.boxes if box.defect_class in layout.kinds]
        corners = [(b.x_min, b.y_min, b.x_max, b.y_max) for b in known]
        kinds = [layout.kinds.index(b.defect_class) for b in known]
        tables.append((np.array(corners, np.float32).reshape(-1, 4), np.array(kinds, np.float32)))
    return tables
