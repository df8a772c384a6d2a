"""The comparison on the terminal, as one page, and as JSON."""

from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twonines.benchmarks import plots
from twonines.benchmarks.report import find_template, plain, write_json
from twonines.benchmarks.throughput.aims import find_disturbance

MEBIBYTE = 2**20


def milliseconds(figure: dict[str, Any] | None) -> str:
    """A time in ms; a dash where there is none."""
    return "–" if figure is None else f"{1000 * figure['median']:.0f}"


def rate(figure: dict[str, Any] | None) -> str:
    """Pictures a second."""
    return "–" if figure is None else f"{figure['median']:.1f}"


def span(figure: dict[str, Any] | None) -> str:
    """The range over rounds; empty where there is one round or no figure."""
    if figure is None or len(figure["rounds"]) < 2:
        return ""
    return f"{figure['low']:.1f} to {figure['high']:.1f}"


def faults(row: dict[str, Any]) -> str:
    """What did not end in a right answer, in words; empty where all did."""
    names = ("refused", "errors", "unanswered", "wrong")
    return ", ".join(f"{row[name]} {name}" for name in names if row[name])


def shown_value(aim: dict[str, Any], key: str) -> str:
    """The value or target of an aim with its unit."""
    value = aim[key]
    if value is None:
        return "–"
    if aim["unit"] == "times":
        return f"{value:.2f} times"
    return f"{1000 * value:.1f} ms" if aim["unit"] == "s" else f"{100 * value:.0f} %"


def print_comparison(result: dict[str, Any], console: Console) -> None:
    """Print the limits, a table a server, what is missing, and the aims."""
    for label, limit in result["limits"].items():
        for words, many, one in (
            ("bare session", "session", "session_one_s"),
            ("decode + resize + session", "decode_resize_session", "decode_resize_session_one_s"),
        ):
            console.print(
                f"{words}, {label}: {_with_span(limit[many])} pictures/s, one alone "
                f"{milliseconds(limit[one])} ms", markup=False, highlight=False,
            )  # fmt: skip
    for server in result["servers"]:
        if server["rows"]:
            console.print(_table(server))
    notes = [f"{one['title']}, {one['label']}: failed, {one['error']}"
             for one in result["servers"] if one["error"]]  # fmt: skip
    notes += [f"{one['title']}: missing, {one['reason']}" for one in result["missing"]]
    notes += [
        f"{aim['name']}: {shown_value(aim, 'value')} (aim {shown_value(aim, 'target')}), "
        f"{aim['answer']}" + (f"; {aim['why']}" if aim["why"] else "")
        for aim in result["aims"]
    ]
    notes.append(generator_note(result))
    notes.append(disturbance_note(result))
    for note in filter(None, notes):
        console.print(Text(note), soft_wrap=True)


def _table(server: dict[str, Any]) -> Table:
    title = f"{server['title']}, {server['label']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("load", no_wrap=True)
    for heading in ("pictures/s", "p50", "p95", "p99 ms", "CPU ms", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("faults")
    for name, row in server["rows"].items():
        table.add_row(
            name, _with_span(row["per_second"]), milliseconds(row["p50_s"]),
            milliseconds(row["p95_s"]), milliseconds(row["p99_s"]),
            milliseconds(row["cpu_per_picture_s"]),
            f"{row['memory_bytes']['median'] / MEBIBYTE:.0f}", faults(row),
        )  # fmt: skip
    return table


def _with_span(figure: dict[str, Any]) -> str:
    if not span(figure):
        return rate(figure)
    return f"{figure['median']:.0f} ({figure['low']:.0f}-{figure['high']:.0f})"


def generator_note(result: dict[str, Any]) -> str:
    """How much the load generator took, and whether it was the bottleneck."""
    rows = [row for server in result["servers"] for row in server["rows"].values()]
    if not rows:
        return "load generator: nothing was measured"
    share = max(row["generator_share"]["high"] for row in rows)
    late = max(row["late_p99_s"]["high"] for row in rows if row["late_p99_s"])
    return (
        f"load generator: at most {100 * share:.0f} % of one of {result['cores']} cores, which it "
        f"shares with the servers; requests left at most {1000 * late:.0f} ms late (p99)"
    )


def disturbance_note(result: dict[str, Any]) -> str:
    """That other programs spoilt the figures; empty where they did not."""
    doubt = find_disturbance(result)
    return doubt and f"these figures are unreliable: {doubt}"


def write_comparison(result: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Write ``throughput.html`` and ``throughput.json`` into ``out``; gives both paths."""
    out.mkdir(parents=True, exist_ok=True)
    page, data = out / "throughput.html", out / "throughput.json"
    shown = plain(result)
    drawn = {"closed": plots.plot_closed(shown), "open": plots.plot_open(shown)}
    text = find_template("throughput.html.j2").render(
        r=shown, plots={name: Markup(svg) for name, svg in drawn.items()},
        ms=milliseconds, rate=rate, span=span, faults=faults, value=shown_value,
        generator=generator_note(shown), disturbance=disturbance_note(shown), mebibyte=MEBIBYTE,
    )  # fmt: skip
    page.write_text(text, encoding="utf-8")
    write_json(result, data)
    return page, data
