"""Commands of a study of manual inspection."""

from pathlib import Path
from typing import Annotated, Any

import typer

from twonines.cli.display import err, needs
from twonines.cli.options import DatasetName, Root, Seed
from twonines.errors import InputError

study_app = typer.Typer(
    help="Measure manual inspection: plan, let people look, analyse.", no_args_is_help=True
)
PlanFolder = Annotated[Path, typer.Argument(help="Folder of the plan.")]


def _tell(line: str) -> None:
    err.print(line, markup=False, highlight=False, soft_wrap=True)


@study_app.command("plan")
def study_plan(
    dataset: DatasetName,
    out: Annotated[Path, typer.Option(help="Folder of the study; must hold no plan yet.")],
    root: Root = None,
    model: Annotated[
        Path | None, typer.Option(help="Draw from this model's test split, which it never saw.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Without --model: auto, official, grouped or random.")
    ] = "auto",
    pictures: Annotated[
        int | None, typer.Option(help="Default: as many as tell the two accuracies apart.")
    ] = None,
    prevalence: Annotated[float, typer.Option(help="Share of them that is defective.")] = 0.5,
    repeats: Annotated[int, typer.Option(help="Looks of each person at each picture.")] = 2,
    inspector: Annotated[
        list[str] | None, typer.Option(help="Who takes part; repeat it. Default anyone.")
    ] = None,
    break_every: Annotated[int, typer.Option(help="Looks between breaks.")] = 50,
    break_s: Annotated[float, typer.Option(help="Least seconds of a break.")] = 60.0,
    deaf_s: Annotated[
        float, typer.Option(help="Seconds after a picture comes up without answers.")
    ] = 0.2,
    margin: Annotated[
        float, typer.Option(help="How much worse a model may be and not be inferior.")
    ] = 0.02,
    manual_accuracy: Annotated[float, typer.Option(help="Expected of people.")] = 0.90,
    model_accuracy: Annotated[float, typer.Option(help="Expected of the model.")] = 0.99,
    power: Annotated[float, typer.Option(help="Chance to tell the two apart.")] = 0.9,
    seed: Seed = 0,
) -> None:
    """Fix the plan before anybody looks.

    That is pictures, order, breaks and margin; it says what they can show.
    """
    try:
        from twonines.benchmarks.evaluate import rebuild_split
        from twonines.benchmarks.study import sizes
        from twonines.benchmarks.study.plan import make_plan, write_plan
        from twonines.datasets.registry import load_dataset
        from twonines.datasets.splits import make_split
        from twonines.models.session import InspectionSession
    except ImportError as exc:
        raise needs("bench", exc) from exc
    if split not in ("auto", "official", "grouped", "random"):
        raise InputError(f"split: must be auto, official, grouped or random, got {split!r}")
    data = load_dataset(dataset, root)
    if model is None:
        parts = make_split(data, seed=seed, method=split)  # type: ignore[arg-type]
        basis = f"the test part of the split ({parts.basis}, seed {seed})"
    else:
        session = InspectionSession.load(model)
        parts = rebuild_split(session.card, data)
        basis = f"the test split of {session.card.name} {session.digest[:16]}"
    wanted = sizes.pairs_for_mcnemar(model_accuracy, manual_accuracy, power=power)
    plan = make_plan(
        data, parts.test, basis, pictures=wanted if pictures is None else pictures,
        prevalence=prevalence, repeats=repeats, inspectors=inspector or (),
        break_every=break_every, break_s=break_s, deaf_s=deaf_s, margin=margin, seed=seed,
    )  # fmt: skip
    path = write_plan(plan, out)
    bad = sum(p.is_defective for p in plan.pictures)
    typer.echo(
        f"pictures: {len(plan.pictures)} ({bad} defective), {plan.repeats} looks each, "
        f"{plan.looks} looks an inspector; from {plan.basis}"
    )
    typer.echo(
        f"to tell {manual_accuracy:.1%} from {model_accuracy:.1%}: {wanted} pictures "
        f"(exact McNemar, two-sided 5 %, power {power:.0%}, independent errors)"
    )
    for limit in (0.01, 0.02, 0.05):
        needed = sizes.pictures_to_show(limit)
        typer.echo(f"to show an error rate of at most {limit:.0%}: {needed} without an error")
    typer.echo(
        "to know kappa 0.8 to within 0.1: "
        f"{sizes.pictures_for_kappa(0.8, bad / len(plan.pictures), 0.1)} pictures"
    )
    typer.echo(f"margin of non-inferiority: {plan.margin:.1%}, fixed now (plan {plan.digest})")
    typer.echo(f"plan: {path} (it holds the truth: keep it from inspectors)")


