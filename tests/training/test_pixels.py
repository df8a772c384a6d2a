"""Fitting the map: what is sampled, what teaches, and what is found among the unknown."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from twonines.models.maps import MapHead, MapWeights
from twonines.training import pixels
from twonines.training.marks import UNKNOWN, Marks
from twonines.training.pixels import Samples, fit_map, join_samples, sample_places
from twonines.types import FloatArray

GRID = (32, 32)


@pytest.fixture(autouse=True)
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "STEPS", 120)


def levels_of(seed: int) -> tuple[list[FloatArray], npt.NDArray[np.bool_]]:
    """Two levels of noise; a defect of 6 by 6 places moves the first channel."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(size=(4, *GRID)).astype(np.float32)
    truth = np.zeros(GRID, bool)
    y, x = rng.integers(0, 26, 2)
    truth[y : y + 6, x : x + 6] = True
    fine[0, truth] += 5
    return [fine, rng.normal(size=(3, 16, 16)).astype(np.float32)], truth.ravel()


def marks_of(cover: npt.NDArray[Any], kind: int = 0, expected: float = 0.0) -> Marks:
    return Marks(cover.astype(np.float32), np.full(cover.size, kind, np.int64), expected)


def answers(weights: MapWeights, levels: list[FloatArray]) -> FloatArray:
    with torch.inference_mode():
        logits = MapHead(weights)(*(torch.from_numpy(level)[None] for level in levels))[0]
    found: FloatArray = logits.numpy().ravel()
    return found


def test_every_group_is_drawn_up_to_its_share() -> None:
    levels, truth = levels_of(0)
    found = sample_places(levels, marks_of(truth), 7, np.random.default_rng(0))
    assert found.values.shape == (36 + pixels.NEAR + pixels.FAR, 7)
    assert (found.cover == 1).sum() == 36 and (found.bag == UNKNOWN).all()
    assert len(np.unique(found.values, axis=0)) == len(found.values)  # none twice
    again = sample_places(levels, marks_of(truth), 7, np.random.default_rng(0))
    assert np.array_equal(found.values, again.values)


def test_samples_are_the_values_of_their_places() -> None:
    levels = [np.arange(64, dtype=np.float32).reshape(1, 8, 8), np.full((1, 4, 4), 3, np.float32)]
    cover = np.arange(64) / 64
    found = sample_places(levels, marks_of(cover), 0, np.random.default_rng(0))
    assert np.allclose(found.values[:, 0] / 64, found.cover) and (found.values[:, 1] == 3).all()


def test_unknown_places_are_a_bag_of_the_picture() -> None:
    levels, _ = levels_of(0)
    cover = np.zeros(1024)
    cover[:40] = np.nan
    found = sample_places(levels, marks_of(cover, expected=0.6), 3, np.random.default_rng(0))
    unknown = np.isnan(found.cover)
    assert unknown.sum() == 40
    assert (found.bag[unknown] == 3).all() and (found.bag[~unknown] == UNKNOWN).all()
    assert np.allclose(found.expected[unknown], 0.6) and (found.expected[~unknown] == 0).all()
    whole = marks_of(np.full(1024, np.nan), expected=0.05)
    assert len(sample_places(levels, whole, 3, np.random.default_rng(0)).bag) == pixels.BAG


def test_known_places_teach_the_map_and_seeds_repeat() -> None:
    rng = np.random.default_rng(0)
    parts = [
        sample_places(lv, marks_of(t), i, rng) for i, (lv, t) in enumerate(map(levels_of, range(8)))
    ]
    weights = fit_map(join_samples(parts), (1,), 0)
    levels, truth = levels_of(99)
    said = answers(weights, levels)
    assert said[truth].min() > said[~truth].mean() and (said[truth] > 0).mean() > 0.9
    assert (said[~truth] > 0).mean() < 0.03
    again = fit_map(join_samples(parts), (1,), 0)
    assert np.array_equal(again.project, weights.project)
    assert not np.array_equal(fit_map(join_samples(parts), (1,), 1).project, weights.project)


@pytest.mark.parametrize("boxed", [False, True])
def test_the_defect_is_found_among_the_unknown(boxed: bool) -> None:
    """Boxes alone, twice as large as the defect; or four masks and twelve labels."""
    rng, parts = np.random.default_rng(0), []
    for i in range(16):
        levels, truth = levels_of(i)
        if boxed:
            wide = ndimage.binary_dilation(truth.reshape(GRID), np.ones((3, 3))).ravel()
            marks = marks_of(np.where(wide, np.nan, 0), expected=0.6)
        elif i < 4:
            marks = marks_of(truth)
        else:
            marks = marks_of(np.full(1024, np.nan), expected=0.035)
        parts.append(sample_places(levels, marks, i, rng))
    levels, truth = levels_of(99)
    said = answers(fit_map(join_samples(parts), (1,), 0), levels)
    assert (said[truth] > 0).mean() > 0.8 and (said[~truth] > 0).mean() < 0.05


def test_quiet_places_of_a_bag_never_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[FloatArray] = []
    fit = pixels._fit

    def spy(places: torch.Tensor, cover: torch.Tensor, *rest: object) -> torch.nn.Sequential:
        asked.append(cover.numpy())
        return fit(places, cover, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pixels, "_fit", spy)
    levels, truth = levels_of(0)
    cover = truth.astype(np.float32)
    first = sample_places(levels, marks_of(cover), 0, np.random.default_rng(0))
    other, _ = levels_of(1)
    bag = marks_of(np.full(1024, np.nan), expected=0.1)
    second = sample_places(other, bag, 1, np.random.default_rng(0))
    fit_map(join_samples([first, second]), (1,), 0)
    assert len(asked) == pixels.ROUNDS and not any(np.isnan(c).any() for c in asked)
    told = len(first.cover)
    assert [len(c) for c in asked] == [told, told + 26, told + 26]  # a tenth of 256
    assert asked[1].sum() == asked[0].sum() + 26


def test_kinds_are_told_apart_and_unknown_kinds_do_not_teach() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 4)).astype(np.float32)
    kind = np.repeat([0, 1, UNKNOWN], 200)
    values[kind == 0, 0] += 5
    values[kind == 1, 1] += 5
    cover = (kind != UNKNOWN).astype(np.float32)
    none, zero = np.full(600, UNKNOWN), np.zeros(600, np.float32)
    weights = fit_map(Samples(values, cover, kind, none, zero), (2, 5), 0)
    levels = torch.from_numpy(values.T.copy()).reshape(1, 4, 20, 30)
    with torch.inference_mode():
        _, classes = MapHead(weights)(levels)
    found = classes.numpy().ravel()
    assert (found[kind == 0] == 2).mean() > 0.95 and (found[kind == 1] == 5).mean() > 0.95
