from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twonines.benchmarks.detection import (
    COCO_IOU,
    DEEP_PCB_IOU,
    Boxes,
    _average_precisions,
    _evaluate,
    detection_figures,
)

Array = npt.NDArray[Any]


def boxes(
    true: list[list[float]], true_kinds: list[int], found: list[list[float]],
    scores: list[float], kinds: list[int],
) -> Boxes:  # fmt: skip
    return Boxes(
        np.array(true, float).reshape(-1, 4), np.array(true_kinds, int),
        np.array(found, float).reshape(-1, 4), np.array(scores, float), np.array(kinds, int),
    )  # fmt: skip


def random_pictures(seed: int, count: int = 12) -> list[Boxes]:
    """Marked boxes, found ones near them, and some that find nothing; scores tie."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        marked = rng.integers(0, 5)
        corner = rng.uniform(0, 200, (marked, 2))
        true = np.concatenate([corner, corner + rng.uniform(15, 40, (marked, 2))], axis=1)
        kinds = rng.integers(0, 2, marked)
        near = true + rng.normal(0, 4, true.shape)
        stray = rng.uniform(0, 200, (2, 2))
        found = np.concatenate([near, np.concatenate([stray, stray + 20], axis=1)])
        said = np.concatenate([kinds, rng.integers(0, 2, 2)])
        pictures.append(Boxes(true, kinds, found, rng.uniform(0, 1, len(found)).round(1), said))
    return pictures


def iou(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return float(inside / (sum(areas) - inside))


def slow_matches(
    pictures: list[Boxes], kind: int, at: float
) -> tuple[list[tuple[float, bool]], int]:
    """Score and hit of every found box of a kind, and the number of marked ones."""
    rows, marked = [], 0
    for one in pictures:
        free = [box for box, k in zip(one.true, one.true_kinds, strict=True) if k == kind]
        marked += len(free)
        for k in np.argsort(-one.scores, kind="stable"):
            if one.kinds[k] != kind:
                continue
            best = max(range(len(free)), key=lambda j: iou(one.found[k], free[j]), default=None)
            hit = best is not None and iou(one.found[k], free[best]) >= at
            if hit and best is not None:
                free.pop(best)
            rows.append((float(one.scores[k]), hit))
    return rows, marked


def slow_ap(pictures: list[Boxes], kind: int, at: float) -> float:
    rows, marked = slow_matches(pictures, kind, at)
    hits = [hit for _, hit in sorted(rows, key=lambda row: -row[0])]
    points = [(sum(hits[: n + 1]) / marked, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    levels = [
        max([p for r, p in points if r >= level], default=0.0) for level in np.linspace(0, 1, 101)
    ]
    return float(np.mean(levels))


def test_coco_figures_are_those_of_a_slow_second_count() -> None:
    pictures = random_pictures(0)
    found = detection_figures(pictures, [str(k) for k in range(12)], ["a", "b"], repeats=50)
    wanted = {at: np.mean([slow_ap(pictures, kind, at) for kind in (0, 1)]) for at in
              (DEEP_PCB_IOU, *COCO_IOU)}  # fmt: skip
    assert found["map_33"].value == pytest.approx(wanted[0.33])
    assert found["map_50"].value == pytest.approx(wanted[0.5])
    assert found["map_50_95"].value == pytest.approx(np.mean([wanted[at] for at in COCO_IOU]))
    assert 0 < found["map_50"].low < found["map_50"].value < found["map_50"].high < 1
    assert found["map_50"].n == 12
    assert found["map_50"].instances == sum(len(one.true) for one in pictures)
    assert set(found["class_ap_50"]) == {"a", "b"}


def test_the_bootstrap_counts_as_the_evaluator_does() -> None:
    pictures = random_pictures(1)
    values, matches = _evaluate(pictures, 2, COCO_IOU)
    ours = [_average_precisions(one, np.ones((1, 12)))[0] for one in matches]
    assert np.stack(ours, axis=1) == pytest.approx(values)
    # A picture of weight 2 is a picture that is there twice.
    weights = np.ones((1, 12))
    weights[0, 3] = 2
    twice, _ = _evaluate([*pictures, pictures[3]], 2, COCO_IOU)
    ours = [_average_precisions(one, weights)[0] for one in matches]
    assert np.stack(ours, axis=1) == pytest.approx(twice, abs=0.03)  # ties stand otherwise


def test_f_at_the_threshold_and_the_best_are_counted_by_hand() -> None:
    pictures = random_pictures(2)
    names = [str(k) for k in range(12)]
    rows: list[tuple[float, bool]] = []
    marked = 0
    for kind in (0, 1):
        some, count = slow_matches(pictures, kind, DEEP_PCB_IOU)
        rows, marked = rows + some, marked + count

    def f(threshold: float) -> float:
        called: list[bool] = [hit for score, hit in rows if score >= threshold]
        return float(2 * sum(called) / (len(called) + marked))

    found = detection_figures(pictures, names, ["a", "b"], threshold=0.6, repeats=20)
    assert found["f_33"].value == pytest.approx(f(0.6))
    assert not found["f_33"].oracle
    assert found["best_f_33"].value == pytest.approx(max(f(t) for t in np.linspace(0, 1, 11)))
    assert found["best_f_33"].oracle


def test_by_hand_one_hit_one_miss_one_wrong_kind() -> None:
    pictures = [
        boxes([[0, 0, 10, 10]], [0], [[0, 0, 10, 10], [20, 20, 30, 30]], [0.9, 0.8], [0, 0]),
        boxes([[0, 0, 10, 10]], [1], [[0, 0, 10, 10]], [0.9], [0]),
    ]
    found = detection_figures(pictures, ["a", "b"], ["x", "y", "z"], repeats=20)
    # The false 0.9 stands level with the hit, after it: precision 1 at recall 1.
    assert found["class_ap_50"]["x"].value == pytest.approx(1)
    assert found["class_ap_50"]["y"].value == 0
    assert found["map_50"].value == pytest.approx(0.5)  # z is not marked and does not count
    assert found["f_33"].value == pytest.approx(2 * 1 / (3 + 2))


def test_no_box_found_is_zero_and_no_box_marked_is_nothing() -> None:
    blank = boxes([[0, 0, 10, 10]], [0], [], [], [])
    found = detection_figures([blank, blank], ["a", "b"], ["x"], repeats=10)
    assert {found[name].value for name in ("map_50", "map_50_95", "f_33", "best_f_33")} == {0}
    stray = boxes([], [], [[0, 0, 5, 5]], [0.9], [0])
    assert detection_figures([stray], ["a"], ["x"]) == {}
