from pathlib import Path

import numpy as np
import pytest

from twonines.datasets.record import Record
from twonines.training.places import QUIET_SHARE, choose_records, fit_places
from twonines.types import FloatArray


def pictures(seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Forty pictures of 36 places; in the second half three places carry the defect."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(40, 36, 8)).astype(np.float32)
    truth = np.zeros((40, 36), np.float32)
    for index in range(20, 40):
        where = rng.choice(36, 3, replace=False)
        places[index, where, :2] += 4
        truth[index, where] = 1
    return places, truth


def test_the_map_finds_what_only_whole_pictures_were_labelled_with() -> None:
    places, _ = pictures()
    weights, bias = fit_places(places, np.repeat([0, 1], 20), 2, has_good=True)
    fresh, truth = pictures(1)
    said = (fresh @ weights + bias)[:, :, 0] > 0
    assert said[truth == 1].mean() > 0.85
    assert said[truth == 0].mean() < 0.02


def test_quiet_places_stay_quiet() -> None:
    places, _ = pictures()
    weights, bias = fit_places(places, np.repeat([0, 1], 20), 2, has_good=True)
    quiet = (places[:20] @ weights + bias) > 0
    assert quiet.mean() <= 1 - QUIET_SHARE + 0.003


def test_typing_has_a_head_a_class() -> None:
    places, _ = pictures()
    weights, bias = fit_places(places, np.repeat([0, 1], 20), 2, has_good=False)
    assert weights.shape == (8, 2) and bias.shape == (2,)


def test_same_input_same_map_and_missing_side_is_quiet() -> None:
    places, _ = pictures()
    labels = np.repeat([0, 1], 20)
    first = fit_places(places, labels, 2, has_good=True)
    assert np.array_equal(first[0], fit_places(places, labels, 2, has_good=True)[0])
    weights, bias = fit_places(places, np.zeros(40, np.int64), 2, has_good=True)
    assert (places @ weights + bias).max() == pytest.approx(-4.0)


def test_choice_is_balanced_and_seeded() -> None:
    records = [Record(Path(f"{i}.png"), "good" if i % 4 else "bad") for i in range(2000)]
    chosen = choose_records(records, ("good", "bad"), 0)
    assert [sum(label == k for _, label in chosen) for k in (0, 1)] == [160, 160]
    again = choose_records(records, ("good", "bad"), 0)
    assert [r.path for r, _ in chosen] == [r.path for r, _ in again]
