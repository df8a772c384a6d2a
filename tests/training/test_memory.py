from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from twonines.errors import DatasetError
from twonines.models.patches import PatchWeights, top_count
from twonines.training import memory
from twonines.types import FloatArray


def cloud(count: int = 300, width: int = 6, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def slow_k_center(points: FloatArray, count: int, first: int) -> list[int]:
    """Gonzalez' algorithm word by word, in float64 and without the expanded square."""
    distance = pairwise_distances(points.astype(np.float64))
    chosen = [first]
    while len(chosen) < count:
        nearest = distance[:, chosen].min(1)
        chosen.append(int(nearest.argmax()))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_k_center_equals_the_slow_one(seed: int) -> None:
    points = cloud(seed=seed)
    chosen = memory.k_center(points, 40, seed=seed)
    assert chosen.tolist() == slow_k_center(points, 40, int(chosen[0]))


def test_k_center_in_a_projection_covers_better_than_chance() -> None:
    points = cloud(2000, 200)
    points[:20] += 40 * np.eye(20, 200, dtype=np.float32)  # far from all others
    chosen = memory.k_center(points, 60, seed=0, sketch=64)
    assert set(range(20)) <= set(chosen.tolist())


def test_k_center_chooses_no_point_twice() -> None:
    same = np.ones((50, 4), np.float32)
    assert len(set(memory.k_center(same, 20, seed=0).tolist())) == 20
    assert memory.k_center(cloud(5), 20, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_seeds_decide() -> None:
    points = cloud()
    first = memory.k_center(points, 20, seed=1)
    assert np.array_equal(first, memory.k_center(points, 20, seed=1))
    assert not np.array_equal(first, memory.k_center(points, 20, seed=2))


def test_every_picture_gives_as_many_patches() -> None:
    batches = [np.full((n, 3, 3, 2), i, np.float32) for i, n in enumerate((4, 4, 2))]
    sample = memory.sample_patches(iter(batches), 10, seed=0, sample=25)
    assert len(sample) == 30
    assert np.unique(sample[:, 0], return_counts=True)[1].tolist() == [12, 12, 6]
    assert len(memory.sample_patches(iter(batches), 10, seed=0, sample=1)) == 10
    assert len(memory.sample_patches(iter(batches), 10, seed=0, sample=10**6)) == 90


def test_whitened_patches_have_unit_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SHRINKAGE", 0.0)
    mixed = cloud(5000) @ np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32) + 3
    white = memory.whitened(memory.fit_memory(mixed, seed=0), mixed)
    covariance = np.cov(white.T, bias=True) * 6
    assert np.allclose(covariance, np.eye(6), atol=1e-2)


def test_a_channel_that_never_varied_is_finite() -> None:
    flat = cloud()
    flat[:, 2] = 5
    weights = memory.fit_memory(flat, seed=0, memory=20)
    assert np.isfinite(weights.whiten).all() and np.isfinite(weights.memory).all()


def test_distances_equal_the_slow_ones() -> None:
    patches = cloud(400, 8).reshape(4, 10, 10, 8)
    weights = memory.fit_memory(cloud(500, 8, seed=1), seed=0, memory=30)
    expected = []
    for picture in patches:
        white = memory.whitened(weights, picture.reshape(-1, 8))
        nearest = pairwise_distances(white, weights.memory.astype(np.float32)).min(1)
        expected.append(sorted(nearest)[-top_count(100) :])
    found = memory.picture_distances(weights, patches)
    assert np.allclose(found, np.mean(expected, axis=1), atol=1e-5)


def test_one_place_in_twenty_and_three_at_least() -> None:
    assert [top_count(n) for n in (1, 2, 4, 60, 196, 400)] == [1, 2, 3, 3, 10, 20]


def test_limit_by_hand() -> None:
    distances = np.arange(1.0, 100.0)  # 99 pictures: 1 % is just shown
    found = memory.find_limit(distances, 0.01)
    assert found.limit == pytest.approx(99 * 1.001)
    assert found.expected_overkill == pytest.approx(0.01)
    half = memory.find_limit(distances, 0.10)
    assert half.limit == pytest.approx(90.5)
    assert half.expected_overkill == pytest.approx(0.10)


def test_too_few_to_show_the_aim_says_what_they_show() -> None:
    found = memory.find_limit(np.arange(1.0, 20.0), 0.01)
    assert found.limit > 19 and found.expected_overkill == pytest.approx(1 / 20)


def test_the_limit_keeps_its_promise() -> None:
    rng = np.random.default_rng(0)
    over = []
    for _ in range(2000):
        drawn = rng.lognormal(size=40)
        limit = memory.find_limit(drawn[:39], 0.05).limit
        over.append(drawn[39] >= limit)
    assert 0.02 < np.mean(over) < 0.065  # between two pictures it promises a little more


def test_equal_distances_are_all_accepted() -> None:
    found = memory.find_limit(np.full(30, 0.7), 0.05)
    assert found.limit >= 0.7 and found.scale > 0
    assert memory.find_limit(np.zeros(30), 0.05).limit > 0


def test_too_few_good_pictures_are_refused() -> None:
    with pytest.raises(DatasetError, match="at least 10 good pictures .* got 9"):
        memory.find_limit(np.ones(9), 0.01)


def test_weights_carry_the_limit() -> None:
    weights: PatchWeights = memory.fit_memory(cloud(), seed=0, memory=5)
    assert replace(weights, limit=2.0).limit == 2.0 and len(weights.memory) == 5
