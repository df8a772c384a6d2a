"""Pictures for a run's folder: the confusion matrix and the worst mistakes."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from twonines.benchmarks.evaluate import Judged
from twonines.benchmarks.lettering import any_script
from twonines.models.image import load
from twonines.types import DEFECTIVE

matplotlib.use("Agg")
_THUMBNAIL = (192, 192)
_MOST = 12


@any_script()
def write_confusion(table: dict[str, Any], path: Path) -> None:
    """Draw counts by true class (rows) and by answer (columns)."""
    counts = np.array(table["counts"])
    figure = Figure(figsize=(2 + 0.9 * len(table["columns"]), 1.6 + 0.6 * len(table["rows"])))
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(table["columns"])), table["columns"], rotation=30, ha="right",
                    parse_math=False)  # fmt: skip
    axes.set_yticks(range(len(table["rows"])), table["rows"], parse_math=False)
    axes.set_xlabel("the model says")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        axes.text(column, row, str(count), ha="center", va="center",
                  color="white" if dark else "black")  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=110)


@any_script()
def write_mistakes(judged: Judged, path: Path) -> None:
    """Draw up to twelve wrong answers, the surest first; an empty sheet says there are none."""
    names = {record.defect_class for record in judged.records}
    # A model that knows no kinds of defect is right with "defective" on any of them.
    general = "" if DEFECTIVE in names else DEFECTIVE
    wrong = [
        (abs((inspection.score or 0.0) - 0.5), record, inspection)
        for record, inspection in zip(judged.records, judged.inspections, strict=True)
        if inspection.defect_class != record.defect_class
        and not (record.is_defective and inspection.defect_class == general)
    ]
    worst = sorted(wrong, key=lambda item: -item[0])[:_MOST]
    columns = 4
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(2.6 * columns, 2.9 * rows))
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, (_, record, inspection) in zip(figure.axes, worst, strict=False):
        axes.imshow(load(record.path, _THUMBNAIL))
        axes.set_title(
            f"{record.path.name}\ntrue: {record.defect_class}\n"
            f"said: {inspection.defect_class} ({inspection.score or 0:.2f})",
            fontsize=8,
            parse_math=False,  # a $ in a name is no mathematics
        )
    figure.suptitle(f"{len(wrong)} of {len(judged.records)} test pictures answered wrong")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
