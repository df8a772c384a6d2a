"""Which pictures a reduced precision is unsure of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_card
from tests.made_models import write_comparing_model
from twonines.models.card import ClassRule, Policy
from twonines.models.guard import LEAST, Guard, can_guard
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession

GUARD = Guard(logits=0.5, novelty=0.5, most_novel=10.0)
"""At 0.5 a logit of 0.5 is a score from 0.378 to 0.622."""


def outputs(scores: list[float], classes: list[list[float]] | None = None) -> Outputs:
    score = np.array(scores, np.float32)
    kinds = np.stack([1 - score, score], 1) if classes is None else np.array(classes, np.float32)
    rest = np.zeros_like(score)
    return Outputs(score, kinds, rest[:, None, None], rest)


def unsure(found: Outputs, **changes: Any) -> list[bool]:
    answer: list[bool] = GUARD.find_unsure(found, tiny_card(**changes)).tolist()
    return answer


def test_what_is_near_a_limit_of_the_score_is_unsure() -> None:
    found = outputs([0.0, 0.37, 0.38, 0.5, 0.62, 0.63, 1.0])
    assert unsure(found) == [False, False, True, True, True, False, False]
    band = Policy(threshold=0.9, accept_below=0.2)  # 0.132 to 0.292, 0.845 to 0.937
    assert unsure(outputs([0.13, 0.14, 0.29, 0.3, 0.85, 0.94]), policy=band) == [
        False, True, True, False, True, False,
    ]  # fmt: skip


def test_a_margin_from_saturated_scores_holds_near_the_limit() -> None:
    """The same error of the logit is a thousandth of the score here, and a tenth there."""
    exact, reduced = outputs([0.0025, 0.9975]), outputs([0.0035, 0.9965])
    guard = Guard.of(exact, reduced)
    assert guard.find_unsure(outputs([0.45, 0.55]), tiny_card()).all()
    assert not guard.find_unsure(reduced, tiny_card()).any()


def test_scores_that_half_precision_cannot_tell_apart_widen_no_margin() -> None:
    guard = Guard.of(outputs([1e-5, 1 - 1e-5]), outputs([0.0, 1.0]))
    assert guard.logits == LEAST
    assert guard.find_unsure(outputs([0.0, 0.4, 0.6, 1.0]), tiny_card()).tolist() == [
        False, True, True, False,
    ]  # fmt: skip


def test_what_is_near_a_rule_of_a_class_is_unsure() -> None:
    policy = Policy(threshold=0.9, class_rules={"scratch": ClassRule(review_from=0.3)})
    assert unsure(outputs([0.2, 0.21, 0.4, 0.42]), policy=policy) == [False, True, True, False]


def test_kinds_that_are_close_are_unsure_unless_the_part_is_accepted() -> None:
    classes = ("good", "scratch", "pit")
    close, clear, good = [0.3, 0.4, 0.3], [0.3, 0.65, 0.05], [0.7, 0.15, 0.15]
    found = outputs([0.7, 0.7, 0.3], [close, clear, good])
    assert unsure(found, classes=classes) == [True, False, False]
    # A rule or the novelty names the kind of a part that the score would accept.
    ruled = Policy(threshold=0.5, class_rules={"pit": ClassRule(review_from=0.05)})
    assert unsure(found, classes=classes, policy=ruled)[2]
    found.novelty[2] = 9.0
    assert unsure(found, classes=classes, policy=Policy(threshold=0.5, novelty_limit=3.0))[2]
    # A model that knows no good parts has kinds alone, and accepts nothing.
    typed = outputs([0.0, 1.0, 1.0], [[0.55, 0.45], [0.55, 0.45], [0.9, 0.1]])
    assert unsure(typed, classes=("pit", "scratch")) == [True, True, False]


def test_what_is_near_the_limit_of_novelty_is_unsure() -> None:
    found = outputs([0.0, 0.0, 0.0])
    found.novelty[:] = (1.0, 2.6, 4.0)
    assert unsure(found, policy=Policy(threshold=0.5, novelty_limit=3.0)) == [False, True, False]
    assert unsure(found) == [False] * 3


def test_what_is_more_novel_than_anything_measured_is_unsure() -> None:
    found = outputs([0.0, 0.0])
    found.novelty[:] = (9.0, 11.0)
    assert unsure(found) == [False, True]


def test_rejected_parts_are_unsure_where_the_map_decides_too() -> None:
    policy = Policy(threshold=0.5, min_defect_area=0.01)
    assert unsure(outputs([0.1, 0.95]), policy=policy) == [False, True]
    ruled = Policy(threshold=0.95, min_defect_area=0.01,
                   class_rules={"scratch": ClassRule(reject_from=0.5)})  # fmt: skip
    assert unsure(outputs([0.2, 0.7]), policy=ruled) == [False, True]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["score", "class_scores", "novelty", "defect_map"])
def test_what_is_no_proper_output_is_unsure(name: str, value: float) -> None:
    found = outputs([0.0, 0.0])
    getattr(found, name)[1] = value
    assert unsure(found) == [False, True]


def test_the_guard_is_twice_the_largest_shift_and_covers_no_more() -> None:
    def logit(values: list[float]) -> Outputs:
        return outputs(list(1 / (1 + np.exp(-np.array(values)))))

    exact, reduced = logit([-3.0, 1.0]), logit([-3.4, 1.1])
    reduced.novelty[0] = 0.5
    guard = Guard.of(exact, reduced)
    assert guard.logits == pytest.approx(0.8, abs=1e-5)
    assert (guard.novelty, guard.most_novel) == (1.0, 0.5)
    assert guard.covers(logit([0.0]), logit([0.79])) and not guard.covers(
        logit([0.0]), logit([0.81])
    )
    far = logit([0.0])
    far.novelty[:] = 1.1
    assert not guard.covers(logit([0.0]), far)


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


def test_a_comparing_model_runs_again_with_its_references(tmp_path: Path) -> None:
    path = write_comparing_model(tmp_path / "model.onnx", tiny_card(reference=True))
    exact, fast = (InspectionSession.load(path, execution_provider="cpu") for _ in range(2))
    images = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 128, 255)])
    golden = np.zeros_like(images)
    expected = exact.run(images, golden)
    near = Guard(logits=1.0, novelty=0.0, most_novel=1e9)
    unsure = near.find_unsure(expected, fast.card)
    fast.guard_by(exact, near)
    found = fast.run(images, golden)
    assert np.array_equal(found.score, expected.score)
    assert fast.rechecked == unsure.sum() and exact.rechecked == 0
    everything = Guard(logits=1e3, novelty=0.0, most_novel=1e9)
    fast.guard_by(exact, everything)
    assert np.array_equal(fast.run(images, golden).score, expected.score)
    assert fast.rechecked == unsure.sum() + 3
