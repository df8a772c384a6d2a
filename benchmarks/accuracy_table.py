"""The table of the accuracy benchmark: on the terminal, as one page, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twonines.benchmarks.report import find_template

COLUMNS = {
    "auroc": "image AUROC",
    "average_precision": "AP",
    "accuracy": "accuracy",
    "accuracy_sure": "accuracy, sure labels",
    "balanced_accuracy": "balanced accuracy",
    "typing_accuracy": "typing",
    "pixel_average_precision": "pixel AP",
    "aupro": "AUPRO",
    "iou": "IoU of defects",
    "best_iou": "best IoU",
    "mean_iou": "mean IoU",
    "map_50": "mAP50",
    "map_50_95": "mAP50-95",
    "map_33": "mAP at IoU 0.33",
    "f_33": "F at IoU 0.33",
    "best_f_33": "best F at IoU 0.33",
}
_ALWAYS = ("auroc", "average_precision", "accuracy", "balanced_accuracy",
           "pixel_average_precision", "aupro", "mean_iou", "map_50", "map_50_95")  # fmt: skip
LEAK = "†"
ORACLE = "*"


def shown_columns(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns that every table has, and those that a row has a figure for."""
    used = {name for row in rows for name in row["figures"]}
    return {name: text for name, text in COLUMNS.items() if name in _ALWAYS or name in used}


def cell(figure: dict[str, Any] | None) -> tuple[str, tuple[str, str]]:
    """A figure in per cent with its spread, its interval, and what it was counted over."""
    if figure is None or figure["value"] is None:
        return "-", ("", "")
    value = f"{100 * figure['value']:.1f}" + (ORACLE if figure.get("oracle") else "")
    marks = f", {figure['instances']} marks" if "instances" in figure else ""
    count = f"n={figure['n']}{marks}"
    if "trials" in figure:
        return f"{value} ± {100 * (figure['sd'] or 0):.1f}", ("", count)
    if figure["low"] is None:
        return value, ("", count)
    return value, (f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}", count)


def row_facts(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says beside its figures; several trials are summed up."""
    trials = row["trials"]
    if not trials:
        return {"split": "-", "basis": "", "leaks": [], "seconds": None, "per_second": None,
                "parameters": None, "task": "-"}  # fmt: skip
    first = trials[0]
    return {
        "split": first["split"]["kind"] + (f", {len(trials)} trials" if len(trials) > 1 else ""),
        "basis": first["split"]["basis"],
        "leaks": sorted({leak for trial in trials for leak in trial["split"]["leaks"]}),
        # The first: later ones are taught on a machine that is warm.
        "seconds": first["seconds"],
        "per_second": first["per_second"],
        "parameters": first["parameters"],
        "task": first["task"],
    }


def print_table(result: dict[str, Any], console: Console) -> None:
    """Print a line a figure, for no terminal is as wide as the page; warnings stand below."""
    table = Table(title="accuracy", title_justify="left")
    for heading in ("set, recipe, split", "figure", "per cent", "95 % interval", "of"):
        table.add_column(heading, justify="right" if heading == "per cent" else "left")
    for row in result["rows"]:
        for place, line in enumerate(_lines(row)):
            table.add_row(_name(row)[place] if place < 3 else "", *(Text(text) for text in line))
        table.add_section()
    console.print(table)
    for row in result["rows"]:
        for note in _notes(row):
            console.print(Text(f"{row['set']}, {row['recipe']}: {note}"), soft_wrap=True)


def _name(row: dict[str, Any]) -> tuple[Text, Text, Text]:
    facts = row_facts(row)
    mark = f" {LEAK}" if facts["leaks"] else ""
    return Text(row["set"] + mark), Text(row["recipe"]), Text(facts["split"])


def _lines(row: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Heading, value, interval and count of every figure, then what the model costs."""
    facts = row_facts(row)
    if row["error"]:
        return [("failed", "-", "", ""), ("", "", "", ""), ("", "", "", "")]
    lines = []
    for name, heading in COLUMNS.items():
        if name in row["figures"]:
            value, (interval, count) = cell(row["figures"][name])
            lines.append((heading, value, interval, count))
    costs = {"seconds taught": "seconds", "images a second": "per_second",
             "parameters": "parameters"}  # fmt: skip
    return lines + [(text, "", "", _count(facts[key])) for text, key in costs.items()]


def _notes(row: dict[str, Any]) -> list[str]:
    facts = row_facts(row)
    lines = [f"error: {row['error']}"] if row["error"] else []
    lines += [f"{LEAK} too good, {leak}" for leak in facts["leaks"]]
    return [*lines, *(f"published: {line}" for line in row["published"])]


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def write_table(result: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Write ``accuracy.html`` and ``accuracy.json`` into ``out``; gives both paths.

    Args:
        result: what ``run_accuracy`` gives, in plain JSON types.
        out: folder of the table; sheets of mistakes are linked from there.
    """
    rows = [row | {"facts": row_facts(row)} for row in result["rows"]]
    page, data = out / "accuracy.html", out / "accuracy.json"
    text = find_template("accuracy.html.j2").render(
        r=result, rows=rows, columns=shown_columns(rows), cell=cell, count=_count,
        leak=LEAK, oracle=ORACLE,
    )  # fmt: skip
    page.write_text(text, encoding="utf-8")
    body = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    data.write_text(body + "\n", encoding="utf-8")
    return page, data
