"""Which pictures a reduced precision is unsure of."""

from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_card
from twonines.models.card import ClassRule, Policy
from twonines.models.guard import Guard, can_guard
from twonines.models.outputs import Outputs

GUARD = Guard(scores=0.1, novelty=0.5)


def outputs(scores: list[float], classes: list[list[float]] | None = None) -> Outputs:
    score = np.array(scores, np.float32)
    kinds = np.stack([1 - score, score], 1) if classes is None else np.array(classes, np.float32)
    rest = np.zeros_like(score)
    return Outputs(score, kinds, rest[:, None, None], rest)


def unsure(found: Outputs, **changes: Any) -> list[bool]:
    answer: list[bool] = GUARD.find_unsure(found, tiny_card(**changes)).tolist()
    return answer


def test_what_is_near_a_limit_of_the_score_is_unsure() -> None:
    found = outputs([0.0, 0.39, 0.45, 0.5, 0.55, 0.61, 1.0])
    assert unsure(found) == [False, False, True, True, True, False, False]
    band = Policy(threshold=0.9, accept_below=0.2)
    assert unsure(outputs([0.05, 0.15, 0.25, 0.5, 0.85, 0.99]), policy=band) == [
        False, True, True, False, True, True,
    ]  # fmt: skip


def test_what_is_near_a_rule_of_a_class_is_unsure() -> None:
    policy = Policy(threshold=0.9, class_rules={"scratch": ClassRule(review_from=0.3)})
    assert unsure(outputs([0.1, 0.25, 0.35, 0.45]), policy=policy) == [False, True, True, False]


def test_kinds_that_are_close_are_unsure_unless_the_part_is_accepted() -> None:
    found = outputs([0.7, 0.7, 0.3], [[0.3, 0.4, 0.3], [0.3, 0.6, 0.1], [0.7, 0.15, 0.15]])
    assert unsure(found, classes=("good", "scratch", "pit")) == [True, False, False]
    # A model that knows no good parts has kinds alone.
    typed = outputs([1.0, 1.0], [[0.55, 0.45], [0.9, 0.1]])
    assert unsure(typed, classes=("pit", "scratch")) == [True, False]


def test_what_is_near_the_limit_of_novelty_is_unsure() -> None:
    found = outputs([0.0, 0.0, 0.0])
    found.novelty[:] = (1.0, 2.6, 4.0)
    assert unsure(found, policy=Policy(threshold=0.5, novelty_limit=3.0)) == [False, True, False]
    assert unsure(found) == [False] * 3


def test_rejected_parts_are_unsure_where_the_map_decides_too() -> None:
    policy = Policy(threshold=0.5, min_defect_area=0.01)
    assert unsure(outputs([0.1, 0.95]), policy=policy) == [False, True]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["score", "class_scores", "novelty"])
def test_what_is_not_finite_is_unsure(name: str, value: float) -> None:
    found = outputs([0.0, 0.0])
    getattr(found, name)[1] = value
    assert unsure(found, policy=Policy(threshold=0.5, novelty_limit=3.0)) == [False, True]


def test_the_guard_is_twice_the_largest_shift() -> None:
    exact, reduced = outputs([0.1, 0.2]), outputs([0.1, 0.25])
    reduced.novelty[0] = 0.5
    guard = Guard.of(exact, reduced)
    assert guard.scores == pytest.approx(0.1) and guard.novelty == pytest.approx(1.0)


def test_boxes_and_tiles_have_no_guard() -> None:
    assert can_guard(tiny_card()) and not can_guard(tiny_card(task="detect"))


def test_rows_are_taken_and_put_back() -> None:
    found = outputs([0.1, 0.2, 0.3])
    rows = np.array([True, False, True])
    part = found.take(rows)
    assert part.score.tolist() == found.score[[0, 2]].tolist() and part.boxes is None
    part.score[:] = 0.9
    found.put(rows, part)
    assert found.score.tolist() == pytest.approx([0.9, 0.2, 0.9])
