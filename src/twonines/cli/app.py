"""The command and its subcommands."""

import sys
from typing import Annotated

import typer

from twonines import __version__
from twonines.cli.data import datasets_app
from twonines.cli.display import err
from twonines.cli.inspection import score, serve, show
from twonines.cli.prove import bench, demo, train
from twonines.errors import TwoninesError

app = typer.Typer(
    help="Industrial visual inspection: teach, serve, score and prove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(datasets_app, name="datasets")
for _command in (train, serve, score, show, bench, demo):
    app.command()(_command)


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
