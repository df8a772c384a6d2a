"""Commands on data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from twonines.cli.display import Stages, needs, out_console
from twonines.cli.options import CardName, Root, Seed

datasets_app = typer.Typer(help="Look at data sets before they are taught.", no_args_is_help=True)


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
    """Show a set's card.

    Licence, tasks, classes, split, traps, download, published results.
    """
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
    """Download, check and unpack a set.

    Or say what to download and where to put it.
    """
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
    """Find faults, duplicates and leaks. Exit 1 if a set is unsound.

    Faults are unreadable files, and labels and masks that do not fit.

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
        raise needs("train", exc) from exc
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
