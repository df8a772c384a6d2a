"""Tiles: cut a large picture into pieces of the model's input, and merge what it says of them.

Pure functions of arrays. A picture of T tiles has T chances of a false alarm, for the merged
score is the highest of its tiles: thresholds and calibration hold for the way they were measured,
so those of a tiled model must be measured on merged scores.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twonines.errors import ImageError
from twonines.models.card import Tiling
from twonines.models.outputs import Outputs
from twonines.types import FloatArray, Image

MAX_TILES = 1024
"""Tiles of one picture, unless a caller sets another limit; bounds its memory and its time."""
MAX_BOXES = 1000
"""Boxes of one picture that are merged: those of the highest scores."""
SAME_BOX = 0.5
"""Boxes of one kind are one defect where they share this much of the smaller."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the tiles of one picture lie.

    Convention: sizes are (height, width) and places (top, left), in pixels of the resized
    picture, row by row. ``extent`` is the size of the resized picture; where it is smaller than a
    tile, the canvas that is cut is as large as the tile.
    """

    extent: tuple[int, int]
    tile: tuple[int, int]
    places: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.places)


def plan(
    size: tuple[int, int], tile: tuple[int, int], tiling: Tiling, max_tiles: int = MAX_TILES
) -> Grid:
    """Lay tiles over a picture; nothing of its pixels is needed.

    Neighbours share at least ``tiling.overlap`` of a tile's side; the last row and column lie
    flush with the picture's edge, so that no pixel is left out and none is beyond it.

    Args:
        size: (height, width) of the uploaded picture.
        tile: (height, width) of the model's input.
        tiling: overlap and scale.
        max_tiles: the most that one picture may have.

    Raises:
        ImageError: the picture would have more than ``max_tiles``.
    """
    extent = (max(1, round(size[0] * tiling.scale)), max(1, round(size[1] * tiling.scale)))
    steps = [max(1, side - math.ceil(side * tiling.overlap)) for side in tile]
    counts = [
        1 + max(0, -(-(long - side) // step))
        for long, side, step in zip(extent, tile, steps, strict=True)
    ]
    if counts[0] * counts[1] > max_tiles:
        raise ImageError(
            f"image: at most {max_tiles} tiles are taken (max_tiles), got {counts[0]} x "
            f"{counts[1]} for {size[1]} x {size[0]} pixels at scale {tiling.scale:g}"
        )
    tops, lefts = (
        [min(index * step, max(0, long - side)) for index in range(count)]
        for count, step, long, side in zip(counts, steps, extent, tile, strict=True)
    )
    return Grid(extent, tile, tuple((top, left) for top in tops for left in lefts))


def pad(image: Image, tile: tuple[int, int]) -> Image:
    """Reflect a picture beyond its lower and right edge until it holds a tile.

    Reflected, not resized up: defects keep the size that the model was taught with. What the
    model finds in the reflection alone is cut off again by :class:`Merger`.

    Args:
        image: (H, W, 3) uint8 RGB, at least 1 x 1.
        tile: (height, width) of a tile.
    """
    missing = [max(0, side - have) for side, have in zip(tile, image.shape, strict=False)]
    if not any(missing):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def cut(image: Image, grid: Grid, index: int) -> Image:
    """One tile of a picture, as a view: the pixels are copied only into a batch.

    Args:
        image: (H, W, 3) uint8 RGB of the grid's extent, padded where it is smaller than a tile.
        grid: where the tiles lie.
        index: which of them.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    top, left = grid.places[index]
    return image[top : top + grid.tile[0], left : left + grid.tile[1]]


