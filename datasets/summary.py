"""A check's report for people: tables and the first examples of every finding."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twonines.datasets.checks import CheckReport, Paths
from twonines.errors import SettingsError

EXAMPLES = 10
_BAR = 30


def write_json(report: CheckReport, path: Path) -> None:
    """Write the report for programs.

    Raises:
        SettingsError: the file cannot be written.
    """
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as exc:
        raise SettingsError(f"json: {path} must be writable ({exc.strerror or exc})") from exc


def print_report(report: CheckReport, console: Console) -> None:
    """Print it; paths stand whole on their lines, however narrow the console is."""
    _line(console, f"{report.card.title}: {report.pictures} pictures", "bold")
    _line(console, f"licence: {report.card.licence}")
    _line(console, f"traps: {report.card.traps}")
    _line(
        console,
        f"{report.defective_share:.1%} defective; largest class {report.imbalance:.1f} times the "
        f"smallest; {report.uncertain} labels unsure; {report.grouped} pictures in "
        f"{report.groups} groups",
    )
    console.print(_counts("class", report.counts))
    console.print(_counts("height x width", report.sizes))
    console.print(_counts("mode", report.modes))
    _examples(console, "unreadable", [f"{path}: {why}" for path, why in report.unreadable])
    for kind in sorted({kind for _, kind, _ in report.faults}):
        found = [f"{path}: {detail}" for path, k, detail in report.faults if k == kind]
        _examples(console, kind, found)
    _examples(console, "exact duplicates", _joined(report.exact_duplicates))
    _examples(console, "exact duplicates with different labels", _joined(report.conflicts))
    _examples(console, "look alike", _joined(report.near_duplicates))
    if report.split is not None:
        split = report.split
        counts = ", ".join(f"{count} {name}" for name, count in split.counts.items())
        _line(console, f"split: {split.kind} ({split.basis}); {counts}", "bold")
        _examples(console, "groups in training and test", split.groups)
        _examples(console, "copies in training and test", _joined(split.exact))
        _examples(console, "look alike in training and test", _joined(split.near))
    if report.sound:
        _line(console, "every picture can be read, and no copy or group crosses the split", "green")
    else:
        _line(console, "unsound: mend the set before it is taught", "bold red")


def _counts(heading: str, counts: dict[str, int]) -> Table:
    """Counts with bars, the largest full; the rarest of many are one row."""
    table = Table(box=None, pad_edge=False)
    table.add_column(heading)
    table.add_column("pictures", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown, rest = ranked[: 2 * EXAMPLES], ranked[2 * EXAMPLES :]
    rows = [(_text(name), count) for name, count in shown]
    if rest:
        rows.append((Text(f"{len(rest)} others"), sum(count for _, count in rest)))
    most = max((count for _, count in rows), default=1)
    for name, count in rows:
        table.add_row(name, str(count), "\u2588" * max(1, round(_BAR * count / most)))
    return table


def _examples(console: Console, heading: str, found: Sequence[str]) -> None:
    if not found:
        return
    _line(console, f"{heading}: {len(found)}", "bold yellow")
    for text in found[:EXAMPLES]:
        _line(console, f"  {text}")
    if len(found) > EXAMPLES:
        _line(console, f"  and {len(found) - EXAMPLES} more")


def _joined(clusters: Sequence[Paths]) -> list[str]:
    return [" = ".join(paths) for paths in clusters]


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(_text(text, style), soft_wrap=True, highlight=False)


def _text(text: str, style: str = "") -> Text:
    """Text as it is: names are no markup, and may hold bytes that no terminal takes."""
    return Text(text.encode("utf-8", "replace").decode("utf-8"), style=style)
