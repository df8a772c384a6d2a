import numpy as np
import pytest
from scipy import stats

from twonines.models.baseline import CALIBRATION_RISK, learn_cuts
from twonines.models.certificate import WatchCut
from twonines.serving.watch import THRESHOLD, Evidence, Watch, crossed
from twonines.types import Inspection, Verdict


def rows(rng: np.random.Generator, n: int, shift: float = 0.0) -> list[dict[str, float]]:
    return [
        {"novelty": float(x), "score": float(s), "brightness": float(b)}
        for x, s, b in zip(
            rng.normal(shift, 1, n), rng.uniform(0, 0.2, n), rng.normal(100, 10, n), strict=True
        )
    ]


def test_cuts_hold_for_every_mix() -> None:
    rng = np.random.default_rng(0)
    cuts = learn_cuts(rows(rng, 200), rows(rng, 80, shift=3))
    novelty = [cut for cut in cuts if cut.feature == "novelty"]
    assert {cut.feature for cut in cuts} == {"novelty", "brightness", "score"}
    for cut in novelty:
        assert cut.low is not None
        for mean in (0, 3):
            assert stats.norm.sf(cut.low, mean) <= cut.probability
    assert learn_cuts(rows(rng, 5), []) == ()


def test_the_middle_of_the_scores_is_bounded_for_the_class_that_is_there_more_often() -> None:
    rng = np.random.default_rng(0)
    good, bad = rows(rng, 200), rows(rng, 200)
    for row in bad[:40]:
        row["score"] = 0.5
    found = {cut.feature: cut.probability for cut in learn_cuts(good, bad)}
    assert found["score"] > 0.2
    assert learn_cuts(good, bad)[-1] == learn_cuts(bad, good)[-1]


def test_a_middle_that_all_of_a_class_lie_in_is_no_rare_event() -> None:
    rng = np.random.default_rng(0)
    good, bad = rows(rng, 200), rows(rng, 200)
    for row in bad:
        row["score"] = 0.5
    for cuts in (learn_cuts(good, bad), learn_cuts(bad, good), learn_cuts(bad, [])):
        assert "score" not in {cut.feature for cut in cuts}


def test_bounds_fail_as_rarely_as_they_say() -> None:
    # 400 calibrations: with the risk of 0.0005 for all cuts, more than 3 failures are unlikely.
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(400):
        cuts = learn_cuts(rows(rng, 60), [])
        failed += any(
            stats.norm.sf(cut.low) > cut.probability
            for cut in cuts
            if cut.feature == "novelty" and cut.low is not None
        )
    assert failed <= stats.binom.ppf(1 - 1e-4, 400, CALIBRATION_RISK) + 1


def test_money_is_a_supermartingale_with_bounds_exactly_met() -> None:
    """The mean over all outcomes of three pictures is 1 where the events are as likely as said."""
    cut = WatchCut(feature="novelty", low=1.0, probability=0.3)
    total = 0.0
    for code in range(8):
        evidence, chance = Evidence([cut]), 1.0
        for bit in range(3):
            event = bool(code >> bit & 1)
            chance *= 0.3 if event else 0.7
            evidence.add(np.array([[event]]))
        total += chance * evidence.value[0]
    assert total == pytest.approx(1.0)


def test_false_alarms_are_rare_and_drift_is_found_soon() -> None:
    rng = np.random.default_rng(2)
    cuts = [WatchCut(feature="novelty", low=1.0, probability=p) for p in (0.05, 0.2)]
    evidence = Evidence(cuts, streams=2000)
    alarmed = np.zeros(2000, bool)
    for _ in range(800):  # at the very edge of what the bounds allow
        u = rng.uniform(size=(2000, 1))
        alarmed |= evidence.add(u < [[0.05, 0.2]]) >= THRESHOLD
    # Ville at 1 / 2,000 gives one stream in expectation at most
    assert alarmed.sum() <= stats.binom.ppf(1 - 1e-4, 2000, 1 / THRESHOLD)
    for _ in range(14):
        value = evidence.add(np.ones((2000, 2), bool))
    assert (value >= THRESHOLD).all()


def inspection(novelty: float, verdict: Verdict = Verdict.OK) -> Inspection:
    return Inspection(verdict, score=0.1, novelty=novelty, quality={"brightness": 100.0})


def test_a_withdrawal_stays_and_names_the_feature() -> None:
    watch = Watch([WatchCut(feature="novelty", low=1.0, probability=0.05)])
    for _ in range(1000):
        watch.observe(inspection(0.5))
    assert watch.fault is None and watch.evidence < 1
    for _ in range(20):
        watch.observe(inspection(2.0))
    assert watch.fault and "novelty" in watch.fault and watch.pictures < 1020
    seen = watch.pictures
    for _ in range(100):
        watch.observe(inspection(0.5))
    assert watch.fault and watch.pictures == seen and watch.evidence >= THRESHOLD


def test_errors_are_not_observed_and_no_cuts_are_no_evidence() -> None:
    watch = Watch([])
    watch.observe(Inspection(Verdict.ERROR, error="x"))
    assert watch.pictures == 0
    watch.observe(inspection(9.0))
    assert watch.evidence == 1 and watch.fault is None


def test_ends_of_an_event_are_open() -> None:
    cuts = (
        WatchCut(feature="score", low=0.25, high=0.75, probability=0.1),
        WatchCut(feature="novelty", low=1.0, probability=0.1),
        WatchCut(feature="brightness", high=9.0, probability=0.1),
    )
    assert crossed(cuts, {"score": 0.25, "novelty": 1.0, "brightness": 9.0}).tolist() == [False] * 3
    assert crossed(cuts, {"score": 0.3, "novelty": 1.1, "brightness": 8.9}).tolist() == [True] * 3
    assert crossed(cuts, {"score": float("nan")}).tolist() == [False] * 3
