"""Plots for the report, as SVG text that stands inside the page."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from twonines.benchmarks.lettering import any_script
from twonines.benchmarks.statistics import roc
from twonines.types import GOOD

_AI, _MANUAL, _GOOD, _BAD = "#1f5fa8", "#b35900", "#3a7d44", "#b3261e"


def _figure(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, name: str) -> str:
    """The ``<svg>`` element alone; ids get the plot's name, for a page holds several."""
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)


def _plain(text: str) -> str:
    """Class names are text, not matplotlib's mathematics."""
    return text.replace("$", r"\$")


def _scored(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    kept = [row for row in rows if row["score"] is not None]
    truth = np.array([row["defect_class"] != GOOD for row in kept], bool)
    return truth, np.array([row["score"] for row in kept], float)


def plot_roc(result: dict[str, Any]) -> str:
    """ROC with the model's operating point and the inspector's."""
    figure, axes = _figure()
    metrics, manual = result["metrics"], result["manual"]
    x, y = roc(*_scored(result["rows"]))
    axes.plot(100 * x, 100 * y, color=_AI, label="model, every threshold")
    if metrics["overkill_rate"]["n"] and metrics["escape_rate"]["n"]:
        axes.plot(
            100 * metrics["overkill_rate"]["value"], 100 * (1 - metrics["escape_rate"]["value"]),
            "o", color=_AI, markersize=9, label="model, as set",
        )  # fmt: skip
    for person in (result["study"] or {}).get("inspectors", []):
        if person["overkill_rate"]["n"] and person["escape_rate"]["n"]:
            axes.plot(
                100 * person["overkill_rate"]["value"], 100 * (1 - person["escape_rate"]["value"]),
                "^", color=_MANUAL, markersize=8, label=f"{_plain(person['inspector'])} (measured)",
            )  # fmt: skip
    axes.plot(
        100 * manual["overkill_rate"], 100 * (1 - manual["escape_rate"]),
        "D", color=_MANUAL, markersize=9, label="manual inspection (modelled)",
    )  # fmt: skip
    axes.set(
        xlabel="good parts rejected, %", ylabel="defective parts rejected, %",
        xlim=(-2, 102), ylim=(-2, 102),
    )  # fmt: skip
    axes.legend(loc="lower right", frameon=False)
    return _svg(figure, "roc")


def plot_scores(result: dict[str, Any]) -> str:
    """Scores of good and defective parts, with the threshold."""
    figure, axes = _figure()
    truth, scores = _scored(result["rows"])
    threshold = result["model"]["card"]["policy"]["threshold"]
    axes.hist(
        [scores[~truth], scores[truth]], bins=np.linspace(0, 1, 26).tolist(),
        color=[_GOOD, _BAD], label=["good", "defective"], stacked=True,
    )  # fmt: skip
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(xlabel="score", ylabel="pictures", xlim=(0, 1))
    axes.legend(frameon=False)
    return _svg(figure, "scores")


def plot_review(result: dict[str, Any]) -> str:
    """What people's work buys: errors of the automatic answers and of all, by share sent."""
    figure, axes = _figure()
    rows, sent = result["review"]["curve"], result["review"]["with_people"]
    x = [100 * row["review"] for row in rows]
    for name, colour, label in (
        ("automatic_accuracy", _AI, "decided by the model alone"),
        ("with_people", _GOOD, "all parts, people deciding the rest"),
    ):
        values = [[row[name][key] for row in rows] for key in ("value", "low", "high")]
        middle, low, high = ([np.nan if v is None else 100 * v for v in part] for part in values)
        axes.plot(x, middle, color=colour, label=label)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 * result["review"]["target"], color="black", linestyle="--", linewidth=1)
    axes.plot(
        100 * sent["review"]["value"], 100 * sent["accuracy"]["value"],
        "o", color=_GOOD, markersize=9, label="as calibration chose",
    )  # fmt: skip
    axes.set(xlabel="parts sent to people, %", ylabel="right, %", xlim=(-2, 102))
    axes.legend(loc="lower right", frameon=False)
    return _svg(figure, "review")


