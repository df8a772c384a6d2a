"""A sheet of the worst mistakes: each picture with its marks, and the answer beside it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from twonines.benchmarks.detection import picture_f_scores
from twonines.benchmarks.lettering import any_script
from twonines.benchmarks.localisation import defect_iou
from twonines.benchmarks.observe import Observed, load_pictures
from twonines.benchmarks.statistics import Floats
from twonines.datasets.masks import read_mask
from twonines.datasets.record import Record
from twonines.errors import ImageError
from twonines.models.card import ModelCard
from twonines.models.image import decode
from twonines.models.inspector import Inspector
from twonines.models.overlay import draw
from twonines.models.session import InspectionSession
from twonines.types import GOOD, Inspection

matplotlib.use("Agg")
MOST = 12
_ACROSS = 3
_PLACE_IS_WRONG = 0.5
"""From here on a right verdict is shown too: IoU or F of the place is at most a half."""


def rank(observed: Observed, card: ModelCard, *, decides: bool) -> list[int]:
    """Indices of the worst answers, worst first: wrong verdicts, wrong kinds, wrong places."""
    judged = observed.judged
    badness: Floats = _place_badness(observed, card)
    for index, (record, said) in enumerate(zip(judged.records, judged.inspections, strict=True)):
        if said.score is None:
            badness[index] = 4
        elif decides and record.is_defective != bool(judged.rejected[index]):
            badness[index] = 2 + abs(said.score - card.policy.threshold)
        elif _misnamed(record, said, card):
            badness[index] = 1 + said.class_scores[said.defect_class or GOOD]
    order = np.argsort(-badness, kind="stable")
    return [int(i) for i in order[:MOST] if badness[i] >= _PLACE_IS_WRONG]


def _misnamed(record: Record, said: Inspection, card: ModelCard) -> bool:
    """A defect of a kind that the model knows, under another name."""
    known = record.is_defective and record.defect_class in card.classes
    return known and said.defect_class not in (record.defect_class, GOOD)


def _place_badness(observed: Observed, card: ModelCard) -> Floats:
    """1 less the picture's IoU, else 1 less its F; 0 where nothing is marked."""
    badness = np.zeros(len(observed.tallies))
    there = [i for i, one in enumerate(observed.boxes) if one is not None and len(one.true)]
    if there:
        threshold = card.policy.box_threshold if card.task == "detect" else 0.0
        pictures = [one for one in observed.boxes if one is not None and len(one.true)]
        badness[there] = 1 - picture_f_scores(pictures, len(observed.kinds), threshold)
    for index, one in enumerate(observed.tallies):
        if one is not None and one.regions:
            badness[index] = 1 - defect_iou(one.confusion[None].astype(float))[0]
    return badness


@any_script()
def write_worst(
    session: InspectionSession, observed: Observed, order: Sequence[int], path: Path
) -> None:
    """Draw the pictures of ``order``, marks on the left and the answer on the right."""
    rows = max(1, -(-len(order) // _ACROSS))
    figure = Figure(figsize=(5.2 * _ACROSS, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * _ACROSS, squeeze=False).ravel()
    for one in axes:
        one.axis("off")
    for place, index in enumerate(order):
        record = observed.judged.records[index]
        said = observed.judged.inspections[index]
        _draw_pair(axes[2 * place], axes[2 * place + 1], session, record, said)
    count = len(observed.judged.records)
    figure.suptitle(
        f"the {len(order)} worst answers of {count} test pictures: picture with marks, answer"
        if order else f"no wrong answer in {count} test pictures"
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _draw_pair(
    left: Axes, right: Axes, session: InspectionSession, record: Record, said: Inspection
) -> None:
    score = "" if said.score is None else f" ({said.score:.2f})"
    left.set_title(f"{record.path.name}\ntrue: {record.defect_class}", fontsize=8,
                   parse_math=False)  # fmt: skip
    right.set_title(f"{said.verdict.value}{score}\nsaid: {said.defect_class or said.error}",
                    fontsize=8, parse_math=False)  # fmt: skip
    inspector = Inspector(session)
    loaded = load_pictures([record], inspector)[0]
    if isinstance(loaded, ImageError):
        left.text(0.5, 0.5, "cannot be read", ha="center", transform=left.transAxes)
        return
    image = decode(record.path.read_bytes())
    left.imshow(image)
    mask = read_mask(record, loaded.size)
    if mask is not None and mask.any():
        left.contour(mask, levels=[0.5], colors="#ff00c8", linewidths=1)
    for box in record.boxes:
        corner, width, height = (box.x_min, box.y_min), box.x_max - box.x_min, box.y_max - box.y_min
        left.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#ff00c8"))
    right.imshow(draw(image, inspector.outputs(loaded).defect_map[0], said))
