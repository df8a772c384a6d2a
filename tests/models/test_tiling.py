import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import tiny_card
from twonines.errors import ImageError
from twonines.models.card import Policy, Tiling
from twonines.models.decision import decide
from twonines.models.outputs import Outputs
from twonines.models.tiling import Merger, cut, merge_boxes, pad, plan
from twonines.types import Image, Verdict

RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def outputs(maps: npt.NDArray[np.floating[Any]], scores: list[float] | None = None) -> Outputs:
    count = len(maps)
    score = np.zeros(count, np.float32) if scores is None else np.array(scores, np.float32)
    rest = np.stack([1 - score, score], 1)
    return Outputs(score, rest, maps.astype(np.float32), np.arange(count, dtype=np.float32))


def merged(found: Outputs, size: tuple[int, int], tile: tuple[int, int], tiling: Tiling) -> Outputs:
    grid = plan(size, tile, tiling)
    merger = Merger(grid)
    for index in range(len(grid)):
        assert not merger.complete
        merger.add(found, index, index)
    assert merger.complete
    return merger.result()


@pytest.mark.parametrize("overlap", [0, 0.25, 0.3, 0.75])
@pytest.mark.parametrize("size", [(1, 1), (32, 48), (33, 48), (31, 200), (100, 49), (97, 211)])
def test_tiles_cover_every_pixel_and_none_beyond(size: tuple[int, int], overlap: float) -> None:
    grid = plan(size, (32, 48), Tiling(overlap=overlap))
    canvas = (max(size[0], 32), max(size[1], 48))
    seen = np.zeros(canvas, int)
    for top, left in grid.places:
        assert 0 <= top <= canvas[0] - 32 and 0 <= left <= canvas[1] - 48
        seen[top : top + 32, left : left + 48] += 1
    assert seen.min() == 1 or overlap > 0
    assert seen.min() >= 1
    for axis, side in ((0, 32), (1, 48)):
        starts = sorted({place[axis] for place in grid.places})
        assert starts[-1] + side == canvas[axis]  # flush with the edge
        assert all(b - a <= side * (1 - overlap) for a, b in zip(starts, starts[1:], strict=False))


def test_counts_are_no_larger_than_needed() -> None:
    assert len(plan((32, 32), (32, 32), Tiling(overlap=0.75))) == 1
    assert len(plan((64, 64), (32, 32), Tiling(overlap=0))) == 4
    assert len(plan((65, 64), (32, 32), Tiling(overlap=0))) == 6
    assert len(plan((4096, 4096), (256, 256), Tiling(overlap=0.25))) == 21**2
    assert plan((100, 50), (32, 32), Tiling(scale=0.5)).extent == (50, 25)
    assert plan((1, 1), (32, 32), Tiling(scale=0.1)).extent == (1, 1)


def test_too_many_tiles_are_refused_before_any_memory_is_taken() -> None:
    with pytest.raises(ImageError, match=r"at most 99 tiles .*\(max_tiles\), got 10 x 10 for 320"):
        plan((320, 320), (32, 32), Tiling(overlap=0), 99)
    assert len(plan((320, 320), (32, 32), Tiling(overlap=0), 100)) == 100
    with pytest.raises(ImageError, match="at scale 8"):
        plan((60_000, 60_000), (32, 32), Tiling(scale=8))


def test_a_tile_is_a_view_of_its_place() -> None:
    image = noise(70, 90)
    grid = plan((70, 90), (32, 32), Tiling(overlap=0.25))
    for index, (top, left) in enumerate(grid.places):
        tile = cut(image, grid, index)
        assert tile.shape == (32, 32, 3) and np.shares_memory(tile, image)
        assert (tile == image[top : top + 32, left : left + 32]).all()


def test_a_small_picture_is_reflected() -> None:
    assert (pad(noise(1, 1), (32, 32)) == noise(1, 1)).all()
    image = noise(20, 40)
    padded = pad(image, (32, 32))
    assert padded.shape == (32, 40, 3)
    assert (padded[20:] == image[19:7:-1]).all()
    assert pad(image, (20, 40)) is image


