"""Commands that inspect."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from twonines.cli.display import Stages, needs
from twonines.cli.options import DATA_DIR, Provider, ProviderName, flag
from twonines.errors import SettingsError
from twonines.types import Image


def serve(
    model: Annotated[Path | None, flag("The model file. It or --model-dir.", "MODEL")] = None,
    model_dir: Annotated[
        Path | None, flag("Folder of models: <name>/<version>/model.onnx.", "MODEL_DIR")
    ] = None,
    default_model: Annotated[
        str | None, flag("Answers where a request names no model.", "DEFAULT_MODEL")
    ] = None,
    references: Annotated[
        Path | None, flag("Folder of references, for a model that compares.", "REFERENCES")
    ] = None,
    watch_state: Annotated[
        Path | None,
        flag("Folder that keeps withdrawn certificates; default: the model's.", "WATCH_STATE"),
    ] = None,
    console: Annotated[
        bool,
        typer.Option(
            envvar="TWONINES_CONSOLE", help="Open the console at /, where its extra is installed."
        ),
    ] = True,
    two_person: Annotated[
        bool | None,
        flag(
            "A second person must approve an activation. Users are then made, enabled, and given "
            "passwords and higher roles by `twonines users` alone, not over HTTP.",
            "TWO_PERSON",
        ),
    ] = None,
    login_idle_s: Annotated[
        float | None, flag("Seconds without use until a login ends.", "LOGIN_IDLE_S")
    ] = None,
    login_max_s: Annotated[
        float | None, flag("Seconds until a login ends in any case.", "LOGIN_MAX_S")
    ] = None,
    insecure_no_login: Annotated[
        bool | None,
        flag("Whoever reaches the service may do everything.", "INSECURE_NO_LOGIN"),
    ] = None,
    trusted_proxies: Annotated[
        str | None,
        flag("Whose X-Forwarded-For counts: addresses, networks; default none.", "TRUSTED_PROXIES"),
    ] = None,
    host: Annotated[str | None, flag("Address to listen on.", "HOST")] = None,
    port: Annotated[int | None, flag("Port to listen on.", "PORT")] = None,
    execution_provider: Annotated[
        ProviderName | None, flag("Where the model runs; auto measures.", "EXECUTION_PROVIDER")
    ] = None,
    threads: Annotated[int | None, flag("Threads of the session.", "THREADS")] = None,
    decode_workers: Annotated[int | None, flag("Threads that decode.", "DECODE_WORKERS")] = None,
    max_batch_size: Annotated[int | None, flag("Pictures in a batch.", "MAX_BATCH_SIZE")] = None,
    max_wait_ms: Annotated[
        float | None, flag("Longest wait for a fuller batch, where it pays.", "MAX_WAIT_MS")
    ] = None,
    queue_size: Annotated[
        int | None, flag("Pictures in flight; more get 429.", "QUEUE_SIZE")
    ] = None,
    max_predicted_s: Annotated[
        float | None, flag("Predicted seconds until an answer; more get 429.", "MAX_PREDICTED_S")
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
    max_tiles: Annotated[
        int | None, flag("Tiles of one picture; more get 422.", "MAX_TILES")
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
    session_timeout_s: Annotated[
        float | None,
        flag("A run that takes longer hangs; the session is replaced.", "SESSION_TIMEOUT_S"),
    ] = None,
    drain_delay_s: Annotated[
        float | None, flag("Seconds of 503 at /readyz before the service ends.", "DRAIN_DELAY_S")
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None, flag("Form of the log.", "LOG_FORMAT")
    ] = None,
    log_requests: Annotated[
        bool | None, flag("Log a line for every request.", "LOG_REQUESTS")
    ] = None,
    data_dir: Annotated[
        Path | None, flag("Folder of records and pictures; default: twonines-data.", "DATA_DIR")
    ] = None,
    no_records: Annotated[
        bool, typer.Option("--no-records", help="Record nothing; not with --data-dir.")
    ] = False,
    database_url: Annotated[
        str | None, flag("PostgreSQL in place of the file in the folder.", "DATABASE_URL")
    ] = None,
    pictures_url: Annotated[
        str | None, flag("Where pictures go in place of the folder, s3://...", "PICTURES_URL")
    ] = None,
    records_failure: Annotated[
        Literal["review", "refuse"] | None,
        flag("What cannot be recorded: OK becomes REVIEW, or 503.", "RECORDS_FAILURE"),
    ] = None,
    keep_pictures: Annotated[
        Literal["all", "ng-review", "none"] | None, flag("Pictures to keep.", "KEEP_PICTURES")
    ] = None,
    keep_ok_share: Annotated[
        float | None, flag("Share of OK pictures kept with ng-review.", "KEEP_OK_SHARE")
    ] = None,
    retention_days: Annotated[
        float | None, flag("Older records and pictures are purged.", "RETENTION_DAYS")
    ] = None,
    ok_picture_days: Annotated[
        float | None, flag("Older pictures of OK parts are purged.", "OK_PICTURE_DAYS")
    ] = None,
    reviewers: Annotated[int | None, flag("Persons who decide a REVIEW.", "REVIEWERS")] = None,
    review_ok_share: Annotated[
        float | None, flag("Share of OK parts that persons look at too.", "REVIEW_OK_SHARE")
    ] = None,
) -> None:
    """Serve models over HTTP.

    Send pictures to POST /v1/inspect, or open / in a browser.
    """
    from twonines.serving.server import run_server
    from twonines.settings import ServeSettings

    # A flag wins over its environment twin, which wins over the default.
    given = {name: value for name, value in locals().items() if name in ServeSettings.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    if no_records:
        if data_dir is not None:
            raise SettingsError(f"no_records: must stand without --data-dir, got {data_dir}")
        given["data_dir"] = None
    elif "TWONINES_DATA_DIR" not in os.environ:
        given.setdefault("data_dir", DATA_DIR)
    run_server(ServeSettings.build(**given))


def score(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    inputs: Annotated[list[str], typer.Argument(help="Folders, globs or files.")],
    out: Annotated[Path, typer.Option(help="Table: .parquet, .csv (no formulas) or .jsonl.")],
    fresh: Annotated[bool, typer.Option(help="Start again, forget an interrupted run.")] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Where each picture's reference lies, for a model that compares: one file for "
            "all, or a template with {folder}, {folder_name}, {stem}, {head} (the stem up to its "
            "last underscore) and {suffix}, such as '{folder}/{head}_temp.jpg'."
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option(help="A larger file is an ERROR, unread.")] = 256 << 20,
    max_tiles: Annotated[int, typer.Option(help="A picture of more tiles is an ERROR.")] = 1024,
    execution_provider: Provider = "auto",
) -> None:
    """Score files into a table. Exit 0 if all were inspected, 1 if some rows are ERROR."""
    from twonines.serving.score import score_paths

    with Stages() as stages:
        summary = score_paths(
            model,
            inputs,
            out,
            resume=not fresh,
            reference=reference,
            max_bytes=max_bytes,
            max_tiles=max_tiles,
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
    reference: Annotated[
        Path | None,
        typer.Option(help="The part without defects, for a model that compares."),
    ] = None,
    max_tiles: Annotated[int, typer.Option(help="A picture of more tiles is refused.")] = 1024,
    execution_provider: Provider = "cpu",
) -> None:
    """Inspect one picture and draw the verdict.

    Shows where the model looks, and the regions.
    """
    from twonines.models.image import encode_png, naming
    from twonines.models.inspector import Inspector
    from twonines.models.overlay import explain
    from twonines.models.session import InspectionSession

    session = InspectionSession.load(model, execution_provider=execution_provider)
    golden = None if reference is None else _read_reference(reference)
    inspector = Inspector(session, max_tiles=max_tiles)
    with naming(image):
        inspection, drawn = explain(inspector, image.read_bytes(), golden)
    try:
        out.write_bytes(encode_png(drawn))
    except OSError as exc:
        raise SettingsError(f"out: {out} must be writable ({exc.strerror or exc})") from exc
    typer.echo(f"{inspection.verdict} score {inspection.score} class {inspection.defect_class}")
    typer.echo(f"overlay: {out}")


def _read_reference(path: Path) -> Image:
    from twonines.errors import ImageError
    from twonines.models.image import decode

    try:
        return decode(path.read_bytes())
    except OSError as exc:
        raise ImageError(f"reference: {path} cannot be read ({exc.strerror})") from exc
    except ImageError as exc:
        raise type(exc)(f"reference: {path}: {exc}") from exc


def tile(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    overlap: Annotated[
        float, typer.Option(help="Share of a tile's side that neighbours have in common.")
    ] = 0.25,
    scale: Annotated[
        float, typer.Option(help="Pictures are resized by this factor before they are cut.")
    ] = 1.0,
    good: Annotated[
        Path | None,
        typer.Option(help="Folder of large pictures of good parts; sets threshold and limits."),
    ] = None,
    max_tiles: Annotated[int, typer.Option(help="A good picture of more is refused.")] = 1024,
) -> None:
    """Let a model look at large pictures in tiles of its input.

    The new file keeps the weights. Metrics, certificate and the limits of quality and novelty are
    taken off its card, since they were measured on whole inputs. A picture of many tiles has as
    many chances of a false alarm: give --good, so that threshold and limits are set in tiles.
    """
    try:
        from twonines.training.merged import HIGHEST, most_rejected
        from twonines.training.retile import tile_model
    except ImportError as exc:
        raise needs("train", exc) from exc
    with Stages() as stages:
        card = tile_model(
            model, out, overlap=overlap, scale=scale, good=good, max_tiles=max_tiles, report=stages
        )
    height, width = card.input_size
    typer.echo(f"tiles {height} high, {width} wide, overlap {overlap:g}, scale {scale:g}")
    if card.quality is None:
        typer.echo(
            f"threshold {card.policy.threshold:.4g} as without tiles, no limits of quality and "
            "novelty: set all three with --good FOLDER, large pictures of good parts",
            err=True,
        )
    else:
        count, highest = card.quality.n, card.calibration.parameters[HIGHEST]
        typer.echo(
            f"threshold {card.policy.threshold:.4g}, above {highest:.4g}, "
            f"the highest score of {count} good pictures; of others at most "
            f"{most_rejected(count):.1%} score higher than these (95 % confidence)"
        )
    typer.echo(f"model: {out}")


def export(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    triton: Annotated[Path, typer.Option(help="Folder of the repository to write into.")],
    max_batch_size: Annotated[int, typer.Option(help="Pictures in a batch, at most.")] = 32,
) -> None:
    """Write a model repository that Triton takes."""
    from twonines.models.triton import export_triton

    typer.echo(f"model: {export_triton(model, triton, max_batch_size=max_batch_size)}")
