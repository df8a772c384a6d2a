"""The report: one page for people, and one JSON file for programs."""

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image as PILImage

from twonines.benchmarks import plots
from twonines.errors import ImageError
from twonines.models.image import decode

_THUMBNAIL = 220
_TEMPLATES = Path(__file__).parent / "templates"
WAYS = {
    "session": "bare session (the limit)",
    "decode_resize_session": "decode + resize + session",
    "http": "HTTP service",
    "batch": "batch scoring",
}
CELL = {
    "serial_gain": "Parts of one person with the model, to those without",
    "pipelined_gain": "The same where both work at once",
    "manual_parts_per_hour_per_inspector": "Parts an hour by hand, each person",
    "serial_parts_per_hour": "Parts an hour, in turn",
    "pipelined_parts_per_hour": "Parts an hour, both at once",
}
MARKS = {"met": "✓", "not met": "✗", "not shown by this much data": "?"}
KINDS = {
    "escape": "Worst escapes (defective, but accepted)",
    "overkill": "Worst overkill (good, but rejected)",
    "wrong defect": "Defective and rejected, but named wrong",
    "right": "Some that were right",
}


def plain(value: Any) -> Any:
    """Plain JSON types: no numpy, no paths, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def _percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent; never "100 %" for what is below 1, nor "0 %" for what is above 0."""
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f}"
    step = 10.0**-digits
    if float(text) == 100 and value < 1:
        return f"> {100 - step:.{digits}f} %"
    if float(text) == 0 and value > 0:
        return f"< {step:.{digits}f} %"
    return f"{text} %"


def _number(value: float | None, digits: int = 3) -> str:
    """Significant digits; thousands in full, no powers of ten for what people read."""
    if value is None:
        return "–"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _figure(figure: dict[str, Any] | None) -> str:
    """A rate with its interval and what it was counted over."""
    if figure is None or figure["value"] is None:
        return "–"
    count = f"{figure['k']} of {figure['n']}" if "k" in figure else f"n = {figure['n']}"
    interval = f"95 % interval {_percent(figure['low'])} to {_percent(figure['high'])}"
    return f"{_percent(figure['value'])} ({count}; {interval})"


def find_template(name: str) -> jinja2.Template:
    """A page's template, with filters for shares and numbers."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, number=_number, figure=_figure)
    return environment.get_template(name)


def thumbnail(path: Path) -> str:
    """A small JPEG of the picture as a data URI; empty where it cannot be read."""
    try:
        picture = PILImage.fromarray(decode(path.read_bytes()))
    except (ImageError, OSError):
        return ""
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def render(result: dict[str, Any], examples: Sequence[dict[str, Any]]) -> str:
    """The page, with plots and pictures inside it; it asks nothing of the network.

    Args:
        result: what ``run_bench`` gives.
        examples: pictures with ``kind``, ``path``, ``label``, ``defect_class``, ``verdict``,
            ``said`` and ``score``.
    """
    result = plain(result)
    shown: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        shown.setdefault(KINDS[example["kind"]], []).append(
            {**example, "thumbnail": thumbnail(example["path"])}
        )
    drawn = {"confusion": plots.plot_confusion(result)}
    if result["decides"]:
        drawn |= {"roc": plots.plot_roc(result), "scores": plots.plot_scores(result),
                  "review": plots.plot_review(result)}  # fmt: skip
    if result["throughput"]:
        drawn["throughput"] = plots.plot_throughput(result, WAYS)
    return find_template("report.html.j2").render(
        r=result,
        card=result["model"]["card"],
        marks=MARKS,
        ways=WAYS,
        cell_words=CELL,
        examples=shown,
        plots={name: Markup(svg) for name, svg in drawn.items()},
    )


def write_report(
    result: dict[str, Any], examples: Sequence[dict[str, Any]], out: Path
) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into ``out``; gives both paths."""
    out.mkdir(parents=True, exist_ok=True)
    page, data = out / "report.html", out / "report.json"
    page.write_text(render(result, examples), encoding="utf-8")
    write_json(result, data)
    return page, data


def write_json(result: dict[str, Any], path: Path) -> None:
    """Plain JSON; what is not finite is null."""
    text = json.dumps(plain(result), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
