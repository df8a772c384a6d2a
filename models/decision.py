"""The decision: a pure function of the model's outputs and the policy on its card."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from twonines.models.card import ModelCard
from twonines.models.outputs import Outputs
from twonines.types import GOOD, FloatArray, Inspection, Region, Verdict


def decide(outputs: Outputs, card: ModelCard, sizes: Sequence[tuple[int, int]]) -> list[Inspection]:
    """Give one verdict per picture.

    Args:
        outputs: what the session gave for N pictures.
        card: the model's card; its policy decides.
        sizes: N (height, width) of the uploaded pictures, for regions in their pixels.

    Returns:
        N inspections in order. An output that is not finite, or a score outside [0, 1], gives
        ``ERROR``, never ``OK``; a model that knows no good parts never gives ``OK`` either.

    Raises:
        ValueError: an output is not of N pictures or of the card's classes.
    """
    outputs.check(len(sizes), len(card.classes))
    return [_decide_one(outputs, index, card, size) for index, size in enumerate(sizes)]


def _decide_one(outputs: Outputs, index: int, card: ModelCard, size: tuple[int, int]) -> Inspection:
    score, novelty = float(outputs.score[index]), float(outputs.novelty[index])
    class_scores = outputs.class_scores[index]
    defect_map = outputs.defect_map[index]
    if not all(np.isfinite(v).all() for v in (score, novelty, class_scores, defect_map)):
        return Inspection(Verdict.ERROR, error="the model gave a value that is not finite")
    if not 0 <= score <= 1:
        return Inspection(
            Verdict.ERROR, error=f"the model's score must lie in [0, 1], it gave {score:g}"
        )
    policy, reasons = card.policy, []
    verdict = Verdict.NG if score >= policy.threshold else Verdict.OK
    if verdict is Verdict.OK and not card.has_good:
        verdict = Verdict.REVIEW
        reasons.append("the model knows no good parts, so it cannot accept one")
    if policy.novelty_limit is not None and novelty > policy.novelty_limit:
        verdict = Verdict.REVIEW
        reasons.append(
            f"unlike the training pictures: novelty {novelty:.2f} above {policy.novelty_limit:.2f}"
        )
    defect = _defect_class(class_scores, card)
    regions: tuple[Region, ...] = ()
    if verdict is not Verdict.OK:
        regions = find_regions(defect_map, card, size, defect)
    return Inspection(
        verdict=verdict,
        score=score,
        defect_class=GOOD if verdict is Verdict.OK else defect,
        class_scores={c: float(s) for c, s in zip(card.classes, class_scores, strict=True)},
        novelty=novelty,
        regions=regions,
        reasons=tuple(reasons),
    )


def _defect_class(class_scores: FloatArray, card: ModelCard) -> str:
    """The likeliest class, ``good`` left out: what it would be if it is defective."""
    first = 1 if card.has_good and len(card.classes) > 1 else 0
    return card.classes[first + int(np.argmax(class_scores[first:]))]


def find_regions(
    defect_map: FloatArray, card: ModelCard, size: tuple[int, int], defect_class: str
) -> tuple[Region, ...]:
    """Connected places (8 neighbours) where the map reaches the policy's region threshold.

    Args:
        defect_map: (h, w) float32 in [0, 1].
        card: gives ``region_threshold`` and ``min_region_area``.
        size: (height, width) of the uploaded picture.
        defect_class: name given to each region.

    Returns:
        Regions in pixels of the uploaded picture, highest score first.
    """
    policy = card.policy
    labels, count = ndimage.label(defect_map >= policy.region_threshold, np.ones((3, 3)))
    height, width = size
    scale_y, scale_x = height / defect_map.shape[0], width / defect_map.shape[1]
    regions = []
    for label, place in enumerate(ndimage.find_objects(labels, count), start=1):
        inside = labels[place] == label
        area = round(float(inside.sum()) * scale_y * scale_x)
        if area < policy.min_region_area * height * width:
            continue
        rows, columns = place
        box = (
            round(columns.start * scale_x),
            round(rows.start * scale_y),
            round(columns.stop * scale_x),
            round(rows.stop * scale_y),
        )
        peak = float(defect_map[place][inside].max())
        regions.append(Region(box, area, min(peak, 1.0), defect_class))
    return tuple(sorted(regions, key=lambda region: -region.score))
