import pytest

from twonines.benchmarks.claims import accuracy_claim, judge, speed_claim, weakest

NAN = float("nan")


@pytest.mark.parametrize(
    ("low", "high", "strict", "answer"),
    [
        (3.1, 4.0, False, "met"),
        (3.0, 4.0, False, "met"),
        (3.0, 4.0, True, "not shown by this much data"),
        (2.9, 3.0, False, "not shown by this much data"),
        (2.9, 3.0, True, "not met"),
        (2.0, 2.9, False, "not met"),
        (2.9, 3.1, False, "not shown by this much data"),
        (3.0, 3.0, False, "met"),
        (NAN, NAN, False, "not shown by this much data"),
        (3.1, NAN, False, "not shown by this much data"),
        (NAN, 2.9, False, "not shown by this much data"),
        (NAN, 4.0, False, "not shown by this much data"),
    ],
)
def test_judge(low: float, high: float, strict: bool, answer: str) -> None:
    assert judge(low, high, 3.0, strict=strict) == answer


def test_a_target_that_is_not_known_is_not_met() -> None:
    assert judge(3.0, 4.0, NAN) == "not shown by this much data"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_round_that_was_not_timed_shows_nothing(place: int) -> None:
    seconds = [1.0, 1.0, 1.0]
    seconds[place] = NAN
    answer = speed_claim(seconds, manual_seconds=12.0, n=5).answer
    assert answer == "not shown by this much data"


def test_weakest() -> None:
    assert weakest(["met", "not shown by this much data"]) == "not shown by this much data"
    assert weakest(["not met", "not shown by this much data", "met"]) == "not met"
    assert weakest(["met", "met"]) == "met"


def test_accepting_everything_does_not_meet_the_accuracy_claim() -> None:
    claim = accuracy_claim(
        (0.99, 0.98, 0.995), (0.5, 0.49, 0.51), n=1000, manual=0.9, manual_balanced=0.9
    )
    assert claim.answer == "not met"


def test_accuracy_claim() -> None:
    good = (0.96, 0.94, 0.98)
    assert accuracy_claim(good, good, n=9, manual=0.9, manual_balanced=0.9).answer == "met"
    assert accuracy_claim(good, good, n=9, manual=0.95, manual_balanced=0.9).answer == (
        "not shown by this much data"
    )
    assert accuracy_claim(good, good, n=9, manual=0.98, manual_balanced=0.9).answer == "not met"


def test_speed_claim() -> None:
    claim = speed_claim([4.0, 3.0, 2.0], manual_seconds=12.0, n=5)
    assert (claim.value, claim.low, claim.high) == (4.0, 3.0, 6.0)
    assert claim.answer == "met"
    assert speed_claim([4.1, 3.0], manual_seconds=12.0, n=5).answer == (
        "not shown by this much data"
    )
    assert speed_claim([5.0, 6.0], manual_seconds=12.0, n=5).answer == "not met"
    assert speed_claim([2.0, 4.0], manual_seconds=12.0, n=5).value == 4.5
