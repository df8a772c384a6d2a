"""What the labels of a picture say of its places: masks, boxes, or only the picture's class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from twonines.datasets.masks import Mask, read_mask
from twonines.datasets.record import Record
from twonines.types import FloatArray

MOST_PICTURES = 512
BOX_SHARE = 0.6
"""Share of a box's places that are taken to show its defect; the rest is not asked."""
LABEL_SHARE = 0.05
"""The same of a whole picture that is only known to be defective, where no mask tells more."""
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of the P places of one picture.

    ``cover`` (P,) float32 is the share of each place that is defective, ``nan`` where only a
    share ``expected`` of the places that are not known is. ``kind`` (P,) int64 is the place's
    kind of defect, or :data:`UNKNOWN`.
    """

    cover: FloatArray
    kind: npt.NDArray[np.int64]
    expected: float = 0.0


def is_located(record: Record) -> bool:
    """True where a mask or a box says where the defect is."""
    return record.is_defective and (record.mask is not None or bool(record.boxes))


def choose_pictures(
    records: Sequence[Record], seed: int, most: int = MOST_PICTURES
) -> list[Record]:
    """A seeded choice of at most ``most`` pictures in which no class crowds out another.

    Within a class, pictures with a mask or box come first.
    """
    rng = np.random.default_rng(seed)
    classes: dict[str, list[int]] = {}
    for i in rng.permutation(len(records)):
        classes.setdefault(records[i].defect_class, []).append(int(i))
    # From the rarest on, each class takes up to an equal share of the seats that are left.
    left, chosen = min(most, MOST_PICTURES), []
    for place, name in enumerate(sorted(classes, key=lambda c: (len(classes[c]), c))):
        members = sorted(classes[name], key=lambda i: not is_located(records[i]))
        taken = members[: max(1, left // (len(classes) - place))]
        left -= len(taken)
        chosen += taken
    return [records[i] for i in sorted(chosen)]


def read_marks(
    record: Record,
    picture_size: tuple[int, int],
    grid: tuple[int, int],
    kinds: Mapping[str, int],
    label_share: float = LABEL_SHARE,
) -> Marks:
    """What a record says of the places of its picture.

    Args:
        record: the picture's labels.
        picture_size: (height, width) of the picture as it is stored.
        grid: (h, w) of the places; P is h times w.
        kinds: index of each kind of defect.
        label_share: see :data:`LABEL_SHARE`.

    Raises:
        MaskError: the mask is missing, cannot be decoded or has another size.
    """
    own = kinds.get(record.defect_class, UNKNOWN)
    kind = np.full(grid, own, np.int64)
    inside = np.zeros(grid, bool)
    for box in record.boxes:
        where = _places_of((box.x_min, box.y_min, box.x_max, box.y_max), picture_size, grid)
        inside[where] = True
        kind[where] = kinds.get(box.defect_class, own)
    if not record.is_defective:
        return Marks(np.zeros(inside.size, np.float32), kind.ravel())
    mask = read_mask(record, picture_size)
    if mask is not None:
        return Marks(cover_of(mask, grid).ravel(), kind.ravel())
    if record.boxes:
        cover = np.where(inside, np.nan, 0.0).astype(np.float32)
        return Marks(cover.ravel(), kind.ravel(), BOX_SHARE)
    return Marks(np.full(inside.size, np.nan, np.float32), kind.ravel(), label_share)


def cover_of(mask: Mask, grid: tuple[int, int]) -> FloatArray:
    """The share of each place (h, w) that a mask (H, W) covers, in [0, 1]."""
    whole = PILImage.fromarray(mask.astype(np.float32))
    small = whole.resize((grid[1], grid[0]), PILImage.Resampling.BOX)
    return np.asarray(small, np.float32).clip(0, 1)


def _places_of(
    box: tuple[float, float, float, float], picture_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of the places that a box touches; at least one."""
    x_scale, y_scale = grid[1] / picture_size[1], grid[0] / picture_size[0]
    columns = _touched(box[0] * x_scale, box[2] * x_scale, grid[1])
    return _touched(box[1] * y_scale, box[3] * y_scale, grid[0]), columns


def _touched(low: float, high: float, count: int) -> slice:
    first = int(np.clip(np.floor(low), 0, count - 1))
    return slice(first, int(np.clip(np.ceil(high), first + 1, count)))