class Merger:
    """Makes one row from what the model says of a picture's tiles, in whatever batches they come.

    ``score`` is the highest of the tiles, and ``class_scores`` are those of that tile.
    ``novelty`` is the highest. ``defect_map`` covers the whole extent as densely as a tile's map;
    where tiles overlap the higher value counts, since a defect at a tile's edge is seen best by
    the tile that sees it whole. ``map_classes`` come from the tile whose value counts. A tile lies
    on the merged map to half a cell. For boxes see :func:`merge_boxes`; like every detector's they
    then refer to the model's input, as if the whole picture had been squeezed into it.

    Of the maps only the merged one is kept, so that the tiles' own never lie in memory together.
    """

    def __init__(self, grid: Grid) -> None:
        """Wait for the tiles of ``grid``."""
        self._grid = grid
        self._seen = np.zeros(len(grid), bool)
        self._score = self._novelty = np.zeros(0, np.float32)
        self._class_scores = np.zeros((0, 0), np.float32)
        self._map = np.zeros((0, 0), np.float32)
        self._kinds: npt.NDArray[np.int16] | None = None  # 64 bits a place would be too many
        self._cells: tuple[int, ...] = ()
        self._boxes: list[tuple[FloatArray, FloatArray, npt.NDArray[np.int64], int]] = []

    @property
    def complete(self) -> bool:
        """True as soon as every tile has been added."""
        return bool(self._seen.all())

    def add(self, outputs: Outputs, row: int, tile: int) -> None:
        """Take row ``row`` of a batch's outputs as that of tile ``tile``."""
        if not self._score.size:
            self._start(outputs)
        if self._seen[tile]:  # a batch that failed later is run again
            return
        self._score[tile], self._novelty[tile] = outputs.score[row], outputs.novelty[row]
        self._class_scores[tile] = outputs.class_scores[row]
        self._add_map(outputs, row, tile)
        if outputs.boxes is not None:
            assert outputs.box_scores is not None and outputs.box_classes is not None
            top, left = self._grid.places[tile]
            boxes = outputs.boxes[row] + np.array([left, top] * 2, np.float32)
            scores, kinds = outputs.box_scores[row], outputs.box_classes[row]
            there = (scores > 0) & np.isfinite(boxes).all(1)
            self._boxes.append((boxes[there], scores[there], kinds[there], tile))
        self._seen[tile] = True

    def result(self) -> Outputs:
        """Outputs of one picture; its boxes in the pixels that it would have as one input."""
        assert self.complete
        height, width = self._map_size(self._grid.extent)
        winner = self._winner()
        boxes, box_scores, box_classes = None, None, None
        if self._boxes:
            boxes, box_scores, box_classes = merge_boxes(self._boxes, self._grid)
            squeeze = np.divide(self._grid.tile, self._grid.extent)[::-1]  # x, y
            boxes = (boxes * np.tile(squeeze, 2)).astype(np.float32)
        kinds = self._kinds
        return Outputs(
            self._score[winner][None],
            _or_nan(self._class_scores)[winner][None],
            self._map[None, :height, :width],
            _or_nan(self._novelty).max(keepdims=True),
            None if kinds is None else kinds[None, :height, :width].astype(np.int64),
            boxes,
            box_scores,
            box_classes,
        )

    def _start(self, outputs: Outputs) -> None:
        count = len(self._grid)
        self._score, self._novelty = np.zeros(count, np.float32), np.zeros(count, np.float32)
        self._class_scores = np.zeros((count, outputs.class_scores.shape[1]), np.float32)
        self._cells = outputs.defect_map.shape[1:]
        extent, tile = self._grid.extent, self._grid.tile
        canvas = self._map_size((max(extent[0], tile[0]), max(extent[1], tile[1])))
        self._map = np.zeros(canvas, np.float32)
        if outputs.map_classes is not None:
            self._kinds = np.zeros(canvas, np.int16)

    def _map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Cells of the merged map over ``size`` pixels: as dense as a tile's, at least one."""
        height, width = (
            max(1, round(long * cells / side))
            for long, cells, side in zip(size, self._cells, self._grid.tile, strict=True)
        )
        return height, width

    def _add_map(self, outputs: Outputs, row: int, tile: int) -> None:
        found = _or_nan(outputs.defect_map[row])
        top, left = (
            min(round(start * cells / side), canvas - cells)
            for start, cells, side, canvas in zip(
                self._grid.places[tile], self._cells, self._grid.tile, self._map.shape, strict=True
            )
        )
        place = (slice(top, top + found.shape[0]), slice(left, left + found.shape[1]))
        here = self._map[place]
        if self._kinds is not None and outputs.map_classes is not None:
            fresh = found > here
            self._kinds[place][fresh] = outputs.map_classes[row][fresh]
        np.maximum(here, found, out=here)  # a value that is not a number stays

    def _winner(self) -> int:
        """The tile of the highest score; one outside [0, 1] comes first, so that it is seen."""
        bad = ~((self._score >= 0) & (self._score <= 1))
        return int(np.argmax(bad if bad.any() else self._score))


