from dataclasses import replace

import numpy as np
import pytest

from twonines.benchmarks.crew import SOURCES, Crew, Severity, sensitivity_table
from twonines.benchmarks.manual import Inspector
from twonines.errors import SettingsError

ALONE = Crew(severities=(Severity("any", 1, 0),), sd_sensitivity=0, sd_criterion=0)


@pytest.mark.parametrize("accuracy", [0.8, 0.85, 0.9, 0.95])
def test_one_kind_and_no_differences_are_the_single_inspector(accuracy: float) -> None:
    crew, single = replace(ALONE, accuracy=accuracy), Inspector(accuracy=accuracy)
    assert crew.sensitivity == pytest.approx(single.sensitivity)
    assert crew.rates()["escape_rate"] == pytest.approx(single.escape_rate)
    assert crew.rates()["overkill_rate"] == pytest.approx(single.overkill_rate)


def test_accuracy_is_what_was_asked() -> None:
    for row in sensitivity_table(Crew()):
        assert row["balanced_accuracy"] == pytest.approx(row["manual_accuracy"])


def test_severities_keep_the_published_order() -> None:
    # Without lapses and differences, and with the middle at 92.8 %, the published shares return.
    crew = replace(Crew(), lapse=0.0, sd_sensitivity=0.0, sd_criterion=0.0)
    d = crew.sensitivity
    shift = d / 2 - 1.4611  # a criterion at which the middle severity is caught in 92.8 %
    missed = replace(crew, criterion=shift, accuracy=_accuracy(crew, d, shift)).rates()["missed"]
    assert missed["slight"] == pytest.approx(0.28, abs=0.003)
    assert missed["severe"] == pytest.approx(0.01, abs=0.001)


def _accuracy(crew: Crew, d: float, criterion: float) -> float:
    return replace(crew, criterion=criterion)._at(d, criterion)[0]


def test_rare_defects_are_missed_as_published() -> None:
    # Pop-out: 2.5 % of misses at a prevalence of 50 %, 14 % at 2 %.
    crew = replace(ALONE, accuracy=0.975, lapse=0.0)
    assert crew.rates(0.5)["escape_rate"] == pytest.approx(0.025)
    assert crew.rates(0.02)["escape_rate"] == pytest.approx(0.14)
    assert crew.rates(0.02)["overkill_rate"] < 0.025
    # 30 to 40 % are missed at 1 to 2 %, a figure the slope was not taken from.
    assert 0.30 < Crew().rates(0.02)["escape_rate"] < Crew().rates(0.01)["escape_rate"] < 0.40


def test_time_on_task_moves_both_rates() -> None:
    fresh, tired = Crew().rates(0.5, 0), Crew().rates(0.5, 3)
    assert tired["escape_rate"] > fresh["escape_rate"]
    assert tired["overkill_rate"] < fresh["overkill_rate"]
    assert tired["sensitivity"] == fresh["sensitivity"]
    worn = replace(Crew(), sensitivity_per_hour=0.3).rates(0.5, 3)
    assert worn["balanced_accuracy"] < tired["balanced_accuracy"]


def test_simulation_agrees_with_the_closed_form() -> None:
    crew = replace(Crew(), criterion_per_hour=0.0)
    kind = np.tile([0, 1, 2, -1, -1, -1, -1, -1, -1], 40)
    looks = crew.simulate(kind, inspectors=400, repeats=2, seed=1)
    wanted = crew.rates(1 / 3)
    assert looks.rejected.shape == looks.seconds.shape == (400, 360, 2)
    assert 1 - looks.rejected[:, kind >= 0].mean() == pytest.approx(wanted["escape_rate"], abs=0.01)
    assert looks.rejected[:, kind < 0].mean() == pytest.approx(wanted["overkill_rate"], abs=0.01)
    for index, missed in enumerate(wanted["missed"].values()):
        assert 1 - looks.rejected[:, kind == index].mean() == pytest.approx(missed, abs=0.015)
    assert looks.seconds.mean() == pytest.approx(crew.mean_seconds, rel=0.05)
    assert looks.sensitivity.std() == pytest.approx(crew.sd_sensitivity, rel=0.1)


def test_simulated_people_lean_more_as_they_go_on() -> None:
    crew = replace(ALONE, criterion_per_hour=1.0, lapse=0.0)
    kind = np.tile([0, -1], 400)  # 800 looks of 12 s are nearly three hours
    rejected = crew.simulate(kind, inspectors=60, seed=2).rejected[:, :, 0]
    for side in (kind >= 0, kind < 0):
        early, late = rejected[:, :200][:, side[:200]], rejected[:, 600:][:, side[600:]]
        assert late.mean() < 0.5 * early.mean()


def test_simulation_is_seeded() -> None:
    one, two, other = (
        Crew().simulate([0, -1, 2], inspectors=2, seed=s).seconds.tolist() for s in (1, 1, 2)
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"accuracy": 0.5}, "accuracy"),
        ({"accuracy": 0.999}, "accuracy"),
        ({"lapse": 1.0}, "lapse"),
        ({"seconds": 0.0}, "seconds"),
        ({"spread": -1.0}, "spread"),
        ({"sd_criterion": float("nan")}, "sd_criterion"),
        ({"severities": ()}, "severities"),
        ({"severities": (Severity("a", 0.5, 0),)}, "severities"),
        ({"severities": (Severity("a", 1.5, 0), Severity("b", -0.5, 0))}, "severities"),
    ],
)
def test_impossible_crews(changes: dict[str, object], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        replace(Crew(), **changes)  # type: ignore[arg-type]


def test_impossible_uses() -> None:
    with pytest.raises(SettingsError, match="prevalence"):
        Crew().rates(0.0)
    with pytest.raises(SettingsError, match="prevalence"):
        Crew().simulate([0, 1], inspectors=1)
    with pytest.raises(ValueError, match="severity"):
        Crew().simulate([3, -1], inspectors=1)


def test_every_default_has_a_source_and_a_changed_value_loses_it() -> None:
    named = {s.parameter for s in SOURCES}
    fields = set(Crew.__dataclass_fields__) - {"severities"}
    assert fields <= named and {"severity_shift_slight", "severity_shift_severe"} <= named
    assert all(s.status in ("confirmed", "secondary", "unverified") for s in SOURCES)
    summary = replace(Crew(), sd_criterion=0.1).summary(0.01)
    assert summary["given_by_the_user"] == ["sd_criterion"]
    assert "sd_criterion" not in {s["parameter"] for s in summary["sources"]}
    assert len(Crew().summary(0.5)["sources"]) == len(SOURCES)
