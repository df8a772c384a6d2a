"""The command and its subcommands."""

import sys
from typing import Annotated

import typer

from twonines import __version__
from twonines.cli.audit import audit_app
from twonines.cli.certify import certify
from twonines.cli.data import datasets_app
from twonines.cli.display import err
from twonines.cli.inspection import export, score, serve, show, tile
from twonines.cli.people import keys_app, usage, users_app
from twonines.cli.prove import bench_app, demo, train
from twonines.cli.records import backup, records_app, restore
from twonines.cli.study import study_app
from twonines.cli.throughput import bench_throughput
from twonines.cli.tune import tune
from twonines.errors import InputError, TwoninesError

app = typer.Typer(
    help="Industrial visual inspection: teach, serve, score and prove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut long names, which are there to be copied
)
app.add_typer(datasets_app, name="datasets")
app.add_typer(bench_app, name="bench")
app.add_typer(study_app, name="study")
app.add_typer(users_app, name="users")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_app, name="audit")
app.add_typer(records_app, name="records")
bench_app.command("throughput")(bench_throughput)
_COMMANDS = (
    train, certify, tune, serve, score, show, tile, export, usage, backup, restore, demo
)  # fmt: skip
for _command in _COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line; errors of ours end it with their exit code and a plain message."""
    try:
        app()
    except TwoninesError as exc:
        _end(str(exc), exc.exit_code)
    except OSError as exc:
        if exc.filename is None:  # no file is at fault, so that whoever reads it needs the place
            raise
        _end(f"{exc.filename}: cannot be read or written ({exc.strerror})", InputError.exit_code)


def _end(message: str, code: int) -> None:
    # Not wrapped: a path that was split over lines can be neither copied nor searched for.
    err.print(f"error: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


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
