from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, jaccard_score

from twonines.benchmarks.localisation import (
    LEVELS,
    Figure,
    aupro,
    pixel_figures,
    tally,
    to_levels,
    to_picture_size,
)

Array = npt.NDArray[Any]


def scene(seed: int, size: tuple[int, int] = (40, 48)) -> tuple[Array, Array]:
    """A smooth map in [0, 1] that follows a mask of a few blobs, and the mask."""
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=size), 3) > 0.12
    noise = ndimage.gaussian_filter(rng.normal(size=size), 1) * 2
    defect_map = 1 / (1 + np.exp(-(3 * mask - 3 + 2 * noise)))
    return defect_map.astype(np.float32), mask


def figures(scenes: list[tuple[Array, Array]], **options: Any) -> dict[str, Any]:
    tallies = [tally(m, mask, threshold=0.5) for m, mask in scenes]
    return pixel_figures(tallies, [str(k) for k in range(len(scenes))], **options)


def test_levels_keep_the_order_and_tell_both_ends_apart() -> None:
    values = np.array([0, 2**-19, 1e-4, 1.001e-2, 0.3, 0.5, 0.501, 0.99, 0.9999, 1], np.float32)
    levels = to_levels(values)
    assert list(levels) == sorted(set(levels.tolist()), reverse=True)
    assert levels.min() == 0 and levels.max() == LEVELS - 1


def test_pixel_average_precision_is_that_of_sklearn() -> None:
    scenes = [scene(seed) for seed in range(4)]
    truth = np.concatenate([mask.ravel() for _, mask in scenes])
    scores = np.concatenate([m.ravel() for m, _ in scenes])
    found = figures(scenes)["pixel_average_precision"]
    assert found.value == pytest.approx(average_precision_score(truth, scores), abs=5e-4)
    assert 0.3 < found.low < found.value < found.high < 1
    assert (found.n, found.oracle) == (4, False)


def slow_aupro(scenes: list[tuple[Array, Array]], limit: float) -> float:
    """Every distinct value as a threshold, every region by itself."""
    regions = []
    for defect_map, mask in scenes:
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [defect_map[labels == k + 1] for k in range(count)]
    good = np.concatenate([m[~mask] for m, mask in scenes])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m, _ in scenes]))[::-1]:
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append((float((good >= threshold).mean()), float(overlap)))
    x, y = np.array(points).T
    inside = x < limit
    x = np.append(x[inside], limit)
    y = np.append(y[inside], np.interp(limit, *np.array(points).T))
    return float(np.trapezoid(y, x) / limit)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_is_that_of_a_slow_second_count(limit: float) -> None:
    scenes = [scene(seed, (20, 24)) for seed in range(3)]
    tallies = [tally(m, mask, threshold=0.5) for m, mask in scenes]
    overlap = np.sum([t.overlap for t in tallies], axis=0)[None]
    good = np.sum([t.good for t in tallies], axis=0)[None]
    regions = np.array([sum(t.regions for t in tallies)])
    value = aupro(overlap, good, regions, limit)[0]
    assert value == pytest.approx(slow_aupro(scenes, limit), abs=5e-4)
    if limit == 0.3:
        assert figures(scenes)["aupro"].value == pytest.approx(value)


def test_aupro_by_hand_counts_a_small_region_like_a_large_one() -> None:
    # A region of 4 pixels found at once, one of a single pixel found after half the good ones.
    mask = np.zeros((2, 7), bool)
    mask[:, :2] = True
    mask[0, 6] = True
    defect_map = np.full((2, 7), 0.1, np.float32)
    defect_map[:, :2] = 0.9
    defect_map[:, 3:5] = 0.5  # 4 of the 9 good pixels
    defect_map[0, 6] = 0.3
    one = tally(defect_map, mask, threshold=0.5)
    assert one.regions == 2
    found = pixel_figures([one], ["a"])
    assert found["aupro"].value == pytest.approx(0.5)  # the curve is flat at 1/2 up to 4/9
    assert np.isnan(found["aupro"].low)  # one picture has no spread
    # precision 1 for 4 of 5 pixels, 5 of 9 for the last
    assert found["pixel_average_precision"].value == pytest.approx(0.8 + 0.2 * 5 / 9)
    assert found["iou"].value == pytest.approx(4 / 9)
    assert found["best_iou"].value == pytest.approx(4 / 5)
    assert found["best_iou"].oracle


