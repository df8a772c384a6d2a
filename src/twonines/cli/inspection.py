"""Commands that inspect."""

from pathlib import Path
from typing import Annotated

import typer

from twonines.cli.display import Stages
from twonines.cli.options import Provider, ProviderName, flag


def serve(
    model: Annotated[Path | None, flag("The model file. Required.", "MODEL")] = None,
    host: Annotated[str | None, flag("Address to listen on.", "HOST")] = None,
    port: Annotated[int | None, flag("Port to listen on.", "PORT")] = None,
    execution_provider: Annotated[
        ProviderName | None, flag("Where the model runs; auto measures.", "EXECUTION_PROVIDER")
    ] = None,
    threads: Annotated[int | None, flag("Threads of the session.", "THREADS")] = None,
    decode_workers: Annotated[int | None, flag("Threads that decode.", "DECODE_WORKERS")] = None,
    max_batch_size: Annotated[int | None, flag("Pictures in a batch.", "MAX_BATCH_SIZE")] = None,
    max_wait_ms: Annotated[
        float | None, flag("Wait of a batch that is not full.", "MAX_WAIT_MS")
    ] = None,
    queue_size: Annotated[
        int | None, flag("Pictures in flight; more get 429.", "QUEUE_SIZE")
    ] = None,
    max_bytes: Annotated[int | None, flag("Bytes of one picture.", "MAX_BYTES")] = None,
    max_body_bytes: Annotated[int | None, flag("Bytes of one request.", "MAX_BODY_BYTES")] = None,
    max_pixels: Annotated[int | None, flag("Pixels of one picture.", "MAX_PIXELS")] = None,
    max_decode_pixels: Annotated[
        int | None, flag("Pixels of large pictures decoded at once.", "MAX_DECODE_PIXELS")
    ] = None,
    max_inflight_bytes: Annotated[
        int | None, flag("Bytes of all requests in flight; more get 429.", "MAX_INFLIGHT_BYTES")
    ] = None,
    max_files: Annotated[int | None, flag("Pictures in one request.", "MAX_FILES")] = None,
    max_recent_bytes: Annotated[
        int | None, flag("Bytes of recent pictures kept to be shown.", "MAX_RECENT_BYTES")
    ] = None,
    upload_timeout_s: Annotated[
        float | None, flag("Seconds for reading a request; then 408.", "UPLOAD_TIMEOUT_S")
    ] = None,
    request_timeout_s: Annotated[
        float | None, flag("Seconds until 504.", "REQUEST_TIMEOUT_S")
    ] = None,
) -> None:
    """Serve a model over HTTP: POST /v1/inspect, or open / in a browser."""
    from twonines.serving.server import run_server
    from twonines.settings import ServeSettings

    # A flag wins over its environment twin, which wins over the default.
    given = {name: value for name, value in locals().items() if name in ServeSettings.model_fields}
    run_server(ServeSettings.build(**{k: v for k, v in given.items() if v is not None}))


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
