"""What the labels of a picture say of its places: masks, boxes, or only the picture's class."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from twonines.datasets.masks import Mask, read_mask
from twonines.datasets.orientation import read_upright_size
from twonines.datasets.record import Record
from twonines.errors import DatasetError
from twonines.models.providers import available_threads
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


@dataclass(frozen=True, slots=True)
class MaskCount:
    """How many masks of defective pictures were read, and how many of them mark nothing."""

    read: int
    empty: int


def drop_empty_masks(records: Sequence[Record]) -> tuple[tuple[Record, ...], MaskCount]:
    """The records in order, without the masks that mark nothing on a defective picture.

    Such a mask does not say that the picture is good everywhere, but that nobody marked it, or
    that its values are read by another rule than they were written by: what is left says where
    the defect is as much as a mask that is not there.

    Raises:
        DatasetError: every mask of a defective picture is empty.
        MaskError: a mask is missing, cannot be decoded or has another size.
    """
    with ThreadPoolExecutor(available_threads()) as pool:
        empty = list(pool.map(_is_empty, records))
    count = MaskCount(sum(one is not None for one in empty), sum(map(bool, empty)))
    if count.empty and count.empty == count.read:
        first = records[empty.index(True)].path.name
        raise DatasetError(
            f"masks: at least one must mark a defect, all {count.empty} of the defective pictures "
            f"are empty, as that of {first}; grey marks from 128 of 255 on (of 16 bits from 32768 "
            "on), a palette and 0 with 1 from 1 on; --recipe teach --task classify reads no masks"
        )
    kept = (replace(r, mask=None) if e else r for r, e in zip(records, empty, strict=True))
    return tuple(kept), count


def _is_empty(record: Record) -> bool | None:
    """None where there is no mask to look at."""
    if record.mask is None or not record.is_defective:
        return None
    try:
        size = read_upright_size(record.path)
    except Exception:  # on broken bytes a decoder may raise anything; who reads it names it
        return None
    mask = read_mask(record, size)
    return mask is not None and not mask.any()


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
