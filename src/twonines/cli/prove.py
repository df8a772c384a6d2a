"""Commands that teach and prove."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from twonines.cli.display import Stages, err, needs, out_console
from twonines.cli.options import DatasetName, InputSize, Root, Seed, read_input_size
from twonines.errors import SettingsError

FEW = 50
"""Under so many calibration pictures a rate of 1 in 20 cannot be told from none."""


def train(
    dataset: DatasetName,
    out: Annotated[Path, typer.Option(help="Folder of the run; made where it is missing.")],
    root: Root = None,
    recipe: Annotated[
        Literal["teach", "finetune"],
        typer.Option(
            help="teach fits heads on a frozen backbone in seconds; finetune trains the whole "
            "network, in minutes to hours."
        ),
    ] = "teach",
    task: Annotated[
        Literal["auto", "classify", "segment", "detect", "anomaly"],
        typer.Option(
            help="classify learns every class, segment the place too, from masks and boxes, detect "
            "boxes (finetune), anomaly from good pictures alone (teach); auto follows the labels."
        ),
    ] = "auto",
    seed: Seed = 0,
    split: Annotated[str, typer.Option(help="auto, official, grouped or random.")] = "auto",
    input_size: InputSize = None,
    threshold: Annotated[float, typer.Option(help="NG from this score on.")] = 0.5,
    overkill_aim: Annotated[
        float, typer.Option(help="Share of good parts that anomaly may reject.")
    ] = 0.01,
    views: Annotated[int, typer.Option(help="Flips and turns taught with each picture.")] = 1,
    epochs: Annotated[
        int | None,
        typer.Option(help="finetune: passes over the pictures; default 30, none with --minutes."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="finetune: training ends by the clock after these.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="finetune: pictures in a step; default 16, for boxes 8.")
    ] = None,
    lr: Annotated[float, typer.Option(help="finetune: highest learning rate.")] = 3e-3,
    crop: Annotated[
        int | None,
        typer.Option(
            help="finetune: longest side in pixels of what training sees of a picture; default the "
            "input's, for boxes at most 320."
        ),
    ] = None,
    validation: Annotated[
        float, typer.Option(help="finetune: share of training that only decides when to stop.")
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="finetune: epochs without a better loss before it stops.")
    ] = 8,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for features; default the user's cache.")
    ] = None,
) -> None:
    """Teach a model from a set's labels.

    It exists only if PyTorch, ONNX and HTTP agree on every test picture.

    A finetune run that was killed goes on from its last epoch when it is started again.
    """
    if split not in ("auto", "official", "grouped", "random"):
        raise SettingsError(f"split: must be auto, official, grouped or random, got {split!r}")
    from twonines.datasets.registry import load_dataset, met_traps
    from twonines.training.finetune_options import FinetuneOptions
    from twonines.training.teach_options import TeachOptions

    options: TeachOptions
    size = read_input_size(input_size)
    if recipe == "finetune":
        options = FinetuneOptions(
            input_size=size, threshold=threshold, views=views, task=task, epochs=epochs,
            minutes=minutes, batch_size=batch_size, lr=lr, crop=crop, validation=validation,
            patience=patience,
        )  # fmt: skip
    else:
        options = TeachOptions(
            input_size=size, threshold=threshold, views=views, task=task,
            overkill_aim=overkill_aim,
        )  # fmt: skip
    # Before a set is read that may be large; the imports themselves take seconds and come last.
    if find_spec("torch") is None:
        raise needs("train", ImportError("No module named 'torch'"))
    loaded = load_dataset(dataset, root)
    if traps := met_traps(loaded.card):
        typer.echo(traps, err=True)
    try:
        from twonines.benchmarks.teaching import teach_and_measure
    except ImportError as exc:
        raise needs("train", exc) from exc
    with Stages() as stages:
        result = teach_and_measure(
            loaded,
            out,
            options,
            seed=seed,
            split_method=split,
            cache=cache,
            report=stages,
        )
    parts = result.split
    typer.echo(
        f"split: {parts.kind} ({parts.basis}), {len(parts.train)} taught, "
        f"{len(parts.calibration)} for calibration, {len(parts.test)} for test"
    )
    if parts.dropped:
        typer.echo(
            f"dropped from the test: {len(parts.dropped)} pictures that also stand in training"
        )
    if result.masks.empty:
        typer.echo(
            f"masks: {result.masks.empty} of {result.masks.read} of defective pictures mark "
            "nothing; their pictures are taught as defective at an unknown place",
            err=True,
        )
    if result.card.task == "anomaly":
        held = result.card.calibration
        typer.echo(
            f"overkill to expect at a threshold of 0.5: {held.parameters['expected_overkill']:.1%} "
            f"from {held.n} held-out good pictures (aim {overkill_aim:.1%})"
        )
    if parts.calibration and len(parts.calibration) < FEW:
        typer.echo(
            f"few pictures: {len(parts.calibration)} for calibration; probabilities and the limit "
            f"of novelty are rough under {FEW}",
            err=True,
        )
    for name, metric in result.card.metrics.items():
        typer.echo(
            f"{name:20s} {metric.value:.4f}  [{metric.low:.4f}, {metric.high:.4f}]  n={metric.n}"
        )
    if result.card.skill_fault:
        typer.echo(
            f"{result.card.skill_fault}; nothing is OK by this model: look at mistakes.png and the "
            "labels, teach with more pictures, or certify it with others",
            err=True,
        )
    typer.echo(f"parity: {result.card.parity} on {result.parity.pictures} pictures")
    typer.echo(f"model: {result.model}")


bench_app = typer.Typer(help="Measure and report. Without a command: against manual inspection.")


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    model: Annotated[Path | None, typer.Option(help="The model file.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name; see `twonines datasets list`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
    root: Root = None,
    manual_accuracy: Annotated[float, typer.Option(help="Manual inspection to beat.")] = 0.90,
    manual_seconds: Annotated[float, typer.Option(help="Manual seconds a part.")] = 12.0,
    rounds: Annotated[int, typer.Option(help="Measured rounds of speed.")] = 3,
    throughput: Annotated[bool, typer.Option(help="Measure speed too.")] = True,
    study: Annotated[
        Path | None, typer.Option(help="Folder of a study with people on the test pictures.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="measured.json of an earlier report: time nothing, give the same JSON."),
    ] = None,
) -> None:
    """Test the claim against manual inspection and write report.html and report.json.

    `twonines bench accuracy` teaches and measures whole sets instead.
    """
    if context.invoked_subcommand is not None:
        if model is not None:
            raise SettingsError(
                f"model: must stand without {context.invoked_subcommand}, which teaches its own, "
                f"got {model}"
            )
        return
    if model is None or dataset is None or out is None:
        given = {"--model": model, "--dataset": dataset, "--out": out}
        missing = ", ".join(name for name, value in given.items() if value is None)
        raise SettingsError(f"bench: needs --model, --dataset and --out, got no {missing}")
    try:
        from twonines.benchmarks.bench import run_bench
        from twonines.datasets.registry import load_dataset
    except ImportError as exc:
        raise needs("bench", exc) from exc
    run_bench(
        model,
        load_dataset(dataset, root),
        out,
        manual_accuracy=manual_accuracy,
        manual_seconds=manual_seconds,
        rounds=rounds,
        throughput=throughput,
        study=study,
        measured=measured,
        progress=lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    typer.echo(f"report: {out / 'report.html'}")


@bench_app.command("accuracy")
def bench_accuracy(
    sets: Annotated[
        str,
        typer.Option(help="Names with commas, as in magnetic-tile,visa:candle or folder=parts/."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the table; finished trials in it are not repeated.")
    ],
    recipes: Annotated[str, typer.Option(help="Names with commas.")] = "teach",
    root: Annotated[
        Path | None, typer.Option(envvar="TWONINES_DATA", help="Folder above the sets.")
    ] = None,
    split: Annotated[str, typer.Option(help="auto, official, grouped or random.")] = "auto",
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(help="Splits to draw, from --seed on.")] = 1,
    folds: Annotated[int, typer.Option(help="Folds of a cross-validation; 0 is none.")] = 0,
    task: Annotated[str, typer.Option(help="Task of every set; auto from its labels.")] = "auto",
    input_size: InputSize = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the pictures for each trial of finetune.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Limit of a recipe that trains as long as it is given.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures in a step of finetune; default 16, for boxes 8."),
    ] = None,
) -> None:
    """Teach and measure whole sets.

    Writes accuracy.html and accuracy.json; exit 1 if a set fails.
    """
    try:
        from twonines.benchmarks import accuracy
        from twonines.benchmarks.accuracy_table import print_table
        from twonines.benchmarks.recipes import Plan, check_plan
    except ImportError as exc:
        raise needs("train", exc) from exc
    plan = Plan(
        task=task,  # type: ignore[arg-type]
        input_size=read_input_size(input_size),
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
    )
    names = accuracy.parse_recipes(recipes)
    check_plan(names, plan)
    options = accuracy.AccuracyOptions(
        split=split,  # type: ignore[arg-type]
        seed=seed,
        n_seeds=seeds,
        n_folds=folds,
        plan=plan,
    )
    with Stages() as stages:
        result = accuracy.run_accuracy(
            accuracy.parse_sets(sets),
            names,
            out,
            options,
            root=root,
            report=stages,
            tell=lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True),
        )
    print_table(result, out_console)
    typer.echo(f"table: {out / 'accuracy.html'}")
    if any(row["error"] for row in result["rows"]):
        raise typer.Exit(1)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the report.")] = Path(
        "demo-report"
    ),
    seed: Seed = 0,
) -> None:
    """Teach, serve, score and prove on 2,624 real solar-cell pictures."""
    try:
        from twonines.benchmarks.demo import run_demo
    except ImportError as exc:
        raise needs("demo", exc) from exc
    with Stages() as stages:
        lines = run_demo(out, seed=seed, report=stages)
    for name, value in lines:
        typer.echo(f"{name:28s} {value}")