@any_script()
def plot_confusion(result: dict[str, Any]) -> str:
    """Counts by true class and by what the model said."""
    confusion = result["confusion"]
    counts = np.array(confusion["counts"])
    side = max(4.0, 0.7 * max(counts.shape) + 1.5)
    figure, axes = _figure(side + 0.6, side)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set_xticks(
        range(counts.shape[1]), [_plain(c) for c in confusion["columns"]], rotation=40, ha="right"
    )
    axes.set_yticks(range(counts.shape[0]), [_plain(c) for c in confusion["rows"]])
    axes.set(xlabel="the model said", ylabel="it is")
    return _svg(figure, "confusion")


def plot_throughput(result: dict[str, Any], names: dict[str, str]) -> str:
    """Pictures a second of every way, with the range over rounds."""
    rows = result["throughput"]["rows"]
    figure, axes = _figure(6.4, 2.6)
    for place, row in enumerate(rows.values()):
        axes.barh(
            place, row["per_second"], color=_AI,
            xerr=[[row["per_second"] - row["low"]], [row["high"] - row["per_second"]]], capsize=4,
        )  # fmt: skip
        axes.text(row["high"], place, f"  {row['per_second']:.0f}", va="center")
    axes.set_yticks(range(len(rows)), [names[key] for key in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="pictures a second (bars: median; lines: range over rounds)")
    return _svg(figure, "throughput")


def _by_load(result: dict[str, Any], kind: str, figure: str) -> list[tuple[str, list[Any]]]:
    """(label, points (load, median, low, high)) of every server that has the figure."""
    series = []
    for server in result["servers"]:
        points = []
        for name, row in server["rows"].items():
            words = name.split(" ")
            if words[0] == kind and row[figure] is not None:
                found = row[figure]
                points.append((int(words[1]), found["median"], found["low"], found["high"]))
        if points:
            series.append((f"{server['title']}, {server['label']}", points))
    return series


def _legend_below(figure: Figure) -> None:
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")


def plot_closed(result: dict[str, Any]) -> str:
    """Pictures a second of every server by clients, with the range over rounds."""
    figure, axes = _figure(6.4, 4.4)
    for label, points in _by_load(result, "closed", "per_second"):
        x, y, low, high = np.array(points, float).T
        axes.errorbar(x, y, yerr=[y - low, high - y], marker="o", capsize=3, label=_plain(label))
    for label, limit in result["limits"].items():
        axes.axhline(
            limit["decode_resize_session"]["median"], color="black", linestyle="--", linewidth=1
        )
        axes.text(1, limit["decode_resize_session"]["median"], f" limit, {label}", va="bottom")
    axes.set_xscale("log", base=2)
    clients = result["options"]["clients"]
    axes.set_xticks(clients, [str(count) for count in clients])
    axes.set(xlabel="clients at once", ylabel="pictures a second")
    axes.set_ylim(bottom=0)
    _legend_below(figure)
    return _svg(figure, "closed")


def plot_open(result: dict[str, Any]) -> str:
    """99th percentile of latency by Poisson load."""
    figure, axes = _figure(6.4, 4.4)
    for label, points in _by_load(result, "open", "p99_s"):
        x, y, low, high = np.array(points, float).T
        axes.errorbar(
            x, 1000 * y, yerr=[1000 * (y - low), 1000 * (high - y)], marker="o", capsize=3,
            label=_plain(label),
        )  # fmt: skip
    load = result["options"]["load"]
    axes.set_xticks(load, [str(percent) for percent in load])
    axes.set(xlabel="arrivals, % of the server's best", ylabel="99 % of answers within, ms",
             yscale="log")  # fmt: skip
    _legend_below(figure)
    return _svg(figure, "open")