@pytest.mark.parametrize("size", [(70, 90), (32, 200), (33, 33), (5, 7), (40, 20)])
def test_maps_of_input_size_merge_to_the_picture(size: tuple[int, int]) -> None:
    image = noise(*size)
    grid = plan(size, (32, 32), Tiling(overlap=0.25))
    padded = pad(image, (32, 32))
    tiles = np.stack([cut(padded, grid, index) for index in range(len(grid))])
    found = merged(outputs(tiles[..., 0] / 255), size, (32, 32), Tiling(overlap=0.25))
    np.testing.assert_allclose(found.defect_map[0], image[..., 0] / 255, rtol=1e-6)


def test_a_coarse_map_lies_within_half_a_cell() -> None:
    size, tile, tiling = (101, 203), (32, 32), Tiling(overlap=0.25)
    grid = plan(size, tile, tiling)
    for index, (top, left) in enumerate(grid.places):
        maps = np.zeros((len(grid), 8, 8))
        maps[index, 3, 5] = 1.0  # pixels 12 to 16 and 20 to 24 of the tile
        found = merged(outputs(maps), size, tile, tiling).defect_map[0]
        assert found.shape == (25, 51)
        rows, columns = np.nonzero(found)
        assert abs((rows[0] + 0.5) * 101 / 25 - (top + 14)) <= 2.5
        assert abs((columns[0] + 0.5) * 203 / 51 - (left + 22)) <= 2.5


def test_highest_tile_gives_score_and_classes_and_the_higher_map_counts() -> None:
    maps = np.zeros((2, 32, 32))
    maps[0, :, 24:] = 0.4
    maps[1, :, :8] = 0.7
    found = merged(outputs(maps, [0.9, 0.2]), (32, 56), (32, 32), Tiling(overlap=0.25))
    assert found.score.tolist() == [np.float32(0.9)]
    np.testing.assert_allclose(found.class_scores, [[0.1, 0.9]], rtol=1e-5)
    assert found.novelty.tolist() == [1.0]
    assert (found.defect_map[0, :, 24:32] == np.float32(0.7)).all()
    found.check(1, 2)


def test_kinds_come_from_the_tile_whose_map_counts() -> None:
    maps = np.zeros((2, 32, 32))
    maps[0, :, 24:28] = 0.9
    maps[1, :, :8] = 0.7
    kinds = np.stack([np.full((32, 32), 1), np.full((32, 32), 2)])
    found = dataclasses.replace(outputs(maps), map_classes=kinds)
    row = merged(found, (32, 56), (32, 32), Tiling(overlap=0.25))
    assert row.map_classes is not None and row.map_classes.dtype == np.int64
    assert (row.map_classes[0, :, 24:28] == 1).all() and (row.map_classes[0, :, 28:32] == 2).all()


