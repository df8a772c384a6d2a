import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from tests.conftest import tiny_card, write_tiny_model
from tests.datasets import archives
from tests.images import draw_part
from twonines.benchmarks import accuracy
from twonines.benchmarks.accuracy import (
    AccuracyOptions,
    SetChoice,
    parse_recipes,
    parse_sets,
    run_accuracy,
    summarise,
)
from twonines.benchmarks.accuracy_table import cell, print_table
from twonines.benchmarks.leaks import judge_split
from twonines.benchmarks.recipes import RECIPES, Learnt, Plan, check_plan, teach_model
from twonines.benchmarks.trial import count_parameters
from twonines.cli.app import app
from twonines.datasets.checks import check_dataset
from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split, make_split
from twonines.errors import DatasetError, GateError, SettingsError


def write_set(root: Path, parts: int = 12) -> Path:
    """Four shots a part; every third part is scratched, with a mask of the left half."""
    rows = ["path,label,group,mask"]
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 255
    root.mkdir(parents=True)
    Image.fromarray(mask).save(root / "half.png")
    for k in range(4 * parts):
        defective = (k // 4) % 3 == 0
        draw_part(root / f"p/{k}.png", k, defective=defective)
        label, marks = ("scratch", "half.png") if defective else ("good", "")
        rows.append(f"p/{k}.png,{label},part{k // 4},{marks}")
    (root / "parts.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A recipe that writes the tiny model at once; gives the folders that it was called for."""
    calls: list[str] = []

    def tiny(
        dataset: Dataset, split: Split, out: Path, plan: Plan, cache: Path, report: Any
    ) -> Learnt:
        calls.append(f"{out.parent.name}/{out.name}")
        out.mkdir(parents=True, exist_ok=True)
        return Learnt(write_tiny_model(out / "model.onnx", tiny_card()), 1.5)

    monkeypatch.setitem(RECIPES, "tiny", tiny)
    return calls


def test_a_row_holds_figures_split_costs_and_a_sheet_of_mistakes(
    tmp_path: Path, taught: list[str]
) -> None:
    sets = parse_sets(f"table={write_set(tmp_path / 'set')}")
    result = run_accuracy(sets, ["tiny"], tmp_path / "out", AccuracyOptions())
    row = json.loads((tmp_path / "out/accuracy.json").read_text())["rows"][0]
    assert row == result["rows"][0]
    assert row["error"] is None
    figures, trial = row["figures"], row["trials"][0]
    for name in ("auroc", "average_precision", "accuracy", "balanced_accuracy", "iou", "mean_iou",
                 "pixel_average_precision", "aupro"):  # fmt: skip
        assert figures[name]["value"] == pytest.approx(1, abs=1e-6), name
        assert figures[name]["n"] == trial["split"]["test"]
    assert figures["accuracy"]["low"] < 1
    assert figures["aupro"]["instances"] == 4  # one scratched part of four shots
    assert "map_50" not in figures  # no boxes are marked
    assert trial["split"]["kind"] == "grouped" and trial["split"]["leaks"] == []
    assert trial["seconds"] == 1.5 and trial["per_second"] > 0
    assert trial["parameters"] == 4  # full, half, gain and one
    page = (tmp_path / "out/accuracy.html").read_text()
    assert trial["worst"] in page and (tmp_path / "out" / trial["worst"]).stat().st_size > 0
    assert "http" not in page and str(tmp_path) not in page


def test_a_failing_set_leaves_its_error_and_the_next_one_is_taught(
    tmp_path: Path, taught: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWONINES_DATA", raising=False)
    sets = [SetChoice("x-sdd"), SetChoice("table", write_set(tmp_path / "set"))]
    told: list[str] = []
    out = tmp_path / "out"
    result = run_accuracy(sets, ["tiny"], out, AccuracyOptions(), tell=told.append)
    first, second = result["rows"]
    assert "--root" in first["error"] and first["figures"] == {}
    assert second["error"] is None and second["figures"]
    assert any("--root" in line for line in told)
    assert "failed" in (out / "accuracy.html").read_text()


def test_an_unforeseen_fault_is_a_row_too(
    tmp_path: Path, taught: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Learnt:
        raise ZeroDivisionError("no pictures")

    monkeypatch.setitem(RECIPES, "broken", broken)
    sets = [SetChoice("table", write_set(tmp_path / "set"))]
    rows = run_accuracy(sets, ["broken", "tiny"], tmp_path / "out", AccuracyOptions())["rows"]
    assert rows[0]["error"] == "ZeroDivisionError: no pictures"
    assert rows[1]["error"] is None


def test_finished_trials_are_kept_and_others_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = write_set(tmp_path / "set"), tmp_path / "out"
    sets = [SetChoice("table", root)]
    called: list[str] = []

    def quick(recipe: str, dataset: Dataset, split: Split, check: Any, plan: Plan, folder: Path,
              report: Any) -> dict[str, Any]:  # fmt: skip
        called.append(folder.name)
        figure = {"value": len(called) / 10, "n": len(split.test), "low": None, "high": None}
        return {"figures": {"accuracy": figure}, "model": folder / "m", "worst": folder / "w"}

    monkeypatch.setattr(accuracy, "run_trial", quick)
    monkeypatch.setattr(accuracy, "write_table", lambda result, out: None)

    def run(**options: Any) -> dict[str, Any]:
        chosen = AccuracyOptions(n_folds=3, **options)
        figures: dict[str, Any] = run_accuracy(sets, ["teach"], out, chosen)["rows"][0]["figures"]
        return figures

    first = run()
    folder = out / "runs/table_set--teach"
    assert called == [f"fold-{k}-of-3" for k in (1, 2, 3)]
    assert first["accuracy"]["trials"] == [0.1, 0.2, 0.3]
    assert run() == first and len(called) == 3
    (folder / "fold-2-of-3/trial.json").write_text('{"torn')
    assert run()["accuracy"]["trials"] == [0.1, 0.4, 0.3]
    draw_part(root / "p/0.png", 99, defective=True)  # other pictures, other figures
    assert run()["accuracy"]["trials"] == [0.5, 0.6, 0.7]
    Image.new("L", (32, 32), 255).save(root / "half.png")  # the same pictures, marked otherwise
    assert run()["accuracy"]["trials"] == [0.8, 0.9, 1.0]
    assert run(plan=Plan(task="classify"))["accuracy"]["trials"] == [1.1, 1.2, 1.3]


def test_folds_give_mean_and_spread(tmp_path: Path, taught: list[str]) -> None:
    sets = [SetChoice("table", write_set(tmp_path / "set", 6))]
    row = run_accuracy(sets, ["tiny"], tmp_path / "out", AccuracyOptions(n_folds=2))["rows"][0]
    assert taught == ["table_set--tiny/fold-1-of-2", "table_set--tiny/fold-2-of-2"]
    assert row["figures"]["accuracy"]["n"] == 24  # every picture is tested once
    assert row["figures"]["accuracy"]["sd"] == 0
    assert row["figures"]["class_iou"]["scratch"]["value"] == 1


def test_mean_and_spread_by_hand() -> None:
    one = {"value": 0.8, "n": 10, "low": 0.7, "high": 0.9}
    marks = {"instances": 3, "oracle": False}
    trials = [
        {"accuracy": one, "auroc": one, "class_iou": {"a": {**one, **marks, "instances": 2}}},
        {"accuracy": {**one, "value": 0.9, "n": 12}, "class_iou": {"a": {**one, **marks}}},
    ]  # fmt: skip
    found = summarise(trials)
    assert found["accuracy"]["value"] == pytest.approx(0.85)
    assert found["accuracy"]["sd"] == pytest.approx(0.05 * 2**0.5)
    assert (found["accuracy"]["n"], found["accuracy"]["trials"]) == (22, [0.8, 0.9])
    assert found["class_iou"]["a"]["instances"] == 5
    assert "auroc" not in found
    assert summarise(trials[:1]) == trials[0]
    assert cell(found["accuracy"]) == ("85.0 ± 7.1", ("", "n=22"))
    assert cell(one) == ("80.0", ("70.0 to 90.0", "n=10"))
    assert cell(one | {"instances": 3, "oracle": True})[0] == "80.0*"
    assert cell(None)[0] == "-" and cell(one | {"value": None})[0] == "-"


def test_the_terminal_shows_figures_errors_and_leaks(tmp_path: Path, taught: list[str]) -> None:
    sets = [SetChoice("table", write_set(tmp_path / "set")), SetChoice("table", tmp_path / "none")]
    options = AccuracyOptions(split="random")
    result = run_accuracy(sets, ["tiny"], tmp_path / "out", options)
    console = Console(record=True, width=100)
    print_table(result, console)
    text = console.export_text()
    assert "image AUROC" in text and "100.0" in text
    assert "table=none, tiny: error:" in text
    assert "of a part that stands in training too" in text
    assert "These figures are too good" in (tmp_path / "out/accuracy.html").read_text()


def test_names_are_read_and_unknown_ones_refused_with_the_list() -> None:
    assert parse_sets("visa:candle,pcb1, rsdds,folder=a/b") == [
        SetChoice("visa:candle,pcb1"), SetChoice("rsdds"), SetChoice("folder", Path("a/b"))
    ]  # fmt: skip
    for text, message in (("rsdds,nope", "magnetic-tile.*'nope'"), ("", "at least one"),
                          ("rsdds,rsdds", "none twice")):  # fmt: skip
        with pytest.raises(SettingsError, match=message):
            parse_sets(text)
    assert parse_recipes("teach") == ["teach"]
    for text in ("", "teach,guess", "teach,teach"):
        with pytest.raises(SettingsError, match="recipes: must be among teach"):
            parse_recipes(text)
    with pytest.raises(SettingsError, match="guess"):
        teach_model("guess", *[None] * 4, cache=Path())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "by-luck"}, "split"),
        ({"n_folds": 1}, "folds"),
        ({"n_seeds": 0}, "seeds"),
        ({"n_seeds": 2, "n_folds": 5}, "seeds"),
        ({"plan": Plan(minutes=0)}, "minutes"),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        AccuracyOptions(**change)


def test_a_plan_reaches_the_recipe() -> None:
    check_plan(["finetune"], Plan(batch_size=16, input_size=(64, 96)))
    for plan, name in (
        (Plan(batch_size=1), "batch_size"),
        (Plan(input_size=(8, 96)), "input_size"),
    ):
        with pytest.raises(SettingsError, match=f"^{name}:"):
            check_plan(["finetune"], plan)


def test_seeds_draw_other_splits(tmp_path: Path) -> None:
    dataset = SetChoice("table", write_set(tmp_path / "set")).load(None)
    drawn = dict(AccuracyOptions(n_seeds=2, seed=5).splits(dataset))
    assert list(drawn) == ["seed-5", "seed-6"]
    assert drawn["seed-5"].test != drawn["seed-6"].test


def test_a_set_is_read_from_its_folder_below_root(tmp_path: Path) -> None:
    archives.x_sdd(tmp_path / "X-SDD")
    assert len(SetChoice("x-sdd").load(tmp_path).records) == 2
    with pytest.raises(DatasetError, match="must hold RSDDs of rsdds"):
        SetChoice("rsdds").load(tmp_path)


def test_pictures_that_look_alike_across_a_split_are_counted(tmp_path: Path) -> None:
    dataset = SetChoice("table", write_set(tmp_path / "set")).load(None)
    with Image.open(dataset.records[0].path) as image:
        image.point(lambda v: min(255, v + 1)).save(tmp_path / "copy.png")
    copy = replace(dataset.records[0], path=tmp_path / "copy.png", group="another part")
    dataset = replace(dataset, records=(*dataset.records, copy))
    first = {f"part{k}" for k in range(6)}
    train = tuple(record for record in dataset.records if record.group in first)
    test = tuple(record for record in dataset.records if record.group not in first)
    split = Split(train=train, calibration=(), test=test, kind="grouped", seed=0)
    facts = judge_split(check_dataset(dataset), dataset, split)
    assert facts.leaks == ("1 of 25 test pictures look like one that was taught",)
    assert facts.kind == "grouped" and facts.test == 25


def test_a_set_without_groups_is_split_at_random_and_its_card_may_warn(tmp_path: Path) -> None:
    dataset = SetChoice("table", write_set(tmp_path / "set")).load(None)
    bare = replace(dataset, records=tuple(replace(r, group=None) for r in dataset.records))
    split = make_split(bare)
    facts = judge_split(check_dataset(bare), bare, split)
    assert split.kind == "grouped" and facts.kind == "random" and facts.leaks == ()
    warned = replace(bare, card=replace(bare.card, traps="A random split leaks."))
    assert "card warns" in judge_split(check_dataset(warned), warned, split).leaks[0]


def test_parameters_are_counted_from_the_graph(tmp_path: Path) -> None:
    assert count_parameters(write_tiny_model(tmp_path / "m.onnx", tiny_card())) == 4


def test_a_gate_that_fails_is_a_row_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Learnt:
        raise GateError("parity: PyTorch and ONNX must agree")

    monkeypatch.setitem(RECIPES, "refused", refused)
    sets = [SetChoice("table", write_set(tmp_path / "set"))]
    rows = run_accuracy(sets, ["refused"], tmp_path / "out", AccuracyOptions())["rows"]
    assert rows[0]["error"] == "parity: PyTorch and ONNX must agree"
    assert rows[0]["trials"] == []


def test_the_command_ends_with_one_where_a_set_fails(tmp_path: Path) -> None:
    # detect is a task of finetune alone
    arguments = ["bench", "accuracy", "--sets", "x-sdd", "--root", str(tmp_path)]
    arguments += ["--recipes", "finetune", "--task", "detect"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1, done.output
    assert "must hold X-SDD" in done.output
    assert (tmp_path / "out/accuracy.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "needs --model, --dataset and --out"),
        (["bench", "--model", "m", "--out", "o"], "got no --dataset"),
        (["bench", "--model", "m", "accuracy", "--sets", "x-sdd", "--out", "o"], "got m"),
        (["bench", "accuracy", "--sets", "nope", "--out", "o"], "'nope'"),
        (["bench", "accuracy", "--sets", "x-sdd", "--out", "o", "--task", "luck"], "task"),
        (["bench", "accuracy", "--sets", "x-sdd", "--out", "o", "--folds", "1"], "folds"),
        (
            [
                "bench",
                "accuracy",
                "--sets",
                "x-sdd",
                "--out",
                "o",
                "--task",
                "detect",
                "--recipes",
                "finetune,teach",
            ],
            "for the recipe 'teach', got 'detect'",
        ),
    ],
)
def test_the_command_refuses_bad_input_by_name(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, SettingsError)
    assert message in str(done.exception)


def test_the_report_of_one_model_keeps_its_old_form(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["bench", "--model", str(tiny_model), "--dataset", "table", "--root"]
    done = CliRunner().invoke(app, [*arguments, str(write_set(tmp_path / "s")), "--out", "o"])
    assert isinstance(done.exception, DatasetError)  # the tiny model was taught on nothing
    assert "must be the generated" in str(done.exception)
