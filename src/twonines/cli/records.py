"""Commands on the records of a service."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twonines.cli.display import out_console
from twonines.cli.options import DATA_DIR, DatabaseUrl, DataDir, PicturesUrl, Provider
from twonines.errors import GateError, UnknownError

if TYPE_CHECKING:
    from twonines.serving.store.query import Filters
    from twonines.serving.store.records import Records

records_app = typer.Typer(
    help="Look into what a service has recorded, also while it serves.", no_args_is_help=True
)
Line = Annotated[str | None, typer.Option(help="Of this line.")]
Station = Annotated[str | None, typer.Option(help="Of this station.")]
Part = Annotated[str | None, typer.Option("--part", help="Of this part.")]
Lot = Annotated[str | None, typer.Option(help="Of this lot.")]
VerdictName = Annotated[
    Literal["OK", "NG", "REVIEW", "ERROR"] | None, typer.Option("--verdict", help="The model's.")
]
DefectClass = Annotated[str | None, typer.Option("--class", help="Defect class.")]
Model = Annotated[str | None, typer.Option(help="Name, or digest of the file.")]
Since = Annotated[str | None, typer.Option(help="From this time on, ISO 8601.")]
Until = Annotated[str | None, typer.Option(help="Before this time.")]


@contextmanager
def _opened(
    data_dir: Path, database_url: str | None, pictures_url: str | None
) -> "Iterator[Records]":
    from twonines.serving.store.opening import open_database, open_records

    database = open_database(data_dir, database_url, exists=True)
    records = open_records(database, data_dir, pictures_url)
    try:
        yield records
    finally:
        records.close()
        database.close()


def _filters(since: str | None, until: str | None, **given: Any) -> "Filters":
    from twonines.serving.record_filters import read_time
    from twonines.serving.store.query import Filters

    return Filters(
        since_us=None if since is None else read_time("since", since),
        until_us=None if until is None else read_time("until", until),
        **given,
    )


@records_app.command("list")
def records_list(
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    line: Line = None,
    station: Station = None,
    part_id: Part = None,
    lot: Lot = None,
    verdict: VerdictName = None,
    defect_class: DefectClass = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="Newest so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List inspections, newest first."""
    from rich.table import Table

    filters = _filters(
        since, until, line=line, station=station, part_id=part_id, lot=lot, verdict=verdict,
        defect_class=defect_class, model=model,
    )  # fmt: skip
    with _opened(data_dir, database_url, None) as records:
        found = [one.public() for one in records.query(filters, limit=limit).items]
    if as_json:
        for one in found:
            typer.echo(json.dumps(one, ensure_ascii=False))
        return
    shown = ("time", "id", "part_id", "lot", "station", "verdict", "decision", "class", "score")
    table = Table(*shown, box=None)
    for one in found:
        table.add_row(*(_cell(one[name]) for name in shown))
    out_console.print(table)


def _cell(value: Any) -> Any:
    from rich.text import Text

    return Text("" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value))


@records_app.command("show")
def records_show(
    inspection_id: Annotated[str, typer.Argument(help="Id of the inspection.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    pictures_url: PicturesUrl = None,
    picture: Annotated[Path | None, typer.Option(help="Write its picture here.")] = None,
) -> None:
    """Show one inspection as JSON, with reviews and findings."""
    with _opened(data_dir, database_url, pictures_url) as records:
        found = records.get(inspection_id)
        told = {
            **found.public(),
            "reviews": [one.public() for one in records.reviews(inspection_id)],
            "findings": [one.public() for one in records.findings_of(inspection_id)],
        }
        if picture is not None:
            picture.write_bytes(records.picture(inspection_id)[0])
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False))


