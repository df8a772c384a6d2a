import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from tests.benchmarks.study.conftest import small_plan, write_parts
from tests.conftest import tiny_card, write_tiny_model
from twonines.benchmarks import evaluate
from twonines.benchmarks.crew import Crew
from twonines.benchmarks.study.analysis import analyse, untaught_records, write_analysis
from twonines.benchmarks.study.answers import Answers, describe_all, describe_inspector
from twonines.benchmarks.study.looks import Journal, Look, read_looks
from twonines.benchmarks.study.plan import Plan, read_plan, write_plan
from twonines.cli.app import app
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset
from twonines.datasets.registry import load_dataset
from twonines.datasets.splits import make_split
from twonines.errors import DatasetError, InputError
from twonines.models.card import Policy, TrainingData
from twonines.models.session import InspectionSession
from twonines.types import Verdict


def keep(folder: Path, plan: Plan, looks: list[Look]) -> None:
    journal = Journal(folder, plan)
    journal.append(looks)
    journal.close()


def flawed(plan: Plan, name: str, every: int) -> list[Look]:
    """A person who errs on every so manyth look."""
    truth = {p.id: p.is_defective for p in plan.pictures}
    return [
        Look(name, picture, repeat, "NG" if truth[picture] != (i % every == 0) else "OK",
             1.0 + i % 3, remark="interrupted" if i == 4 else "")
        for i, (picture, repeat) in enumerate(plan.order(name))
    ]  # fmt: skip


def test_arrays_by_hand(study: Path) -> None:
    plan = read_plan(study)
    first, second = plan.pictures[0].id, plan.pictures[1].id
    looks = [
        Look("Ann", second, 1, "NG", 2.0),
        Look("Bo", first, 2, "OK", 3.0, remark="clock"),
        Look("ANN", first, 1, "OK", 4.0),
    ]
    found = Answers.of(plan, looks)
    assert found.inspectors == ["Ann", "Bo"]
    assert found.rejected[0, :2, 0].tolist() == [0, 1]
    assert np.isnan(found.rejected[1, 0, 0]) and found.rejected[1, 0, 1] == 0
    assert found.number[0, :2, 0].tolist() == [2, 1]
    assert np.isnan(found.seconds[1, 0, 1]) and found.seconds[0, 0, 0] == 4
    with pytest.raises(InputError, match="no answers yet"):
        Answers.of(plan, [])


def simulated(plan: Plan, crew: Crew, inspectors: int, seed: int) -> tuple[Answers, np.ndarray]:
    kind = np.where([p.is_defective for p in plan.pictures], 0, -1)
    looks = crew.simulate(kind, inspectors=inspectors, seed=seed)
    places = np.arange(1, len(kind) + 1, dtype=np.float64)[None, :, None]
    number = np.broadcast_to(places, looks.rejected.shape)
    names = [f"i{i}" for i in range(inspectors)]
    answers = Answers(names, kind >= 0, looks.rejected, looks.seconds, number, 50)
    return answers, np.stack([looks.sensitivity, looks.criterion])


def alone(crew: Crew) -> Crew:
    """One kind of defect, no lapses: d' and criterion are what the analysis looks for."""
    severity = replace(crew.severities[1], share=1.0)
    return replace(crew, severities=(severity,), lapse=0.0, criterion_per_hour=0.0)


def test_parameters_of_simulated_inspectors_are_recovered(parts: Dataset) -> None:
    plan = small_plan(parts, pictures=40, prevalence=0.5, repeats=1)
    crew, inside, times = alone(Crew()), np.zeros(2), 0
    for seed in range(60):
        answers, truth = simulated(plan, crew, 3, seed)
        for i in range(3):
            made = describe_inspector(answers, i)
            for k, name in enumerate(("sensitivity", "criterion")):
                inside[k] += made[name]["low"] <= truth[k, i] <= made[name]["high"]
            spread = made["seconds"]["spread"]
            times += spread["low"] <= crew.spread <= spread["high"]
    assert (inside / 180 > 0.92).all() and times / 180 > 0.92


def test_pooled_figures(parts: Dataset) -> None:
    plan = small_plan(parts, pictures=40, prevalence=0.5, repeats=1)
    answers, truth = simulated(plan, alone(Crew()), 8, 3)
    pooled = describe_all(answers)
    wrong = answers.rejected != answers.defective[None, :, None]
    assert pooled["accuracy"]["value"] == pytest.approx(1 - wrong.mean())
    for name, values in zip(("sensitivity", "criterion"), truth, strict=True):
        assert pooled[name]["low"] <= values.mean() <= pooled[name]["high"]
    middle = np.median(answers.seconds, (1, 2)).mean()
    assert pooled["median_seconds"]["value"] == pytest.approx(middle)
    assert pooled["median_seconds"]["low"] < middle < pooled["median_seconds"]["high"]


def test_seconds_by_hand(study: Path) -> None:
    plan = read_plan(study)
    made = describe_inspector(Answers.of(plan, flawed(plan, "Ann", 5)), 0)
    seconds = made["seconds"]
    assert (seconds["n"], seconds["left_out"]) == (19, 1)
    logs = np.log([1.0 + i % 3 for i in range(20) if i != 4])
    assert seconds["log_median"]["value"] == pytest.approx(np.exp(logs.mean()))
    low, high = stats.t.interval(0.95, 18, logs.mean(), stats.sem(logs))
    assert seconds["log_median"]["low"] == pytest.approx(np.exp(low))
    assert seconds["log_median"]["high"] == pytest.approx(np.exp(high))
    assert (made["accuracy"]["k"], made["accuracy"]["n"], made["looks"]) == (16, 20, 20)


