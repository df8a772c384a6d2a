import numpy as np
import pytest

from twonines.benchmarks.cell import Cell, measure_cell
from twonines.errors import SettingsError


def test_gain_by_hand() -> None:
    # 12 s by hand, 0.5 s by the model, every tenth part reviewed: 12 / (0.5 + 1.2).
    cell = Cell(12, 0.5, 0.1)
    assert cell.serial_gain == pytest.approx(12 / 1.7)
    assert cell.pipelined_s == pytest.approx(1.2) and cell.bottleneck == "people"
    assert cell.pipelined_gain == pytest.approx(10)
    figures = cell.figures()
    assert figures["manual_parts_per_hour_per_inspector"] == 300
    assert figures["serial_parts_per_hour"] == pytest.approx(3600 / 1.7)
    assert figures["pipelined_parts_per_hour"] == pytest.approx(3000)


def test_more_people_shift_the_bottleneck_to_the_model() -> None:
    cell = Cell(12, 0.5, 0.1, inspectors=3)
    assert (cell.pipelined_s, cell.bottleneck) == (0.5, "model")
    figures = cell.figures()
    assert figures["pipelined_parts_per_hour"] == 7200
    assert figures["pipelined_parts_per_hour_per_inspector"] == 2400
    assert cell.pipelined_gain == pytest.approx(7200 / 900)  # against three people by hand


def test_everything_reviewed_gains_nothing() -> None:
    assert Cell(12, 0.5, 1.0).serial_gain < 1
    assert Cell(12, 0.5, 1.0).pipelined_gain == 1
    assert Cell(12, 0.5, 0.0).serial_gain == 24
    assert Cell(12, 0.5, 0.5, review_s=4).serial_s == 2.5


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((0, 1, 0.1), "manual_s"), ((1, 0, 0.1), "model_s"), ((1, 1, 1.1), "review_rate"),
        ((1, 1, 0.1, 0), "review_s"), ((1, 1, 0.1, None, 0), "inspectors"),
        ((float("nan"), 1, 0.1), "manual_s"),
    ],
)  # fmt: skip
def test_impossible_cells(values: tuple[float, ...], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Cell(*values)  # type: ignore[arg-type]


def test_measured_cell_has_intervals_and_answers() -> None:
    times = np.random.default_rng(0).lognormal(np.log(10), 0.4, 300)
    found = measure_cell(times, [0.1, 0.11, 0.12], (20, 200), seed=1)
    gain = found["serial_gain"]
    assert gain["value"] == pytest.approx(times.mean() / (0.11 + 0.1 * times.mean()))
    assert gain["low"] < gain["value"] < gain["high"]
    assert found["answers"]["serial_gain"] == "met"
    assert found == measure_cell(times, [0.1, 0.11, 0.12], (20, 200), seed=1)
    # Serial and short model: the spread is that of the review rate, Jeffreys 0.065 to 0.148.
    assert gain["low"] == pytest.approx(1 / (0.0111 + 0.148), rel=0.05)
    assert gain["high"] == pytest.approx(1 / (0.0111 + 0.065), rel=0.05)


def test_no_review_in_few_pictures_promises_little() -> None:
    found = measure_cell([10.0] * 50, [0.01], (0, 10))
    assert found["serial_gain"]["value"] == pytest.approx(1000)
    assert found["serial_gain"]["low"] < 6


def test_many_reviews_are_not_three_times_as_fast() -> None:
    assert measure_cell([10.0] * 50, [0.1], (120, 200))["answers"]["serial_gain"] == "not met"


def test_people_who_differ_widen_the_interval() -> None:
    times = np.concatenate([np.full(100, 5.0), np.full(100, 15.0)])
    one = measure_cell(times, [1.0], (0, 1000))
    two = measure_cell(times, [1.0], (0, 1000), groups=np.repeat([0, 1], 100))
    wide = [f["serial_gain"]["high"] - f["serial_gain"]["low"] for f in (one, two)]
    assert wide[1] > 3 * wide[0]


def test_bad_measurements() -> None:
    with pytest.raises(SettingsError, match="reviews"):
        measure_cell([1.0], [1.0], (2, 1))
    with pytest.raises(SettingsError, match="manual_seconds"):
        measure_cell([], [1.0], (0, 1))
    with pytest.raises(SettingsError, match="model_seconds"):
        measure_cell([1.0], [np.nan], (0, 1))
