import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from tests.certified import make_certificate
from tests.conftest import tiny_card
from twonines.models.card import ClassRule, ModelCard, Policy
from twonines.models.decision import decide, grade
from twonines.models.outputs import Outputs
from twonines.models.quality import QualityLimits
from twonines.types import Verdict

STRICT = {Verdict.OK: 0, Verdict.REVIEW: 1, Verdict.NG: 2}


def outputs(score: float, peak: float = 0.0) -> Outputs:
    defect_map = np.zeros((1, 4, 4), np.float32)
    defect_map[0, 0, 0] = peak
    return Outputs(
        np.array([score], np.float32),
        np.array([[1 - score, score]], np.float32),
        defect_map,
        np.zeros(1, np.float32),
    )


def two_thresholds(**changes: object) -> ModelCard:
    return tiny_card(policy=Policy.model_validate(
        {"threshold": 0.75, "accept_below": 0.25, **changes}
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (0.0, Verdict.OK), (0.2499, Verdict.OK), (0.25, Verdict.REVIEW), (0.5, Verdict.REVIEW),
        (0.7499, Verdict.REVIEW), (0.75, Verdict.NG), (1.0, Verdict.NG),
    ],
)  # fmt: skip
def test_edges_of_both_thresholds(score: float, verdict: Verdict) -> None:
    found = decide(outputs(score), two_thresholds(), [(8, 8)])[0]
    assert found.verdict is verdict
    assert bool(found.reasons) is (verdict is Verdict.REVIEW)
    assert found.certificate is None


def test_nothing_is_accepted_below_zero() -> None:
    card = two_thresholds(accept_below=0.0)
    assert decide(outputs(0.0), card, [(8, 8)])[0].verdict is Verdict.REVIEW


def test_verdicts_grow_stricter_with_the_score() -> None:
    rule = {"class_rules": {"scratch": ClassRule(review_from=0.1, reject_from=0.6).model_dump()}}
    for card in (tiny_card(), two_thresholds(), two_thresholds(**rule)):
        graded = [
            STRICT[grade(s, np.array([1 - s, s], np.float32), card)[0]]
            for s in np.linspace(0, 1, 101)
        ]
        assert graded == sorted(graded) and graded[0] == 0 and graded[-1] == 2


def test_accept_below_must_not_pass_the_threshold() -> None:
    with pytest.raises(ValidationError, match="accept_below: must be at most threshold 0.5"):
        Policy(threshold=0.5, accept_below=0.6)
    with pytest.raises(ValidationError):
        Policy(threshold=0.5, accept_below=float("nan"))


def test_never_pass_a_crack() -> None:
    rules = {"crack": ClassRule(review_from=0.05, reject_from=0.3)}
    card = tiny_card(
        classes=("good", "crack", "dent"), policy=Policy(threshold=0.5, class_rules=rules)
    )
    for crack, verdict in (
        (0.0499, Verdict.OK), (0.06, Verdict.REVIEW), (0.29, Verdict.REVIEW), (0.31, Verdict.NG),
    ):  # fmt: skip
        said, reasons = grade(0.4, np.array([0.6, crack, 0.4 - crack], np.float32), card)
        assert said is verdict
        assert (verdict is Verdict.OK) is (not reasons)
    # a rule never makes a verdict milder
    assert grade(0.9, np.array([0.1, 0.06, 0.84], np.float32), card)[0] is Verdict.NG


@pytest.mark.parametrize("name", ["good", "unknown"])
def test_rules_must_name_a_kind_of_defect(name: str) -> None:
    with pytest.raises(ValidationError, match="class_rules: must name kinds of defect"):
        tiny_card(policy=Policy(threshold=0.5, class_rules={name: ClassRule(review_from=0.1)}))


def test_a_small_defect_goes_to_a_person_and_never_to_ok() -> None:
    card = tiny_card(policy=Policy(threshold=0.5, min_defect_area=1 / 16))
    assert decide(outputs(0.9, 0.9), card, [(8, 8)])[0].verdict is Verdict.NG
    card = tiny_card(policy=Policy(threshold=0.5, min_defect_area=1 / 15))
    found = decide(outputs(0.9, 0.9), card, [(8, 8)])[0]
    assert found.verdict is Verdict.REVIEW and "the largest has 4" in found.reasons[0]


def test_void_or_unchecked_certificates_take_ok_away_and_nothing_else() -> None:
    card = two_thresholds()
    card = card.model_copy(update={"certificate": make_certificate(card)})
    for score, valid in ((0.1, Verdict.OK), (0.5, Verdict.REVIEW), (0.9, Verdict.NG)):
        held = decide(outputs(score), card, [(8, 8)], fault=None)[0]
        assert held.verdict is valid
        assert card.certificate and held.certificate == card.certificate.digest
        for void in (
            decide(outputs(score), card, [(8, 8)], fault="the graph changed")[0],
            decide(outputs(score), card, [(8, 8)])[0],
        ):
            assert void.certificate is None
            assert void.verdict is (Verdict.REVIEW if valid is Verdict.OK else valid)
    assert "the graph changed" in decide(
        outputs(0.1), card, [(8, 8)], fault="the graph changed"
    )[0].reasons[0]  # fmt: skip


def test_a_faulty_picture_is_review_whatever_the_score() -> None:
    card = tiny_card(quality=QualityLimits(n=9, limits={"contrast": (5.0, 50.0)}))
    for score in (0.1, 0.9):
        found = decide(outputs(score), card, [(8, 8)], qualities=[{"contrast": 1.0}])[0]
        assert found.verdict is Verdict.REVIEW and "blank" in found.reasons[0]
    for quality in ({}, {"contrast": float("nan")}):
        found = decide(outputs(0.1), card, [(8, 8)], qualities=[quality])[0]
        assert found.verdict is Verdict.REVIEW
    found = decide(outputs(0.1), card, [(8, 8)], qualities=[{"contrast": 5.0}])[0]
    assert found.verdict is Verdict.OK and found.quality == {"contrast": 5.0}
    with pytest.raises(ValueError, match="qualities: must be of 1 pictures, got 0"):
        decide(outputs(0.1), card, [(8, 8)], qualities=[])


def test_nan_is_an_error_under_any_policy() -> None:
    broken = dataclasses.replace(outputs(0.1), novelty=np.array([np.nan], np.float32))
    found = decide(broken, two_thresholds(), [(8, 8)], fault=None)[0]
    assert found.verdict is Verdict.ERROR and found.certificate is None