@study_app.command("serve")
def study_serve(
    plan: PlanFolder,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets tablets take part, with --insecure-no-login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8080,
    insecure_no_login: Annotated[
        bool, typer.Option(help="Needed beyond loopback: who reaches the page needs no login.")
    ] = False,
) -> None:
    """Serve the page on which people inspect.

    Every answer is on disk before the next picture.
    """
    from twonines.benchmarks.study.app import serve_study

    serve_study(plan, host=host, port=port, insecure_no_login=insecure_no_login, tell=_tell)


@study_app.command("import")
def study_import(
    csv: Annotated[Path, typer.Argument(help="Looks: inspector, picture, answer, seconds.")],
    plan: Annotated[Path, typer.Option(help="Folder of the plan.")],
) -> None:
    """Add looks that were taken elsewhere. All, or none and every fault by line."""
    from twonines.benchmarks.study.importing import import_csv

    typer.echo(f"{import_csv(csv, plan)} looks added to {plan}")


@study_app.command("analyse")
def study_analyse(
    plan: PlanFolder,
    out: Annotated[Path, typer.Option(help="Folder for analysis.json.")],
    model: Annotated[Path | None, typer.Option(help="Compare this model with the people.")] = None,
    root: Root = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of the model.")] = 3,
    seed: Seed = 0,
) -> None:
    """Report on the people, and a model against them.

    Accuracy, d', seconds, trends, agreement and reject zone.
    """
    try:
        from twonines.benchmarks.study.analysis import analyse, write_analysis
        from twonines.benchmarks.study.plan import read_plan
        from twonines.datasets.registry import load_dataset
    except ImportError as exc:
        raise needs("bench", exc) from exc
    data = load_dataset(read_plan(plan).dataset, root) if model else None
    result = analyse(plan, model=model, dataset=data, rounds=rounds, seed=seed, progress=_tell)
    path = write_analysis(result, out)
    for line in _summary(result):
        typer.echo(line)
    typer.echo(f"analysis: {path}")


def _figure(estimate: dict[str, Any], share: bool = True) -> str:
    if estimate["value"] is None or estimate["low"] is None or estimate["high"] is None:
        return "not known"
    form = "{:.1%}" if share else "{:.2f}"
    return f"{{}} [{form}, {form}]".format(
        form.format(estimate["value"]), estimate["low"], estimate["high"]
    )


def _summary(result: dict[str, Any]) -> list[str]:
    pooled = result["pooled"]
    lines = [
        f"{name.replace('_', ' '):20s} {_figure(pooled[name], share)}"
        for name, share in (
            ("accuracy", True), ("balanced_accuracy", True), ("escape_rate", True),
            ("overkill_rate", True), ("sensitivity", False), ("criterion", False),
            ("median_seconds", False),
        )
    ]  # fmt: skip
    people = result["agreement"]
    for row in people["inspectors"]:
        lines.append(
            f"{row['inspector']}: effectiveness {_figure(row['effectiveness'])}, miss "
            f"{_figure(row['miss_rate'])}, false alarm {_figure(row['false_alarm_rate'])}: "
            f"{row['grade']}"
        )
    lines.append(f"kappa between         {_figure(people['between'], False)}")
    for name, made in result.get("comparison", {}).items():
        answer = made["verdict"]
        lines.append(
            f"model {name.replace('_', ' ')}: accuracy {_figure(made['difference']['accuracy'])} "
            f"against people; not inferior: {answer['non_inferior']}, superior: "
            f"{answer['superior']}; errors fewer by a factor of "
            f"{_figure(made['error_reduction'], False)}"
        )
    if result.get("cell"):
        lines.append(
            f"cell gain             serial {_figure(result['cell']['serial_gain'], False)}, "
            f"pipelined {_figure(result['cell']['pipelined_gain'], False)}"
        )
    return lines
