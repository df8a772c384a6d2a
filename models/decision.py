"""The decision: a pure function of the model's outputs and the policy on its card."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twonines.models.card import ModelCard
from twonines.models.outputs import Outputs
from twonines.models.quality import QualityLimits, find_faults
from twonines.types import GOOD, FloatArray, Inspection, Region, Verdict

_STRICT = {Verdict.OK: 0, Verdict.REVIEW: 1, Verdict.NG: 2}


UNCHECKED = "it was not checked"


def decide(
    outputs: Outputs,
    card: ModelCard,
    sizes: Sequence[tuple[int, int]],
    *,
    qualities: Sequence[Mapping[str, float]] | None = None,
    fault: str | None = UNCHECKED,
) -> list[Inspection]:
    """Give one verdict per picture.

    Args:
        outputs: what the session gave for N pictures.
        card: the model's card; its policy decides.
        sizes: N (height, width) of the uploaded pictures, for regions in their pixels.
        qualities: N pictures' own features, see :func:`twonines.models.quality.measure`; without
            them the card's quality limits are not asked.
        fault: why the card's certificate does not hold, None where it does. What would be ``OK``
            under a certificate that does not hold, or that nobody checked, is ``REVIEW``. A card
            without a certificate has none that could fail.

    Returns:
        N inspections in order. An output that is not finite, or a score outside [0, 1], gives
        ``ERROR``, never ``OK``; a model that knows no good parts never gives ``OK`` either.

    Raises:
        ValueError: an output is not of N pictures or of the card's classes, or ``qualities`` is
            not of N pictures.
    """
    outputs.check(len(sizes), len(card.classes))
    pictures: Sequence[Mapping[str, float]] = [{}] * len(sizes) if qualities is None else qualities
    if len(pictures) != len(sizes):
        raise ValueError(f"qualities: must be of {len(sizes)} pictures, got {len(pictures)}")
    limits = None if qualities is None else card.quality
    return [
        _decide_one(outputs, index, card, size, quality, limits, fault)
        for index, (size, quality) in enumerate(zip(sizes, pictures, strict=True))
    ]


def _decide_one(
    outputs: Outputs,
    index: int,
    card: ModelCard,
    size: tuple[int, int],
    quality: Mapping[str, float],
    limits: QualityLimits | None,
    fault: str | None,
) -> Inspection:
    score, novelty = float(outputs.score[index]), float(outputs.novelty[index])
    class_scores = outputs.class_scores[index]
    if not all(
        np.isfinite(v).all() for v in (score, novelty, class_scores, outputs.defect_map[index])
    ):
        return Inspection(Verdict.ERROR, error="the model gave a value that is not finite")
    if not 0 <= score <= 1:
        return Inspection(
            Verdict.ERROR, error=f"the model's score must lie in [0, 1], it gave {score:g}"
        )
    verdict, reasons = grade(score, class_scores, card)
    doubts = find_faults(quality, limits)
    if card.policy.novelty_limit is not None and novelty > card.policy.novelty_limit:
        limit = card.policy.novelty_limit
        doubts.append(f"unlike the training pictures: novelty {novelty:.2f} above {limit:.2f}")
    certificate = card.certificate.digest if card.certificate and not fault else None
    if card.certificate and fault and verdict is Verdict.OK:
        doubts.append(f"the certificate does not hold: {fault}")
    if card.skill_fault and certificate is None and verdict is Verdict.OK:
        doubts.append(card.skill_fault)
    if doubts:
        verdict = Verdict.REVIEW
    defect = _defect_class(class_scores, card)
    regions: tuple[Region, ...] = ()
    if verdict is not Verdict.OK or outputs.boxes is not None:
        regions = _regions(outputs, index, card, size, defect)
    if verdict is Verdict.OK and regions:
        verdict = Verdict.REVIEW
        reasons.append(
            f"a box of {regions[0].defect_class} with score {regions[0].score:.3g}, though the "
            f"picture's is {score:.3g}"
        )
    least = card.policy.min_defect_area * size[0] * size[1]
    largest = max((region.area for region in regions), default=0)
    if verdict is Verdict.NG and largest < least:
        verdict = Verdict.REVIEW
        reasons.append(f"no region of {least:.0f} pixels or more, the largest has {largest}")
    return Inspection(
        verdict=verdict,
        score=score,
        defect_class=GOOD if verdict is Verdict.OK else defect,
        class_scores={c: float(s) for c, s in zip(card.classes, class_scores, strict=True)},
        novelty=novelty,
        regions=regions,
        reasons=(*reasons, *doubts),
        certificate=certificate,
        quality=dict(quality),
    )


def grade(score: float, class_scores: FloatArray, card: ModelCard) -> tuple[Verdict, list[str]]:
    """The verdict by thresholds and class rules alone, with what made it stricter.

    Args:
        score: in [0, 1].
        class_scores: (K,) in the card's order.
        card: its policy and classes.
    """
    policy, reasons = card.policy, []
    verdict = Verdict.NG if score >= policy.threshold else Verdict.REVIEW
    if score < policy.accepts_below:
        verdict = Verdict.OK
    elif verdict is Verdict.REVIEW:
        reasons.append(
            f"neither sure: score {score:.3g} in [{policy.accepts_below:.3g}, "
            f"{policy.threshold:.3g})"
        )
    if verdict is Verdict.OK and not card.has_good:
        verdict = Verdict.REVIEW
        reasons.append("the model knows no good parts, so it cannot accept one")
    for name, rule in policy.class_rules.items():
        value = float(class_scores[card.classes.index(name)])
        for limit, stricter in (
            (rule.review_from, Verdict.REVIEW), (rule.reject_from, Verdict.NG),
        ):  # fmt: skip
            if limit is not None and value >= limit and _STRICT[stricter] > _STRICT[verdict]:
                verdict = stricter
                reasons.append(f"rule for {name}: class score {value:.3g} at or above {limit:.3g}")
    return verdict, reasons


def _regions(
    outputs: Outputs, index: int, card: ModelCard, size: tuple[int, int], defect: str
) -> tuple[Region, ...]:
    if outputs.boxes is not None:
        return _boxed_regions(outputs, index, card, size)
    kinds = None if outputs.map_classes is None else outputs.map_classes[index]
    return find_regions(outputs.defect_map[index], card, size, defect, kinds)


def _defect_class(class_scores: FloatArray, card: ModelCard) -> str:
    """The likeliest class, ``good`` left out: what it would be if it is defective."""
    first = 1 if card.has_good and len(card.classes) > 1 else 0
    return card.classes[first + int(np.argmax(class_scores[first:]))]


def _boxed_regions(
    outputs: Outputs, index: int, card: ModelCard, size: tuple[int, int]
) -> tuple[Region, ...]:
    """The detector's boxes from the policy's threshold on, in pixels of the picture."""
    assert outputs.boxes is not None
    assert outputs.box_scores is not None and outputs.box_classes is not None
    height, width = size
    scale = np.array([width / card.input_size[1], height / card.input_size[0]] * 2)
    limit = np.array([width, height] * 2)
    regions = []
    for box, score, kind in zip(
        outputs.boxes[index], outputs.box_scores[index], outputs.box_classes[index], strict=True
    ):
        if not (score >= card.policy.box_threshold and score > 0 and np.isfinite(box).all()):
            continue
        x_min, y_min, x_max, y_max = np.rint(np.clip(box * scale, 0, limit)).astype(int).tolist()
        area = max(0, x_max - x_min) * max(0, y_max - y_min)
        if area:
            regions.append(
                Region((x_min, y_min, x_max, y_max), area, min(float(score), 1.0),
                       card.classes[int(kind)])
            )  # fmt: skip
    return tuple(sorted(regions, key=lambda region: -region.score))


def find_regions(
    defect_map: FloatArray,
    card: ModelCard,
    size: tuple[int, int],
    defect_class: str,
    map_classes: npt.NDArray[np.int64] | None = None,
) -> tuple[Region, ...]:
    """Connected places (8 neighbours) where the map reaches the policy's region threshold.

    Args:
        defect_map: (h, w) float32 in [0, 1].
        card: gives ``region_threshold`` and ``min_region_area``.
        size: (height, width) of the uploaded picture.
        defect_class: name given to each region where ``map_classes`` is None.
        map_classes: (h, w) indices of classes; a region is of the kind that most of it is.

    Returns:
        Regions in pixels of the uploaded picture, highest score first.
    """
    policy = card.policy
    labels, count = ndimage.label(defect_map >= policy.region_threshold, np.ones((3, 3)))
    height, width = size
    scale_y, scale_x = height / defect_map.shape[0], width / defect_map.shape[1]
    least = policy.min_region_area * _seen_area(card, size)
    regions = []
    for label, place in enumerate(ndimage.find_objects(labels, count), start=1):
        inside = labels[place] == label
        area = round(float(inside.sum()) * scale_y * scale_x)
        if area < least:
            continue
        rows, columns = place
        box = (
            round(columns.start * scale_x),
            round(rows.start * scale_y),
            round(columns.stop * scale_x),
            round(rows.stop * scale_y),
        )
        peak = float(defect_map[place][inside].max())
        kind = defect_class
        if map_classes is not None:
            kind = card.classes[int(np.bincount(map_classes[place][inside]).argmax())]
        regions.append(Region(box, area, min(peak, 1.0), kind))
    return tuple(sorted(regions, key=lambda region: -region.score))


def _seen_area(card: ModelCard, size: tuple[int, int]) -> float:
    """Pixels of the picture that the model sees at once: all, or those of a tile."""
    whole = size[0] * size[1]
    if card.tiling is None:
        return whole
    return min(whole, card.input_size[0] * card.input_size[1] / card.tiling.scale**2)