def _or_nan(values: FloatArray) -> FloatArray:
    """All not a number where one is not finite: a tile's fault makes the picture an ERROR."""
    return values if np.isfinite(values).all() else np.full_like(values, np.nan)


def merge_boxes(
    found: list[tuple[FloatArray, FloatArray, npt.NDArray[np.int64], int]], grid: Grid
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Boxes of all tiles, with those that show one defect made one: suppression by class.

    Two boxes of one class and of different tiles are one defect where they share at least
    ``SAME_BOX`` of the smaller: a tile's edge may leave only a piece of the defect. A box that a
    tile's inner edge cuts yields to one that is whole; else the higher score stays. What stays
    has the highest score of what it replaces.

    Args:
        found: for each tile its boxes (M, 4) xyxy in pixels of the resized picture, scores (M,),
            classes (M,) and the tile's index.
        grid: where the tiles lie.

    Returns:
        Boxes (1, M', 4) within the extent, scores (1, M') and classes (1, M'); M' may be 0.
    """
    height, width = grid.extent
    boxes = np.concatenate([entry[0] for entry in found])
    scores = np.concatenate([entry[1] for entry in found])
    kinds = np.concatenate([entry[2] for entry in found])
    tiles = np.concatenate([np.full(len(entry[1]), entry[3]) for entry in found])
    boxes = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    sides = boxes[:, 2:] - boxes[:, :2]
    there = np.flatnonzero((sides > 0).all(1))  # also not what lies in the reflection alone
    there = there[np.argsort(-scores[there], kind="stable")][:MAX_BOXES]
    boxes, scores, kinds, tiles = boxes[there], scores[there], kinds[there], tiles[there]
    order = np.lexsort((-scores, _cut_by_tile(boxes, tiles, grid)))
    kept: list[int] = []
    while order.size:
        first, rest = order[0], order[1:]
        same = (kinds[rest] == kinds[first]) & (tiles[rest] != tiles[first])
        same &= _shared(boxes[first], boxes[rest]) >= SAME_BOX
        scores[first] = max(scores[first], scores[rest[same]].max(initial=0))
        kept.append(int(first))
        order = rest[~same]
    kept.sort(key=lambda index: -scores[index])
    return boxes[kept][None], scores[kept][None], kinds[kept][None].astype(np.int64)


def _cut_by_tile(
    boxes: FloatArray, tiles: npt.NDArray[np.int64], grid: Grid
) -> npt.NDArray[np.bool]:
    """(M,) true where a box reaches an edge of its tile that is not the picture's."""
    starts = np.array(grid.places, np.float32).reshape(-1, 2)[tiles][:, ::-1]  # x, y
    ends = starts + np.array(grid.tile[::-1], np.float32)
    extent = np.array(grid.extent[::-1], np.float32)
    low = (boxes[:, :2] <= starts + 1) & (starts > 0)
    high = (boxes[:, 2:] >= ends - 1) & (ends < extent)
    result: npt.NDArray[np.bool] = np.any(low | high, axis=1)
    return result


def _shared(box: FloatArray, others: FloatArray) -> FloatArray:
    """(M,) the common area of a box and each other one over that of the smaller."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    result: FloatArray = common / np.minimum((box[2:] - box[:2]).prod(), areas)
    return result
