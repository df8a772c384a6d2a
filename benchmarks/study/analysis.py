"""What a study says: inspectors, agreement, reject zone; and a model against them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from twonines.benchmarks import agreement, cell, comparison, evaluate
from twonines.benchmarks.crew import Crew, sensitivity_table
from twonines.benchmarks.report import plain
from twonines.benchmarks.study.answers import Answers, describe_all, describe_inspector
from twonines.benchmarks.study.looks import read_looks
from twonines.benchmarks.study.plan import Plan, read_plan
from twonines.datasets.content import relative
from twonines.datasets.record import Dataset, Record
from twonines.errors import DatasetError, SettingsError
from twonines.models.session import InspectionSession
from twonines.types import Verdict

SCHEMA = 1


def analyse(
    folder: Path,
    *,
    model: Path | None = None,
    dataset: Dataset | None = None,
    rounds: int = 3,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Analyse a study, as plain JSON types; the same answers give the same figures.

    Args:
        folder: plan and answers.
        model: compared with the inspectors where given.
        dataset: the set of the plan, needed with ``model``.
        rounds: timed runs of the model over the pictures.
        seed: seeds every bootstrap.
        progress: told what is done.

    Returns:
        ``plan``, ``inspectors``, ``pooled``, ``agreement`` and ``knapp``; with a model also
        ``model``, ``comparison`` (``alone``, and ``with_review`` where people decide what it
        sends them), ``cell`` and ``modelled`` (the conclusion at other manual accuracies).

    Raises:
        InputError: plan or answers are not what they must be, or there are no answers.
        DatasetError: the model was taught on pictures of the study, or the set is another.
    """
    tell = progress or (lambda _: None)
    plan = read_plan(folder)
    answers = Answers.of(plan, read_looks(folder, plan))
    tell(f"{len(answers.inspectors)} inspectors, {int(np.sum(~np.isnan(answers.rejected)))} looks")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "plan": _plan_facts(plan),
        "inspectors": [describe_inspector(answers, i) for i in range(len(answers.inspectors))],
        "pooled": describe_all(answers, seed=seed),
        "agreement": agreement.attribute_study(
            answers.rejected, answers.defective, answers.inspectors, seed=seed
        ),
    }
    judged = None
    if model is not None:
        if dataset is None:
            raise SettingsError("dataset: must be given with a model")
        session = InspectionSession.load(model)
        tell("running the model over the study's pictures")
        records = untaught_records(plan, session, dataset)
        runs = [evaluate.judge_records(session, records) for _ in range(rounds + 1)]
        judged = runs[-1]
        result["model"] = {"digest": session.digest, "card": session.card.public()}
        result |= compare(
            answers, judged, [r.seconds / len(records) for r in runs[1:]], plan, seed=seed
        )
    rejected_by_model = None if judged is None else judged.rejected
    result["knapp"] = agreement.knapp(
        answers.rejected, answers.defective, rejected_by_model, seed=seed
    )
    made: dict[str, Any] = plain(result)
    return made


def _plan_facts(plan: Plan) -> dict[str, Any]:
    facts = plan.model_dump(mode="json", exclude={"pictures", "root"})
    defective = sum(p.is_defective for p in plan.pictures)
    return {**facts, "digest": plan.digest, "pictures": len(plan.pictures), "defective": defective}


def untaught_records(plan: Plan, session: InspectionSession, dataset: Dataset) -> list[Record]:
    """The study's records, in the plan's order.

    Raises:
        DatasetError: the set is not the model's, or the model was taught on some of them.
    """
    test = {relative(r.path, dataset.root): r
            for r in evaluate.rebuild_split(session.card, dataset).test}  # fmt: skip
    missing = [p.path for p in plan.pictures if p.path not in test]
    if missing:
        raise DatasetError(
            f"model: must not have seen the study's pictures, {len(missing)} of "
            f"{len(plan.pictures)} are not in its test split, such as {missing[0]}; plan the study "
            "with --model"
        )
    return [test[p.path] for p in plan.pictures]


def compare(
    answers: Answers,
    judged: evaluate.Judged,
    model_seconds: list[float],
    plan: Plan,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """The model against the inspectors: alone, with review, in the cell and by the crew model."""
    verdicts = [i.verdict for i in judged.inspections]
    unsure = np.array([v in (Verdict.REVIEW, Verdict.ERROR) for v in verdicts], bool)
    alone = judged.rejected
    # What the model sends to a person is decided as that person decided it in the study.
    shared = np.where(unsure[None, :, None], answers.rejected,
                      alone.astype(np.float64)[None, :, None])  # fmt: skip

    def against(machine: Any) -> dict[str, Any]:
        return comparison.compare_with_people(
            machine, answers.rejected, answers.defective, answers.inspectors,
            margin=plan.margin, seed=seed,
        )  # fmt: skip

    prevalence = float(answers.defective.mean())
    timed = ~np.isnan(answers.seconds)
    who = np.broadcast_to(np.arange(len(timed))[:, None, None], timed.shape)[timed]
    made: dict[str, Any] = {
        "comparison": {"alone": against(alone), "with_review": against(shared)},
        "modelled": {
            "crew": Crew().summary(prevalence),
            "rows": comparison.compare_with_model_of_people(
                alone, answers.defective, sensitivity_table(Crew()), margin=plan.margin
            ),
        },
        "cell": None,
    }
    if timed.any():
        made["cell"] = cell.measure_cell(
            answers.seconds[timed], model_seconds, (int(unsure.sum()), len(unsure)),
            groups=who, seed=seed,
        )  # fmt: skip
    return made


def write_analysis(result: dict[str, Any], out: Path) -> Path:
    """Write ``analysis.json`` into ``out``.

    Raises:
        SettingsError: the folder cannot be written.
    """
    path = out / "analysis.json"
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise SettingsError(f"out: {out} must be writable ({exc.strerror or exc})") from exc
    return path
