import numpy as np
import pytest

from twonines.models.align import find_shift, shift
from twonines.types import Image


def board(side: int = 160, seed: int = 0) -> Image:
    """Tracks and pads as on a bare board: white on black, with soft edges."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side), np.uint8)
    for _ in range(40):
        top, left = rng.integers(0, side, 2)
        height, width = rng.permutation([rng.integers(3, 8), rng.integers(10, side // 2)])
        image[top : top + height, left : left + width] = 230
    return np.repeat(image[:, :, None], 3, 2)


def moved(image: Image, down: int, right: int) -> Image:
    """Move with new content at the edges, as a camera sees it."""
    wide = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    return wide[20 - down : 20 - down + height, 20 - right : 20 - right + width]


@pytest.mark.parametrize("noise", [0, 25])
@pytest.mark.parametrize("by", [(0, 0), (3, 0), (0, -4), (-5, 6), (6, 6), (-6, -6)])
def test_a_shift_is_found_and_undone(by: tuple[int, int], noise: int) -> None:
    reference = board()
    picture = moved(reference, *by).astype(float) * 0.8 + 10  # another exposure
    picture[60:70, 90:100] = 250  # and a defect
    picture += np.random.default_rng(1).normal(0, noise, picture.shape)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    assert find_shift(image, reference) == by
    back = shift(reference, *by)
    inner = (slice(10, -10), slice(10, -10))
    assert (back[inner] == moved(reference, *by)[inner]).all()


def test_other_parts_flat_pictures_and_far_shifts_stay_as_they_are() -> None:
    reference = board()
    for seed in range(1, 6):
        assert find_shift(board(seed=seed), reference) == (0, 0)
    flat = np.full_like(reference, 90)
    assert find_shift(flat, reference) == find_shift(reference, flat) == (0, 0)
    assert find_shift(flat, flat) == (0, 0)
    far = find_shift(moved(reference, 0, 12), reference)  # 7.5 % of the side
    assert max(map(abs, far)) <= 6
    assert find_shift(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)) == (0, 0)


def test_large_pictures_are_aligned_in_steps() -> None:
    reference = np.repeat(np.repeat(board(400), 4, 0), 4, 1)  # 1,600 a side: steps of 2
    image = np.roll(reference, (24, -16), (0, 1))
    assert find_shift(image, reference) == (24, -16)


def test_what_comes_in_repeats_the_edge_and_no_shift_copies_nothing() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert shift(image, 0, 0) is image
    assert (shift(image, 1, 0) == image[[0, 0]]).all()
    assert (shift(image, 0, -1) == image[:, [1, 1]]).all()
