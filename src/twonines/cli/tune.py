"""The command that tunes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twonines.cli.display import Stages, needs, out_console
from twonines.cli.options import Root
from twonines.errors import SettingsError

_WIDEST = 120
_HEADINGS = ("provider", "precision", "cpus", "runs", "batch", "per s", "range", "ms", "shift",
             "for")  # fmt: skip


def tune(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    latency_ms: Annotated[float, typer.Option(help="Longest median run of a served batch.")] = 50.0,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of pictures like those of the line.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Or the set it was taught on: its calibration split.")
    ] = None,
    root: Root = None,
    rounds: Annotated[int, typer.Option(help="Measured rounds, in alternating order.")] = 5,
    minutes: Annotated[float, typer.Option(help="No new round begins after so many.")] = 1.5,
    pictures: Annotated[int, typer.Option(help="Calibration pictures to take, at most.")] = 200,
    quick: Annotated[bool, typer.Option(help="Fewer batch sizes and rounds.")] = False,
) -> None:
    """Find what runs fastest here and keeps the verdicts.

    That is a provider, a precision, threads and batch sizes.

    The choice lies beside the model (model.tuned.json) and holds on this machine alone; `serve`
    and `score` follow it. Without pictures only float32 is tried. In the table, `cpus` are the
    threads of a run, `runs` how many go on at once, `ms` what a batch takes, and `shift` is the
    largest change of a score.
    """
    from rich.console import Console
    from rich.table import Column, Table

    try:
        from twonines.benchmarks.timing import TuneOptions
        from twonines.benchmarks.tune import tune as run
    except ImportError as exc:
        raise needs("bench", exc) from exc
    options = TuneOptions(
        latency_ms=latency_ms, rounds=rounds, minutes=minutes, pictures=pictures, quick=quick
    )
    chosen = _find(model, calibration, dataset, root)
    with Stages() as stages:
        tuned = run(model, chosen, options, stages)
    table = Table(*(Column(name, no_wrap=True) for name in _HEADINGS), box=None, pad_edge=False)
    for row in tuned.rows:
        if "per_second" in row:
            table.add_row(*_cells(row))
    # Wider than a narrow terminal where it must be: a figure that is cut is none.
    Console(width=max(out_console.width, _WIDEST)).print(table)
    for row in tuned.rows:
        if "per_second" not in row:
            # Whole lines: in a column of a table the reason would be cut to pieces.
            typer.echo(
                f"not measured: {row['execution_provider']} {row['precision']}, {row['note']}"
            )
    if not tuned.latency_met:
        typer.echo(f"nothing runs within {latency_ms:g} ms; the shortest run was chosen", err=True)
    typer.echo(f"serve: {tuned.serve.text}, {tuned.serve.per_second:.0f} a second")
    typer.echo(f"score: {tuned.batch.text}, {tuned.batch.per_second:.0f} a second")


def _find(
    model: Path, calibration: Path | None, dataset: str | None, root: Path | None
) -> list[tuple[Path, Path | None]]:
    if calibration is not None and dataset is not None:
        raise SettingsError("calibration: must be a folder or a data set, got both")
    if calibration is not None:
        from twonines.serving.files import find_pictures

        found = find_pictures([str(calibration)], "calibration")
        return [(path, None) for path in found.paths]
    if dataset is None:
        return []
    try:
        from twonines.benchmarks.evaluate import rebuild_split
        from twonines.datasets.registry import load_dataset
        from twonines.models.session import InspectionSession
    except ImportError as exc:
        raise needs("bench", exc) from exc
    card = InspectionSession.load(model, execution_provider="cpu").card
    records = rebuild_split(card, load_dataset(dataset, root)).calibration
    return [(r.path, r.reference if card.reference else None) for r in records]


def _cells(row: Mapping[str, Any]) -> list[str]:
    shift = f"{row['score_shift']:.0e}" if row["score_shift"] else "-"
    return [
        row["execution_provider"], row["precision"], str(row["threads"]), str(row["streams"]),
        str(row["max_batch_size"]), _pace(row["per_second"]),
        f"{_pace(row['low'])}-{_pace(row['high'])}", f"{row['run_ms']:.0f}", shift,
        row["note"].removeprefix("chosen for "),
    ]  # fmt: skip


def _pace(per_second: float) -> str:
    return f"{per_second:.1f}" if per_second < 1000 else f"{per_second:.0f}"
