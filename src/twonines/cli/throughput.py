"""The command that compares servers."""

from pathlib import Path
from typing import Annotated

import typer

from twonines.cli.display import err, needs, out_console
from twonines.cli.options import Seed
from twonines.errors import SettingsError

SUFFIXES = (".jpg", ".jpeg", ".png")


def bench_throughput(
    model: Annotated[Path, typer.Option(help="The model file.")],
    pictures: Annotated[Path, typer.Option(help="Folder of JPEG and PNG pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the page and the JSON.")],
    clients: Annotated[
        str, typer.Option(help="Clients at once in closed loops, with commas.")
    ] = "1,8,64,256",
    load: Annotated[
        str, typer.Option(help="Poisson arrivals, % of a server's best closed loop; may be ''.")
    ] = "50,80,95,300",
    seconds: Annotated[float, typer.Option(help="Seconds of each load.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="Rounds; every server is started in each.")] = 3,
    servers: Annotated[str | None, typer.Option(help="Names with commas; default all.")] = None,
    peers: Annotated[
        bool, typer.Option(help="Install missing peers, each into its own environment.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of these environments; default the user's cache.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Compare the service with others over HTTP.

    Writes throughput.html and throughput.json.

    Beside it: the bare session, decode and resize with the session, a plain FastAPI handler,
    LitServe, BentoML, mosec, Ray Serve and PyTriton. All are up at once (about 1 GB each, Ray 2)
    and take each load in turns, the others suspended. 1 if a server that ran answered wrong.
    """
    try:
        from twonines.benchmarks.throughput.comparison import compare
        from twonines.benchmarks.throughput.output import print_comparison, write_comparison
        from twonines.benchmarks.throughput.servers import SERVERS
        from twonines.benchmarks.throughput.variants import CompareOptions
    except ImportError as exc:
        raise needs("bench", exc) from exc
    given = {} if cache is None else {"cache": cache}
    options = CompareOptions(
        clients=parse_numbers("clients", clients),
        load=parse_numbers("load", load),
        seconds=seconds,
        rounds=rounds,
        servers=tuple(SERVERS) if servers is None else tuple(servers.split(",")),
        peers=peers,
        seed=seed,
        **given,
    )
    result = compare(
        model,
        find_pictures(pictures),
        options,
        lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    page, _ = write_comparison(result, out)
    print_comparison(result, out_console)
    typer.echo(f"page: {page}")
    if any(server["wrong"] for server in result["servers"]):
        raise typer.Exit(1)


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas; none where the text is empty.

    Raises:
        SettingsError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise SettingsError(f"{name}: must be whole numbers with commas, got {text!r}") from exc


def find_pictures(folder: Path) -> list[Path]:
    """JPEG and PNG files under a folder, sorted.

    Raises:
        SettingsError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SettingsError(f"pictures: {folder} must hold {', '.join(SUFFIXES)} files, got none")
    return found
