import dataclasses

import numpy as np
import pytest

from tests.conftest import tiny_card
from twonines.models.card import Policy
from twonines.models.decision import decide, find_regions
from twonines.models.outputs import Outputs
from twonines.types import Verdict


def outputs(score: float, novelty: float = 0.0) -> Outputs:
    return Outputs(
        np.array([score], np.float32),
        np.array([[1 - score, score]], np.float32),
        np.zeros((1, 4, 4), np.float32),
        np.array([novelty], np.float32),
    )


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.499, Verdict.OK), (0.5, Verdict.NG), (0.501, Verdict.NG)]
)
def test_threshold_belongs_to_ng(score: float, verdict: Verdict) -> None:
    assert decide(outputs(score), tiny_card(), [(8, 8)])[0].verdict is verdict


def test_novelty_is_review_whatever_the_score() -> None:
    card = tiny_card(policy=Policy(threshold=0.5, novelty_limit=1.0))
    assert decide(outputs(0.0, 1.0), card, [(8, 8)])[0].verdict is Verdict.OK
    for score in (0.0, 1.0):
        found = decide(outputs(score, 1.01), card, [(8, 8)])[0]
        assert found.verdict is Verdict.REVIEW
        assert "novelty" in found.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_errors(value: float) -> None:
    found = outputs(0.0)
    class_scores, defect_map = found.class_scores.copy(), found.defect_map.copy()
    class_scores[0, 1] = defect_map[0, 2, 2] = value
    for broken in (
        outputs(value),
        outputs(0.0, value),
        dataclasses.replace(found, class_scores=class_scores),
        dataclasses.replace(found, defect_map=defect_map),
    ):
        assert decide(broken, tiny_card(), [(8, 8)])[0].verdict is Verdict.ERROR


@pytest.mark.parametrize("score", [-0.01, 1.01, -1e30])
def test_score_outside_its_range_is_an_error(score: float) -> None:
    found = decide(outputs(score), tiny_card(), [(8, 8)])[0]
    assert found.verdict is Verdict.ERROR
    assert "must lie in [0, 1]" in (found.error or "")


def test_typing_model_never_says_ok() -> None:
    card = tiny_card(classes=("crack", "scratch"))
    found = decide(outputs(1.0), card, [(8, 8)])[0]
    assert found.verdict is Verdict.NG
    assert found.defect_class == "scratch"
    found = decide(outputs(0.0), card, [(8, 8)])[0]
    assert found.verdict is Verdict.REVIEW
    assert found.defect_class == "crack"
    assert "no good parts" in found.reasons[0]


def test_regions_in_pixels_of_the_picture() -> None:
    defect_map = np.zeros((4, 4), np.float32)
    defect_map[1:3, 2:4] = 0.8
    defect_map[0, 0] = 0.6
    first, second = find_regions(defect_map, tiny_card(), (40, 80), "scratch")
    assert first.box == (40, 10, 80, 30)
    assert first.area == 800
    assert first.score == pytest.approx(0.8)
    assert second.box == (0, 0, 20, 10)


def test_small_regions_are_left_out() -> None:
    defect_map = np.zeros((4, 4), np.float32)
    defect_map[0, 0] = defect_map[2, 2:] = 1.0

    def areas(least: float) -> list[int]:
        card = tiny_card(policy=Policy(threshold=0.5, min_region_area=least))
        return sorted(r.area for r in find_regions(defect_map, card, (40, 40), "scratch"))

    assert areas(0.0) == areas(1 / 16) == [100, 200]
    assert areas(0.1) == [200]
    assert areas(0.2) == []


def test_shapes_must_match() -> None:
    found = outputs(0.1)
    with pytest.raises(ValueError, match=r"score: must have shape \(0,\), got \(1,\)"):
        decide(found, tiny_card(), [])
    with pytest.raises(ValueError, match=r"class_scores: must have shape \(1, 3\), got \(1, 2\)"):
        decide(found, tiny_card(classes=("good", "a", "b")), [(8, 8)])
    for shape in ((1, 4), (2, 4, 4), (1, 0, 4), (1, 4, 4, 1)):
        bad = dataclasses.replace(found, defect_map=np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match="defect_map: must have shape"):
            decide(bad, tiny_card(), [(8, 8)])


def test_region_is_of_the_kind_that_most_of_it_is() -> None:
    card = tiny_card(classes=("good", "scratch", "dent"))
    defect_map = np.zeros((4, 4), np.float32)
    defect_map[1:3, 0:4] = 0.9
    kinds = np.ones((4, 4), np.int64)
    kinds[1:3, 1:4] = 2
    assert find_regions(defect_map, card, (4, 4), "scratch", kinds)[0].defect_class == "dent"
    assert find_regions(defect_map, card, (4, 4), "scratch")[0].defect_class == "scratch"


def test_map_classes_of_another_shape_or_class_are_refused() -> None:
    wrong = dataclasses.replace(outputs(0.9), map_classes=np.zeros((1, 3, 4), np.int64))
    with pytest.raises(ValueError, match="map_classes: must have shape"):
        decide(wrong, tiny_card(), [(8, 8)])
    wrong = dataclasses.replace(outputs(0.9), map_classes=np.full((1, 4, 4), 2))
    with pytest.raises(ValueError, match=r"map_classes: must lie in \[0, 1\], got 2 to 2"):
        decide(wrong, tiny_card(), [(8, 8)])


def test_a_box_in_a_part_that_would_be_ok_is_for_a_person() -> None:
    card = tiny_card(policy=Policy(threshold=0.5, box_threshold=0.6))
    boxed = dataclasses.replace(
        outputs(0.1),
        boxes=np.array([[[1, 1, 3, 4]]], np.float32),
        box_scores=np.array([[0.7]], np.float32),
        box_classes=np.array([[1]]),
    )
    height, width = card.input_size
    found = decide(boxed, card, [(height, width)])[0]
    assert found.verdict is Verdict.REVIEW and found.defect_class == card.classes[1]
    assert [region.box for region in found.regions] == [(1, 1, 3, 4)]
    assert f"a box of {card.classes[1]} with score 0.7" in found.reasons[0]
    quiet = dataclasses.replace(boxed, box_scores=np.array([[0.59]], np.float32))
    found = decide(quiet, card, [(height, width)])[0]
    assert found.verdict is Verdict.OK and not found.regions and not found.reasons
