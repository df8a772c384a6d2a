"""Small defects on large pictures, with a model that was taught and not made by hand."""

from pathlib import Path

import numpy as np
import pytest

from twonines.benchmarks.large import Looks, add_spot, brushed_metal, run_large, to_image


def test_a_spot_is_as_large_and_as_dark_as_was_asked() -> None:
    rng = np.random.default_rng(0)
    surface = np.full((64, 96), 150, np.float32)
    (y, x), cover = add_spot(surface, Looks(6, 60), rng)
    rows, columns = np.nonzero(cover >= 0.5)
    assert np.ptp(rows) + 1 in (6, 7) and np.ptp(columns) + 1 in (6, 7)
    assert (rows.min() + rows.max()) / 2 == y and (columns.min() + columns.max()) / 2 == x
    assert surface.min() == 90 and (surface[cover == 0] == 150).all()


def test_metal_differs_and_is_a_picture() -> None:
    rng = np.random.default_rng(0)
    one, other = (to_image(brushed_metal((80, 120), rng)) for _ in range(2))
    assert one.shape == (80, 120, 3) and one.dtype == np.uint8
    assert not np.array_equal(one, other) and 80 < one.mean() < 190
    # Streaks: neighbours in a row are more alike than neighbours in a column.
    grey = one[:, :, 0].astype(float)
    assert np.abs(np.diff(grey, axis=1)).mean() < np.abs(np.diff(grey, axis=0)).mean()


def test_a_taught_model_finds_spots_in_tiles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twonines.training.pixels.STEPS", 200)
    found = run_large(4, 3, 352, 60, Looks(), seed=0, cache=cache, tile=128)
    assert found["tiles"] == 16
    assert found["threshold"] > found["highest_good_held_out"]
    assert found["recall"]["n"] == found["overkill"]["n"] == 4
    assert found["recall_at_the_spot"]["k"] >= 3, found
    assert found["overkill"]["k"] <= 1, found
