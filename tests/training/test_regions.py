"""What of a map is listed, chosen on maps made by hand."""

import numpy as np
import pytest

from twonines.training.regions import MARKED, SMALLEST_AREAS, THRESHOLDS, choose_regions
from twonines.types import FloatArray


def picture(*, specks: int = 0, marked: bool = True) -> tuple[FloatArray, FloatArray]:
    """100 by 100: a mark of 400 places at 0.7 with a rim at 0.4, and single loud places."""
    values, mask = np.full((100, 100), 0.1, np.float32), np.zeros((100, 100), np.float32)
    if marked:
        values[8:32, 8:32] = 0.4
        values[10:30, 10:30] = 0.7
        mask[10:30, 10:30] = 1
    for k in range(specks):
        values[60, 4 * k] = 0.9
    return values, mask


def test_the_threshold_cuts_out_the_mark() -> None:
    found = choose_regions([picture(), picture(marked=False)])
    assert found is not None
    assert 0.4 < found.threshold <= 0.7
    assert (found.iou, found.f1, found.masks, found.min_area) == (1.0, 1.0, 1, 0.0)


def test_the_best_overlap_wins_over_half() -> None:
    values, mask = picture()
    # Below a half all of the mark is found: its 256 quiet places weigh more than the rim's 176.
    values[12:28, 12:28] = 0.4
    found = choose_regions([(values, mask)])
    assert found is not None and 0.1 < found.threshold <= 0.4
    assert found.iou == pytest.approx(400 / 576)


def test_specks_are_left_out_by_their_area() -> None:
    found = choose_regions([picture(specks=3), picture(specks=3, marked=False)])
    assert found is not None and found.f1 == 1.0
    # One place of 10,000 is as large as the second choice, which therefore keeps it.
    assert found.min_area == SMALLEST_AREAS[2] == 0.0002
    assert found.iou == pytest.approx(400 / 406)


def test_small_marks_stay_listed() -> None:
    values, mask = np.full((100, 100), 0.1, np.float32), np.zeros((100, 100), np.float32)
    values[3, 3], mask[3, 3] = 0.9, 1
    found = choose_regions([(values, mask)])
    assert found is not None and found.min_area == 0.0 and found.f1 == 1.0


def test_a_map_that_sees_nothing_has_no_overlap() -> None:
    _, mask = picture()
    found = choose_regions([(np.zeros((100, 100), np.float32), mask)])
    assert found is not None and found.iou == 0.0 and found.f1 == 0.0


def test_without_marks_there_is_no_choice() -> None:
    assert choose_regions([]) is None
    assert choose_regions([picture(marked=False)]) is None


def test_a_place_counts_by_the_share_that_is_marked() -> None:
    values, cover = np.full((10, 10), 0.1, np.float32), np.zeros((10, 10), np.float32)
    values[2:4, 2:4], cover[2:4, 2:4] = 0.9, 0.5
    found = choose_regions([(values, cover)])
    assert found is not None
    assert found.iou == pytest.approx(2 / 4)  # four places are called, half of their area is marked
    assert found.f1 == 1.0


@pytest.mark.parametrize(("share", "f1"), [(MARKED, 1.0), (MARKED * 0.99, 0.0)])
def test_a_mark_is_one_pixel_of_a_place(share: float, f1: float) -> None:
    values, cover = np.full((10, 10), 0.1, np.float32), np.zeros((10, 10), np.float32)
    values[5, 5], cover[5, 5] = 0.9, share
    found = choose_regions([(values, cover)])
    assert found is not None and found.f1 == f1


def test_the_overlap_is_that_of_every_threshold_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((3, 20, 20)).astype(np.float32)
    values.flat[:49] = THRESHOLDS  # on a threshold is called
    cover = (rng.random((3, 20, 20)) * (values > 0.6)).astype(np.float32)
    found = choose_regions(list(zip(values, cover, strict=True)))
    slow = []
    for threshold in THRESHOLDS:
        called = values >= threshold
        slow.append(cover[called].sum() / (called.sum() + cover[~called].sum()))
    assert found is not None and found.iou == pytest.approx(max(slow), rel=1e-5)
    assert found.threshold == THRESHOLDS[int(np.argmax(slow))]
