import numpy as np
import pytest

from twonines.errors import OverloadedError
from twonines.serving.admission import Admission, Load
from twonines.serving.cost import CostModel


def fitted(fixed: float, each: float) -> CostModel:
    cost = CostModel()
    for inputs in (1, 4, 8, 32, 2, 16):
        cost.note(inputs, fixed + each * inputs)
    return cost


def admission(cost: CostModel, **changes: float) -> Admission:
    values = {"queue_size": 100, "max_batch_size": 8, "decode_workers": 2, "max_predicted_s": 1.0}
    return Admission(cost, **{**values, **changes})  # type: ignore[arg-type]


def test_cost_is_the_line_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 33, 60)
    seconds = 0.02 + 0.003 * sizes + rng.normal(0, 0.001, 60)
    cost = CostModel()
    for size, value in zip(sizes, seconds, strict=True):
        cost.note(int(size), float(value))
    weights = 0.97 ** np.arange(59, -1, -1)
    each, fixed = np.polyfit(sizes, seconds, 1, w=np.sqrt(weights))
    assert cost.fixed == pytest.approx(fixed, rel=1e-6)
    assert cost.each == pytest.approx(each, rel=1e-6)


def test_one_size_says_nothing_of_the_fixed_cost_and_no_cost_is_negative() -> None:
    cost = CostModel()
    for _ in range(5):
        cost.note(8, 0.4)
    assert cost.fixed == 0 and cost.each == pytest.approx(0.05)
    falling, steep = CostModel(), CostModel()
    for size in (1, 8, 4):
        falling.note(size, 1 / size)
        steep.note(size, size**2)
    assert falling.each == 0 < falling.fixed
    assert steep.fixed == 0 < steep.each


def test_waiting_pays_exactly_where_the_sum_of_waiting_times_falls() -> None:
    for fixed, each, inputs, gap in [
        (0.1, 0.001, 3, 0.02), (0.1, 0.001, 3, 0.03), (0.01, 0.02, 1, 0.0), (0.5, 0.0, 9, 0.049),
    ]:  # fmt: skip
        cost = fitted(fixed, each)
        now = inputs * (fixed + each * inputs) + 2 * fixed + each * (inputs + 1)
        waited = (inputs + 1) * (gap + fixed + each * (inputs + 1))
        # The next comes after the gap: its waiting starts there in both cases.
        assert cost.is_waiting_worth(inputs, gap) is bool(waited < now)


def test_one_size_keeps_what_is_known_of_the_fixed_cost() -> None:
    cost = fitted(0.1, 0.01)
    for seconds in (0.11, 0.22):
        for _ in range(300):
            cost.note(1, seconds)
        assert cost.fixed == pytest.approx(seconds / 1.1, rel=0.02)
        assert cost.each == pytest.approx(seconds / 11, rel=0.02)


def test_what_costs_have_learnt_does_not_scale_predictions_once_more() -> None:
    cost = fitted(0.0, 0.001)  # as measured before others took the processor
    found = admission(cost)
    for _ in range(200):
        cost.note(8, 0.08)
    for _ in range(60):
        found.note_answer(1, Load(60, 0, 60), 0.61)
    found.check(1, Load(90, 0, 90))
    for _ in range(60):  # more than the costs say, by what they cannot see
        found.note_answer(1, Load(60, 0, 60), 1.22)
    with pytest.raises(OverloadedError, match="expected after 1.8"):
        found.check(1, Load(90, 0, 90))


def test_predicted_wait_refuses_with_the_time_until_it_is_short_enough() -> None:
    found = admission(fitted(0.0, 0.01))
    assert found.predict(1, Load(99, 0, 99)) == pytest.approx(1.0)
    found.check(1, Load(90, 0, 90))
    tight = admission(fitted(0.0, 0.02))
    with pytest.raises(OverloadedError, match="at most 1 s") as caught:
        tight.check(1, Load(80, 30, 50))
    assert caught.value.retry_after_s == pytest.approx(0.62)
    with pytest.raises(OverloadedError, match=r"at most 0\.1 s"):
        tight.check(1, Load(9, 0, 9), patience_s=0.1)
    tight.check(1, Load(0, 0, 0), patience_s=0.001)  # an idle service always tries


def test_prediction_learns_from_what_answers_really_took() -> None:
    found = admission(fitted(0.0, 0.01))
    load = Load(60, 0, 60)
    found.check(1, load)
    for _ in range(60):
        found.note_answer(1, load, 1.22)
    with pytest.raises(OverloadedError):
        found.check(1, load)
    for _ in range(60):
        found.note_answer(1, Load(0, 0, 0), 10.0)  # too short to tell
        found.note_answer(1, load, 0.61)
    found.check(1, load)


def test_tiles_and_the_slower_stage_set_the_prediction() -> None:
    found = admission(fitted(0.0, 0.01))
    found.note_decode(0.2, 10)
    assert found.predict(1, Load(10, 9, 0)) == pytest.approx(max(10 * 10 * 0.01, 10 * 0.1) + 0.2)
    found.note_decode(2.0, 10)
    assert found.predict(1, Load(10, 9, 0)) > 1.2
