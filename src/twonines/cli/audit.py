"""Commands for the audit log."""

from pathlib import Path
from typing import Annotated

import typer

from twonines.cli.options import DATA_DIR, DatabaseUrl, DataDir
from twonines.cli.people import open_people, when

audit_app = typer.Typer(help="The log of who did what.", no_args_is_help=True)


@audit_app.command("verify")
def audit_verify(
    anchor: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the head of the log, best on another machine: the log must still "
            "hold what it names, and it is brought up to date where all is well."
        ),
    ] = None,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Find whether the log was changed.

    Exit 1 if a record was changed, removed or inserted; it is named.
    """
    from twonines.serving.people.audit import read_anchor, write_anchor

    with open_people(data_dir, database_url) as people:
        found = people.audit.verify(read_anchor(anchor) if anchor else None)
    if not found.is_sound:
        typer.echo(f"record {found.seq} {found.fault}")
        typer.echo(f"sound: the {found.records} records before it")
        raise typer.Exit(1)
    typer.echo(f"sound: {found.records} records")
    typer.echo(f"head: {found.head.seq} {found.head.digest}")
    if anchor:
        write_anchor(anchor, found.head)


@audit_app.command("list")
def audit_list(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only before this number.")] = None,
    data_dir: DataDir = DATA_DIR,
    database_url: DatabaseUrl = None,
) -> None:
    """Show records, newest first.

    Number, time, who, what, on what, and details.
    """
    from twonines.serving.people.audit import canonical

    with open_people(data_dir, database_url) as people:
        records = people.audit.newest(limit, before)
    for row in records:
        told = (str(row["seq"]), when(row["time_us"]), row["actor"], row["action"])
        typer.echo("\t".join((*told, row["subject"], canonical(row["details"]))))
