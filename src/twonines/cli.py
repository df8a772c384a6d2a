"""The command line: thin shells over functions with typed arguments."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from twonines import __version__
from twonines.errors import SettingsError, TwoninesError

app = typer.Typer(
    help="Industrial visual inspection: teach, serve, score and prove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
datasets_app = typer.Typer(help="Look at data sets before they are taught.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")
err = Console(stderr=True)
out_console = Console()

DatasetName = Annotated[str, typer.Option("--dataset", help="Name; see `twonines datasets list`.")]
CardName = Annotated[str, typer.Argument(help="Name; see `twonines datasets list`.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the archive. elpv needs none.")
]
Seed = Annotated[int, typer.Option(help="Seeds splits and every random choice.")]
ProviderName = Literal["auto", "cpu", "openvino"]
Provider = Annotated[ProviderName, typer.Option(help="Where the model runs; auto measures.")]


def _flag(text: str, name: str) -> Any:
    """A flag of the service; its help shows the default and the environment twin."""
    from twonines.settings import ServeSettings

    default = ServeSettings.model_fields[name.lower()].get_default()
    shown = False if default in (None, PydanticUndefined) else str(default)
    return typer.Option(
        "--" + name.lower().replace("_", "-"),
        help=f"{text} (env TWONINES_{name})",
        show_default=shown,
    )


def main() -> None:
    """Run the command line; errors of ours end it with their exit code and a plain message."""
    try:
        app()
    except TwoninesError as exc:
        # Not wrapped: a path that was split over lines can be neither copied nor searched for.
        err.print(f"error: {exc}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exc.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Industrial visual inspection: teach, serve, score and prove."""


def _needs(extra: str, exc: ImportError) -> SettingsError:
    return SettingsError(
        f"this command needs more packages ({exc}): pip install 'twonines[{extra}]'"
    )


