"""Commands that teach and prove."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from twonines.cli.display import Stages, err, needs
from twonines.cli.options import DatasetName, Root, Seed
from twonines.errors import SettingsError


def train(
    dataset: DatasetName,
    out: Annotated[Path, typer.Option(help="Folder of the run; made where it is missing.")],
    root: Root = None,
    recipe: Annotated[str, typer.Option(help="Only 'teach' so far.")] = "teach",
    task: Annotated[
        Literal["auto", "classify", "anomaly"],
        typer.Option(
            help="classify learns every class, anomaly from good pictures alone; auto takes "
            "anomaly where the training split holds nothing else."
        ),
    ] = "auto",
    seed: Seed = 0,
    split: Annotated[str, typer.Option(help="auto, official, grouped or random.")] = "auto",
    input_size: Annotated[
        int | None,
        typer.Option(help="Side of the model's input in pixels; default from the pictures."),
    ] = None,
    threshold: Annotated[float, typer.Option(help="NG from this score on.")] = 0.5,
    overkill_aim: Annotated[
        float, typer.Option(help="Share of good parts that anomaly may reject.")
    ] = 0.01,
    views: Annotated[int, typer.Option(help="Flips and turns taught with each picture.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for features; default the user's cache.")
    ] = None,
) -> None:
    """Teach a model; it exists only if PyTorch, ONNX and HTTP agree on every test picture."""
    if recipe != "teach":
        raise SettingsError(f"recipe: must be 'teach', got {recipe!r}")
    if split not in ("auto", "official", "grouped", "random"):
        raise SettingsError(f"split: must be auto, official, grouped or random, got {split!r}")
    try:
        from twonines.benchmarks.teaching import teach_and_measure
        from twonines.datasets.registry import load_dataset
        from twonines.training.teach import TeachOptions
    except ImportError as exc:
        raise needs("train", exc) from exc
    options = TeachOptions(
        input_size=input_size, threshold=threshold, views=views, task=task,
        overkill_aim=overkill_aim,
    )  # fmt: skip
    with Stages() as stages:
        result = teach_and_measure(
            load_dataset(dataset, root),
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
    if result.card.task == "anomaly":
        held = result.card.calibration
        typer.echo(
            f"overkill to expect at a threshold of 0.5: {held.parameters['expected_overkill']:.1%} "
            f"from {held.n} held-out good pictures (aim {overkill_aim:.1%})"
        )
    for name, metric in result.card.metrics.items():
        typer.echo(
            f"{name:20s} {metric.value:.4f}  [{metric.low:.4f}, {metric.high:.4f}]  n={metric.n}"
        )
    typer.echo(f"parity: {result.card.parity} on {result.parity.pictures} pictures")
    typer.echo(f"model: {result.model}")


def bench(
    model: Annotated[Path, typer.Option(help="The model file.")],
    dataset: DatasetName,
    out: Annotated[Path, typer.Option(help="Folder of the report.")],
    root: Root = None,
    manual_accuracy: Annotated[float, typer.Option(help="Manual inspection to beat.")] = 0.90,
    manual_seconds: Annotated[float, typer.Option(help="Manual seconds a part.")] = 12.0,
    rounds: Annotated[int, typer.Option(help="Measured rounds of speed.")] = 3,
    throughput: Annotated[bool, typer.Option(help="Measure speed too.")] = True,
) -> None:
    """Test the claim against manual inspection and write report.html and report.json."""
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
        progress=lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    typer.echo(f"report: {out / 'report.html'}")


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