@pytest.mark.parametrize("name", ["score", "class_scores", "defect_map", "novelty"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tile", [0, 1, 2])
def test_what_is_not_finite_in_one_tile_makes_the_picture_an_error(
    name: str, value: float, tile: int
) -> None:
    found = outputs(np.full((3, 32, 32), 0.5), [0.1, 0.3, 0.2])
    values = getattr(found, name).reshape(3, -1)  # a view
    values[tile, -1] = value
    row = merged(found, (32, 96), (32, 32), Tiling(overlap=0))
    card = tiny_card(policy=Policy(threshold=0.9))
    assert decide(row, card, [(32, 96)])[0].verdict is Verdict.ERROR


def test_a_score_below_its_range_is_not_hidden_by_the_highest() -> None:
    found = outputs(np.zeros((3, 32, 32)), [0.1, -0.5, 0.2])
    row = merged(found, (32, 96), (32, 32), Tiling(overlap=0))
    assert "must lie in [0, 1]" in (decide(row, tiny_card(), [(32, 96)])[0].error or "")


def boxed(*tiles: list[tuple[float, float, float, float, float, int]]) -> Outputs:
    """Outputs with boxes (x0, y0, x1, y1, score, class), padded to three a tile."""
    boxes = np.zeros((len(tiles), 3, 4), np.float32)
    scores, kinds = np.zeros((len(tiles), 3), np.float32), np.zeros((len(tiles), 3), np.int64)
    for tile, entries in enumerate(tiles):
        for index, entry in enumerate(entries):
            boxes[tile, index], scores[tile, index] = entry[:4], entry[4]
            kinds[tile, index] = entry[5]
    found = outputs(np.zeros((len(tiles), 4, 4)), [0.9] * len(tiles))
    return dataclasses.replace(found, boxes=boxes, box_scores=scores, box_classes=kinds)


def regions(found: Outputs, size: tuple[int, int], tiling: Tiling) -> list[tuple[object, ...]]:
    card = tiny_card(
        task="detect", tiling=tiling, classes=("good", "a", "b"), policy=Policy(threshold=0.5)
    )
    wide = np.zeros((len(found), 3), np.float32)
    found = dataclasses.replace(found, class_scores=wide)
    row = merged(found, size, (32, 32), tiling)
    inspection = decide(row, card, [size])[0]
    return [(r.box, round(r.score, 2), r.defect_class) for r in inspection.regions]


def test_boxes_come_out_in_pixels_of_the_uploaded_picture() -> None:
    tiling = Tiling(overlap=0, scale=0.5)
    found = boxed([(4, 8, 12, 16, 0.9, 1)], [(0, 2, 10, 6, 0.8, 2)])
    # tiles lie at 0 and 32 of the resized picture, 64 wide, half of the uploaded one
    assert regions(found, (64, 128), tiling) == [
        ((8, 16, 24, 32), 0.9, "a"),
        ((64, 4, 84, 12), 0.8, "b"),
    ]


def test_one_defect_seen_by_two_tiles_is_one_box() -> None:
    tiling = Tiling(overlap=0.25)  # tiles at 0 and 24 of 56
    seen_twice = boxed([(25, 4, 30, 9, 0.8, 1)], [(1, 4, 6, 9, 0.9, 1)])
    assert regions(seen_twice, (32, 56), tiling) == [((25, 4, 30, 9), 0.9, "a")]
    other_kind = boxed([(25, 4, 30, 9, 0.8, 1)], [(1, 4, 6, 9, 0.9, 2)])
    assert len(regions(other_kind, (32, 56), tiling)) == 2
    apart = boxed([(25, 4, 30, 9, 0.8, 1)], [(1, 14, 6, 19, 0.9, 1)])
    assert len(regions(apart, (32, 56), tiling)) == 2
    one_tile = boxed([(4, 4, 9, 9, 0.8, 1), (4, 4, 9, 9, 0.7, 1)], [])
    assert len(regions(one_tile, (32, 56), tiling)) == 2  # the model's own affair


def test_a_box_cut_by_a_tile_yields_to_the_whole_one_and_leaves_its_score() -> None:
    found = boxed([(26, 4, 32, 12, 0.95, 1)], [(2, 4, 20, 12, 0.6, 1)])
    assert regions(found, (32, 56), Tiling(overlap=0.25)) == [((26, 4, 44, 12), 0.95, "a")]


def test_boxes_in_the_reflection_alone_are_dropped_and_others_end_at_the_edge() -> None:
    found = boxed([(4, 4, 12, 30, 0.9, 1), (4, 22, 12, 30, 0.8, 1)])
    assert regions(found, (20, 32), Tiling()) == [((4, 4, 12, 20), 0.9, "a")]


def test_many_boxes_cost_bounded_time_and_keep_the_best() -> None:
    grid = plan((32, 56), (32, 32), Tiling(overlap=0.25))
    count = 60_000
    corners = RNG.uniform(0, 24, (count, 2))
    boxes = np.concatenate([corners, corners + 1e-3], 1).astype(np.float32)
    scores = RNG.uniform(0.1, 0.9, count).astype(np.float32)
    found = merge_boxes([(boxes, scores, np.ones(count, np.int64), 0)], grid)
    assert found[0].shape == (1, 1000, 4)
    np.testing.assert_allclose(found[1][0], np.sort(scores)[::-1][:1000])


def test_small_regions_are_measured_against_a_tile() -> None:
    maps = np.zeros((16, 32, 32))
    maps[5, 4:8, 4:8] = 1.0
    row = merged(outputs(maps, [0.9] * 16), (128, 128), (32, 32), Tiling(overlap=0))
    for least, count in ((16 / 1024, 1), (17 / 1024, 0)):
        policy = Policy(threshold=0.5, min_region_area=least)
        card = tiny_card(tiling=Tiling(overlap=0), policy=policy)
        found = decide(row, card, [(128, 128)])[0]
        assert len(found.regions) == count
        assert count == 0 or found.regions[0].box == (36, 36, 40, 40)
