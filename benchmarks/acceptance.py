"""What an acceptance report adds: the model with people behind it, the cell, a study, the claim."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from twonines.benchmarks import claims, review
from twonines.benchmarks.cell import measure_cell
from twonines.benchmarks.evaluate import Judged
from twonines.benchmarks.manual import Inspector
from twonines.benchmarks.study.analysis import analyse
from twonines.datasets.record import Dataset
from twonines.models.card import ModelCard
from twonines.models.session import InspectionSession

_DRAWN = 1000


def study_of(folder: Path, model: Path, dataset: Dataset, seed: int) -> dict[str, Any]:
    """A study's analysis with the model compared, without what was timed here.

    Raises:
        InputError: the folder holds no study, or nobody has looked.
        DatasetError: the study's pictures are not the model's test pictures.
    """
    found = analyse(folder, model=model, dataset=dataset, rounds=1, seed=seed)
    return {name: value for name, value in found.items() if name not in ("cell", "model")}


def people_of(inspector: Inspector, study: dict[str, Any] | None) -> tuple[review.People, str]:
    """Error rates of the people who review: measured where there is a study, else modelled."""
    if study is None:
        return review.People(inspector.escape_rate, inspector.overkill_rate), "modelled"
    pooled = study["pooled"]
    rates = (pooled["escape_rate"]["value"], pooled["overkill_rate"]["value"])
    return review.People(*rates), "measured in the study"


def review_of(
    session: InspectionSession,
    calibration: Judged,
    judged: Judged,
    inspector: Inspector,
    study: dict[str, Any] | None,
    seed: int,
) -> dict[str, Any]:
    """Accuracy with people, the automatic share and the curve, as plain types.

    The band of automatic answers is chosen on the calibration split; only its counts come from
    the test split.
    """
    threshold = session.card.policy.threshold
    held = review.Answers.of(calibration, threshold)
    answers = review.Answers.of(judged, threshold)
    people, source = people_of(inspector, study)
    band = review.find_band(held)
    automatic = answers.sure >= band
    return {
        "target": review.TARGET,
        "people": review.people_json(people, source),
        "calibration_pictures": len(held.sure),
        "automatic": review.automatic_share(answers, band),
        "with_people": review.with_people(answers, automatic, people, seed=seed),
        "curve": review.curve(answers, people, seed=seed),
    }


def typing_of(card: ModelCard, calibration: Judged, judged: Judged) -> dict[str, Any] | None:
    """Share of the defects that the model names alone at the target; None without kinds."""
    kinds = len(card.classes) - card.has_good
    if not card.names_kinds or kinds < 2:
        return None
    return review.typing_share(calibration, judged)


def cell_of(
    made: dict[str, Any],
    inspector: Inspector,
    study: dict[str, Any] | None,
    model_seconds: list[float],
    seed: int,
) -> dict[str, Any]:
    """Parts an hour of the cell, people's reviews included; by hand as in the study, if any."""
    sent = made["with_people"]["review"]
    measured = None if study is None else study["pooled"]["median_seconds"]["value"]
    if measured:
        inspector = replace(inspector, seconds=measured)
    by_hand = inspector.draw_seconds(_DRAWN, seed)
    return measure_cell(by_hand, model_seconds, (sent["k"], sent["n"]), seed=seed)


def claims_of(made: dict[str, Any], cell: dict[str, Any]) -> list[claims.Claim]:
    """Two nines with people behind the model, and three times the parts of one person."""
    right, target = made["with_people"]["accuracy"], made["target"]
    gain = cell["serial_gain"]
    return [
        claims.Claim(
            "with_review", f"Right on {_share(target)} of parts, people deciding the doubtful ones",
            right["value"], right["low"], right["high"], target, right["n"],
            claims.judge(right["low"], right["high"], target),
        ),
        claims.Claim(
            "cell", f"The cell with one person makes at least {claims.SPEED_TARGET:g} times the "
            "parts of that person alone",
            gain["value"], gain["low"], gain["high"], claims.SPEED_TARGET,
            cell["inputs"]["pictures"], cell["answers"]["serial_gain"],
        ),
    ]  # fmt: skip


def headline_of(made: list[claims.Claim], manual: float) -> dict[str, Any]:
    """The claim in one sentence, and whether these data show it."""
    by_name = {claim.name: claim for claim in made}
    accuracy, speed = by_name["with_review"], by_name["cell"]
    return {
        "claim": f"From {_share(manual)} to {_share(accuracy.target)} of parts judged right, "
        f"and at least {speed.target:g} times as fast",
        "answer": claims.weakest([accuracy.answer, speed.answer]),
    }


def _share(value: float) -> str:
    return f"{100 * value:g} %"