def test_a_study_that_was_broken_off(study: Path) -> None:
    plan = read_plan(study)
    keep(study, plan, flawed(plan, "Ann", 4)[:7] + flawed(plan, "Bo", 7)[:1])
    result = analyse(study)
    assert [row["looks"] for row in result["inspectors"]] == [7, 1]
    json.dumps(result, allow_nan=False)
    assert result["inspectors"][1]["seconds"]["median"]["low"] is None


def test_same_answers_same_figures(study: Path) -> None:
    plan = read_plan(study)
    keep(study, plan, flawed(plan, "Ann", 4) + flawed(plan, "Bo", 7))
    one = analyse(study)
    assert one == analyse(study)
    assert one["plan"]["digest"] == plan.digest and one["plan"]["margin"] == 0.02
    assert "pictures" in one["plan"] and "root" not in one["plan"]
    assert "comparison" not in one
    path = write_analysis(one, study / "out")
    assert json.loads(path.read_text()) == one


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A set and a model whose card names it: bright is defective, far from grey is novel."""
    folder = tmp_path_factory.mktemp("taught")
    dataset = load_dataset("folder", write_parts(folder / "parts", 40, 32))
    split = make_split(dataset, seed=0)
    data = TrainingData(
        name="folder", licence="unknown", digest=content_digest(dataset.records, dataset.root),
        split_kind=split.kind, seed=0, n_train=len(split.train),
        n_calibration=len(split.calibration), n_test=len(split.test),
    )  # fmt: skip
    # Scratched ones lie about 0.2824 from grey, good ones less: the limit sends some to a person.
    card = tiny_card(training_data=data, policy=Policy(threshold=0.5, novelty_limit=0.2824))
    return dataset, write_tiny_model(folder / "model.onnx", card)


def test_a_model_against_people(taught: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, model = taught
    folder = tmp_path / "study"
    runner = CliRunner()
    planned = runner.invoke(
        app,
        ["study", "plan", "--dataset", "folder", "--root", str(dataset.root), "--model", str(model),
         "--pictures", "16", "--out", str(folder), "--margin", "0.05"],
    )  # fmt: skip
    assert planned.exit_code == 0, planned.output
    assert "to tell 90.0% from 99.0%: 132 pictures" in planned.output
    plan = read_plan(folder)
    keep(folder, plan, flawed(plan, "Ann", 4) + flawed(plan, "Bo", 7))
    done = runner.invoke(
        app,
        ["study", "analyse", str(folder), "--model", str(model), "--root", str(dataset.root),
         "--out", str(tmp_path / "out"), "--rounds", "1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "analysis.json").read_text())
    alone = result["comparison"]["alone"]
    assert alone["model"]["accuracy"]["value"] == 1
    assert alone["people"]["accuracy"]["value"] == pytest.approx((24 / 32 + 27 / 32) / 2)
    assert alone["verdict"]["margin"] == 0.05 and alone["verdict"]["superior"] == "met"
    reviewed = result["cell"]["inputs"]["reviews"]
    assert 0 < reviewed < 16
    # What went to review was decided by the people, their errors on it included.
    shared = result["comparison"]["with_review"]["model"]["accuracy"]["value"]
    session = InspectionSession.load(model)
    judged = evaluate.judge_records(session, untaught_records(plan, session, dataset))
    sent = {p.id for p, i in zip(plan.pictures, judged.inspections, strict=True)
            if i.verdict is Verdict.REVIEW}  # fmt: skip
    truth = {p.id: "NG" if p.is_defective else "OK" for p in plan.pictures}
    people = read_looks(folder, plan)
    wrong = sum(x.picture in sent and x.answer != truth[x.picture] for x in people)
    assert len(sent) == reviewed and wrong > 0
    assert shared == pytest.approx(1 - wrong / 64)
    assert result["cell"]["inputs"]["pictures"] == 16
    assert result["knapp"]["model"]["rze"] == 1
    assert [row["manual_accuracy"] for row in result["modelled"]["rows"]] == [0.8, 0.85, 0.9, 0.95]
    for word in ("effectiveness", "model alone", "model with review", "cell gain"):
        assert word in done.output


def test_pictures_that_were_taught_are_refused(
    taught: tuple[Dataset, Path], tmp_path: Path
) -> None:
    dataset, model = taught
    plan = small_plan(dataset, pictures=20)
    write_plan(plan, tmp_path)
    keep(tmp_path, plan, flawed(plan, "Ann", 4))
    with pytest.raises(DatasetError, match="model: must not have seen the study's pictures"):
        analyse(tmp_path, model=model, dataset=dataset)


def test_import_command(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("inspector,picture,answer,seconds\nAnn,p01,OK,2\n")
    done = CliRunner().invoke(app, ["study", "import", str(path), "--plan", str(study)])
    assert done.exit_code == 0 and "1 looks added" in done.output