@records_app.command("export")
def records_export(
    out: Annotated[Path, typer.Option(help="Table (.csv, .parquet), or a new folder for COCO.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    pictures_url: PicturesUrl = None,
    line: Line = None,
    station: Station = None,
    part_id: Part = None,
    lot: Lot = None,
    verdict: VerdictName = None,
    defect_class: DefectClass = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    all_labels: Annotated[
        bool, typer.Option(help="COCO: the model's own verdict where nobody has decided.")
    ] = False,
) -> None:
    """Write a table, or a set to teach from (--dataset coco)."""
    from twonines.serving.store.coco import export_coco
    from twonines.serving.store.export import export_table

    filters = _filters(
        since, until, line=line, station=station, part_id=part_id, lot=lot, verdict=verdict,
        defect_class=defect_class, model=model,
    )  # fmt: skip
    with _opened(data_dir, database_url, pictures_url) as records:
        if out.suffix:
            typer.echo(f"{export_table(records, filters, out)} inspections: {out}")
            return
        count, left_out = export_coco(records, filters, out, all_labels=all_labels)
    typer.echo(f"{count} pictures; {left_out} left out, theirs are not kept: {out}")
    typer.echo(f"read it with: --dataset coco --root {out}")


@records_app.command("purge")
def records_purge(
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    pictures_url: PicturesUrl = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Records older than this go, with pictures.")
    ] = None,
    ok_picture_days: Annotated[
        float | None, typer.Option(min=0, help="Pictures of OK parts older than this go.")
    ] = None,
) -> None:
    """Delete what is old. Never what a person must look at or a finding names."""
    from twonines.serving.store.purge import days_ago, purge

    before, ok_before = days_ago(days), days_ago(ok_picture_days)
    with _opened(data_dir, database_url, pictures_url) as records:
        gone = purge(records, before_us=before, ok_pictures_before_us=ok_before, orphans=True)
    typer.echo(
        f"purged {gone.records} records, {gone.pictures} pictures ({gone.bytes / 1e6:.1f} MB) and "
        f"{gone.orphans} files that no record names"
    )


@records_app.command("regression")
def records_regression(
    model: Annotated[Path, typer.Option(help="The new model file.")],
    against: Annotated[Path | None, typer.Option(help="The model that it replaces.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Model whose findings are tried; default: by its card.")
    ] = None,
    reviewed: Annotated[
        int, typer.Option(min=0, max=1000, help="Also the newest so many decided inspections.")
    ] = 200,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    pictures_url: PicturesUrl = None,
    execution_provider: Provider = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Try a model on all that was found downstream. Exit 3 where it loses something.

    Without --against a finding counts as missed before, and a decided inspection as it was judged.
    """
    from twonines.models.session import InspectionSession
    from twonines.serving.store.query import Filters
    from twonines.serving.store.regression import compare

    new = InspectionSession.load(model, execution_provider=execution_provider)
    old = against and InspectionSession.load(against, execution_provider=execution_provider)
    name = name or new.card.name
    with _opened(data_dir, database_url, pictures_url) as records:
        cases = records.cases(name)
        others = [] if cases else sorted({case.model_name for case in records.cases()})
        if others:
            raise UnknownError(f"name: must be one of {', '.join(others)}, got {name!r}")
        decided = records.query(Filters(model=name, decided=True), limit=reviewed).items if (
            reviewed) else ()  # fmt: skip
        found = compare(records.pictures, cases, new, old or None, decided)
    if as_json:
        typer.echo(json.dumps(found.public(), indent=2))
    else:
        _print_regression(found)
    if found.lost or found.worse:
        raise GateError(
            f"model: must lose nothing, it loses {len(found.lost)} of {len(found.cases)} findings "
            f"and {len(found.worse)} of {len(found.reviewed)} decided inspections"
        )


def _print_regression(found: Any) -> None:
    from rich.table import Table

    words = {True: "right", False: "wrong"}
    table = Table("subject", "kind", "before", "after", "verdicts now", box=None)
    for one in (*found.cases, *found.worse):
        row = (one.subject, one.kind, words[one.before], words[one.after], " ".join(one.verdicts))
        table.add_row(*map(_cell, row))
    out_console.print(table)
    typer.echo(
        f"findings: {sum(one.before for one in found.cases)} of {len(found.cases)} right before, "
        f"{sum(one.after for one in found.cases)} now; decided inspections: "
        f"{len(found.worse)} of {len(found.reviewed)} worse"
    )


def backup(
    out: Annotated[Path, typer.Option(help="The .tar to write.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
    pictures_url: PicturesUrl = None,
) -> None:
    """Write all that is kept into one file.

    Records, pictures, reports and sets, also while the service runs.
    """
    from twonines.serving.store.backup import backup as run

    manifest = run(data_dir, out, database_url=database_url, pictures_url=pictures_url)
    typer.echo(f"{len(manifest['files'])} files: {out}")


def restore(
    source: Annotated[Path, typer.Argument(help="The backup.")],
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a data directory from a backup. It must be empty or not exist yet."""
    from twonines.serving.store.backup import restore as run

    manifest = run(source, data_dir, database_url=database_url)
    typer.echo(f"{len(manifest['files'])} files, all as they were: {data_dir}")