def test_a_wrong_limit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="limit"):
        aupro(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), 0)


def test_iou_of_classes_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(1)
    truths, answers, tallies = [], [], []
    for true_class in (0, 1, 1, 2):
        defect_map, mask = scene(true_class)
        said = rng.integers(0, 3, mask.shape)
        tallies.append(
            tally(defect_map, mask, threshold=0.4, classes=4, true_class=true_class,
                  said_class=said)
        )  # fmt: skip
        truths.append(np.where(mask, true_class + 1, 0).ravel())
        answers.append(np.where(defect_map >= 0.4, said + 1, 0).ravel())
    truth, answer = np.concatenate(truths), np.concatenate(answers)
    wanted = jaccard_score(truth, answer, average=None, labels=[0, 1, 2, 3])
    found = pixel_figures(tallies, ["a", "b", "c", "d"], ["w", "x", "y", "z"])
    by_class = {name: figure.value for name, figure in found["class_iou"].items()}
    assert by_class == pytest.approx(dict(zip("wxy", wanted[1:], strict=True)))
    assert found["mean_iou"].value == pytest.approx(wanted[1:].mean())
    assert found["mean_iou_with_background"].value == pytest.approx(wanted.mean())
    assert found["iou"].value == pytest.approx(jaccard_score(truth > 0, answer > 0))


def test_pixels_of_an_unknown_kind_count_as_defective_and_for_no_class() -> None:
    mask = np.eye(4, dtype=bool)
    right = tally(mask.astype(np.float32), mask, threshold=0.5, classes=2, said_class=0)
    unknown = tally(
        mask.astype(np.float32), mask, threshold=0.5, classes=2, true_class=None, said_class=1
    )
    found = pixel_figures([right, unknown], ["a", "b"], ["x", "y"])
    assert found["iou"].value == 1
    assert found["mean_iou"].value == 1
    assert list(found["class_iou"]) == ["x"]


def test_classes_of_places_are_taken_from_the_nearest() -> None:
    said = np.array([[0, 1]])
    mask = np.ones((2, 4), bool)
    one = tally(np.ones((1, 2), np.float32), mask, threshold=0.5, classes=2, said_class=said)
    assert one.confusion.tolist() == [[0, 0, 0], [0, 4, 4], [0, 0, 0], [0, 0, 0]]


def test_a_map_of_another_size_is_brought_to_the_picture() -> None:
    small = np.array([[0, 1]], np.float32)
    large = to_picture_size(small, (3, 8))
    assert large.shape == (3, 8)
    assert large[0].tolist() == pytest.approx([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])


def test_the_interval_follows_groups_not_pictures() -> None:
    scenes = [scene(seed) for seed in range(6)] * 4
    tallies = [tally(m, mask, threshold=0.5) for m, mask in scenes]
    apart = pixel_figures(tallies, [str(k) for k in range(24)])["aupro"]
    grouped = pixel_figures(tallies, [str(k % 6) for k in range(24)])["aupro"]
    assert apart.value == pytest.approx(grouped.value)
    assert grouped.high - grouped.low > 1.5 * (apart.high - apart.low)


def test_pictures_without_a_mark_alone_give_nothing() -> None:
    empty = np.zeros((4, 4), bool)
    assert figures([(np.zeros((4, 4), np.float32), empty)]) == {}


def test_figures_are_the_same_for_the_same_seed() -> None:
    scenes = [scene(seed) for seed in range(3)]
    assert figures(scenes, seed=3) == figures(scenes, seed=3)
    assert isinstance(figures(scenes)["iou"], Figure)


def test_places_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.array([[True, False], [False, True]])
    assert tally(np.zeros((2, 2), np.float32), mask, threshold=0.5).regions == 1