class Stages:
    """A bar a stage on a terminal, one plain line a stage elsewhere."""

    def __init__(self) -> None:
        """Open the display on stderr."""
        self._bars = Progress(
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=err,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Stages":
        """Start drawing where there is a terminal."""
        if err.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if err.is_terminal:  # elsewhere stopping prints an empty line
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``stage`` are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
            if not err.is_terminal:
                err.print(f"{stage} ...", markup=False, highlight=False, soft_wrap=True)
        self._bars.update(self._tasks[stage], completed=done, total=total)


@datasets_app.command("list")
def datasets_list() -> None:
    """List the readers, with what their labels allow and their licence."""
    from twonines.datasets.registry import CARDS

    for name, card in CARDS.items():
        out_console.print(f"{name:15s} {card.title}", highlight=False, soft_wrap=True)
        line = f"{'':15s} {', '.join(card.tasks)}; licence: {card.licence}"
        out_console.print(line, highlight=False, soft_wrap=True)


@datasets_app.command("show")
def datasets_show(name: CardName) -> None:
    """Show a set's card: licence, tasks, classes, split, traps, download, published results."""
    from rich.table import Table

    from twonines.datasets.facts import facts
    from twonines.datasets.registry import find_card

    card = find_card(name)
    table = Table(title=card.name, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for heading, text in facts(card):
        table.add_row(heading, Text(text))
    out_console.print(table, highlight=False)


@datasets_app.command("fetch")
def datasets_fetch(
    name: CardName,
    root: Annotated[
        Path,
        typer.Option(envvar="TWONINES_DATA", help="Folder above the sets; made where missing."),
    ] = Path("data"),
) -> None:
    """Download, check and unpack a set, or say what to download and where to put it."""
    from twonines.datasets.fetch import fetch
    from twonines.datasets.registry import find_card

    with Stages() as stages:
        folder, remarks = fetch(
            find_card(name),
            root,
            progress=lambda stage, done, whole: stages(
                f"{stage} MB", done >> 20, max(done, whole) >> 20
            ),
        )
    for remark in remarks:
        typer.echo(remark)
    typer.echo(f"read it with: --dataset {name} --root {folder}")


@datasets_app.command("check")
def datasets_check(
    name: CardName,
    root: Root = None,
    seed: Seed = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all as JSON.")] = None,
) -> None:
    """Find unreadable files, label and mask faults, duplicates and leaks; 1 if any is unsound.

    Exit 1 says that a picture cannot be read by the models, or that training and test share a
    picture or a group; other findings are for a person to judge.
    """
    try:
        from twonines.datasets.checks import check_dataset
        from twonines.datasets.registry import load_dataset
        from twonines.datasets.splits import make_split
        from twonines.datasets.summary import print_report, write_json
        from twonines.models.image import decode
    except ImportError as exc:
        raise _needs("train", exc) from exc
    dataset = load_dataset(name, root)
    with Stages() as stages:
        report = check_dataset(
            dataset,
            make_split(dataset, seed=seed),
            decode=decode,
            progress=lambda done, total: stages("pictures", done, total),
        )
    if json_out:
        write_json(report, json_out)
    print_report(report, out_console)
    if not report.sound:
        raise typer.Exit(1)


@app.command()
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
        raise _needs("train", exc) from exc
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


@app.command()
def serve(
    model: Annotated[Path | None, _flag("The model file. Required.", "MODEL")] = None,
    host: Annotated[str | None, _flag("Address to listen on.", "HOST")] = None,
    port: Annotated[int | None, _flag("Port to listen on.", "PORT")] = None,
    execution_provider: Annotated[
        ProviderName | None, _flag("Where the model runs; auto measures.", "EXECUTION_PROVIDER")
    ] = None,
    threads: Annotated[int | None, _flag("Threads of the session.", "THREADS")] = None,
    decode_workers: Annotated[int | None, _flag("Threads that decode.", "DECODE_WORKERS")] = None,
    max_batch_size: Annotated[int | None, _flag("Pictures in a batch.", "MAX_BATCH_SIZE")] = None,
    max_wait_ms: Annotated[
        float | None, _flag("Wait of a batch that is not full.", "MAX_WAIT_MS")
    ] = None,
    queue_size: Annotated[
        int | None, _flag("Pictures in flight; more get 429.", "QUEUE_SIZE")
    ] = None,
    max_bytes: Annotated[int | None, _flag("Bytes of one picture.", "MAX_BYTES")] = None,
    max_body_bytes: Annotated[int | None, _flag("Bytes of one request.", "MAX_BODY_BYTES")] = None,
    max_pixels: Annotated[int | None, _flag("Pixels of one picture.", "MAX_PIXELS")] = None,
    max_decode_pixels: Annotated[
        int | None, _flag("Pixels of large pictures decoded at once.", "MAX_DECODE_PIXELS")
    ] = None,
    max_inflight_bytes: Annotated[
        int | None, _flag("Bytes of all requests in flight; more get 429.", "MAX_INFLIGHT_BYTES")
    ] = None,
    max_files: Annotated[int | None, _flag("Pictures in one request.", "MAX_FILES")] = None,
    max_recent_bytes: Annotated[
        int | None, _flag("Bytes of recent pictures kept to be shown.", "MAX_RECENT_BYTES")
    ] = None,
    upload_timeout_s: Annotated[
        float | None, _flag("Seconds for reading a request; then 408.", "UPLOAD_TIMEOUT_S")
    ] = None,
    request_timeout_s: Annotated[
        float | None, _flag("Seconds until 504.", "REQUEST_TIMEOUT_S")
    ] = None,
) -> None:
    """Serve a model over HTTP: POST /v1/inspect, or open / in a browser."""
    from twonines.serving.server import run_server
    from twonines.settings import ServeSettings

    # A flag wins over its environment twin, which wins over the default.
    given = {name: value for name, value in locals().items() if name in ServeSettings.model_fields}
    run_server(ServeSettings.build(**{k: v for k, v in given.items() if v is not None}))


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    inputs: Annotated[list[str], typer.Argument(help="Folders, globs or files.")],
    out: Annotated[Path, typer.Option(help="Table: .parquet, .csv (no formulas) or .jsonl.")],
    fresh: Annotated[bool, typer.Option(help="Start again, forget an interrupted run.")] = False,
    max_bytes: Annotated[int, typer.Option(help="A larger file is an ERROR, unread.")] = 256 << 20,
    execution_provider: Provider = "auto",
) -> None:
    """Score files; exit 0 if all were inspected, 1 if some rows are ERROR."""
    from twonines.serving.score import score_paths

    with Stages() as stages:
        summary = score_paths(
            model,
            inputs,
            out,
            resume=not fresh,
            max_bytes=max_bytes,
            execution_provider=execution_provider,
            progress=lambda done, total: stages("pictures", done, total),
        )
    for remark in summary.remarks:
        typer.echo(remark, err=True)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in summary.counts.items())
    typer.echo(f"{summary.total} pictures: {counts}; {summary.images_per_second:.0f} a second")
    typer.echo(f"table: {out}")
    if summary.errors:
        raise typer.Exit(1)


@app.command()
def show(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    image: Annotated[Path, typer.Argument(help="One picture.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("overlay.png"),
    execution_provider: Provider = "cpu",
) -> None:
    """Inspect one picture and draw the verdict: where the model looks, and the regions."""
    from twonines.errors import ImageError
    from twonines.models.image import decode, encode_png
    from twonines.models.overlay import explain
    from twonines.models.session import InspectionSession

    session = InspectionSession.load(model, execution_provider=execution_provider)
    try:
        data = image.read_bytes()
    except OSError as exc:
        raise ImageError(f"image: {image} cannot be read ({exc.strerror})") from exc
    inspection, drawn = explain(session, decode(data))
    out.write_bytes(encode_png(drawn))
    typer.echo(f"{inspection.verdict} score {inspection.score} class {inspection.defect_class}")
    typer.echo(f"overlay: {out}")


@app.command()
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
        raise _needs("bench", exc) from exc
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


@app.command()
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
        raise _needs("demo", exc) from exc
    with Stages() as stages:
        lines = run_demo(out, seed=seed, report=stages)
    for name, value in lines:
        typer.echo(f"{name:28s} {value}")
