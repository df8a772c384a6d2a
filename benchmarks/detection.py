"""How well boxes find the defects, by the COCO evaluator (pycocotools), with intervals."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twonines.benchmarks.localisation import REPEATS, Draws, Figure, Ints, mean_known
from twonines.benchmarks.statistics import Bools, Floats

COCO_IOU = tuple(np.round(np.arange(0.5, 0.96, 0.05), 2).tolist())
DEEP_PCB_IOU = 0.33
"""DeepPCB's README counts a box as found from an IoU of 0.33 on."""
MOST_BOXES = 100
"""COCO's limit: surest boxes of one picture and kind that count."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Marked and found boxes of one picture.

    Convention: (x_min, y_min, x_max, y_max) in pixels of the picture, the maximum exclusive.

    ``true`` (T, 4) and ``found`` (M, 4) are float; ``true_kinds`` (T,) and ``kinds`` (M,) index
    the kinds of defect; ``scores`` (M,).
    """

    true: npt.NDArray[Any]
    true_kinds: npt.NDArray[Any]
    found: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    kinds: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Matches:
    """Found boxes of one kind over all pictures, surest first.

    ``hit`` (T, D) says at each IoU whether the box found a marked one; ``picture`` and ``scores``
    (D,); ``marked`` (N,) counts the marked boxes of each picture.
    """

    picture: Ints
    scores: Floats
    hit: Bools
    marked: Ints


def detection_figures(
    pictures: Sequence[Boxes],
    units: Sequence[str],
    classes: Sequence[str],
    *,
    threshold: float = 0.5,
    seed: int = 0,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Detection figures of a test set.

    Args:
        pictures: boxes of each picture.
        units: the group of each picture, which the bootstrap draws.
        classes: names of the kinds of defect.
        threshold: boxes from this score on count for ``f_33``.
        seed: seeds the bootstrap.
        repeats: draws.

    Returns:
        :class:`Figure` by name: ``map_50`` and ``map_50_95`` (COCO), ``map_33``, ``f_33`` at the
        threshold and ``best_f_33`` (an oracle) by DeepPCB's protocol; ``class_ap_50``, a figure by
        kind. Empty where no box is marked.
    """
    instances = sum(len(one.true) for one in pictures)
    if not instances:
        return {}
    draw = Draws(units, seed=seed, repeats=repeats)
    ious = (DEEP_PCB_IOU, *COCO_IOU)
    precisions, matches = _evaluate(pictures, len(classes), ious)
    by_class = np.stack([_average_precisions(one, draw.weights) for one in matches], axis=2)
    # The evaluator's own figures; only the draws are ours.
    by_class[0] = precisions
    means = mean_known(by_class)

    def figure(values: Floats, oracle: bool = False, count: int = instances) -> Figure:
        return draw.figure(values, instances=count, oracle=oracle)

    return {
        "map_50": figure(means[:, 1]),
        "map_50_95": figure(means[:, 1:].mean(axis=1)),
        "map_33": figure(means[:, 0]),
        "f_33": figure(_f_scores(matches, draw.weights, threshold)),
        "best_f_33": figure(_f_scores(matches, draw.weights, None), oracle=True),
        "class_ap_50": {
            name: figure(by_class[:, 1, k], count=int(matches[k].marked.sum()))
            for k, name in enumerate(classes)
            if matches[k].marked.any()
        },
    }


def _evaluate(
    pictures: Sequence[Boxes], classes: int, ious: Sequence[float]
) -> tuple[Floats, list[_Matches]]:
    """Average precision (T, K), NaN for a kind that is not marked, and the matches of each kind."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = _coco([(p.true, p.true_kinds, np.ones(len(p.true))) for p in pictures], classes)
        found = _coco([(p.found, p.kinds, p.scores) for p in pictures], classes)
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.params.iouThrs = np.asarray(ious)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MOST_BOXES]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, 0]  # (T, 101, K), -1 where not marked
    values = np.where((precision > -1).all(axis=1), precision.mean(axis=1), np.nan)
    count = len(pictures)
    cells = [evaluator.evalImgs[k * count : (k + 1) * count] for k in range(classes)]
    return values, [_collect(row, len(ious)) for row in cells]


def _coco(
    pictures: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]], classes: int
) -> Any:
    """A COCO set in memory; numbers of pictures, kinds and boxes start at 1."""
    from pycocotools.coco import COCO

    notes: list[dict[str, Any]] = []
    for number, (boxes, kinds, scores) in enumerate(pictures, start=1):
        for box, kind, score in zip(boxes, kinds, scores, strict=True):
            x, y, x_max, y_max = (float(value) for value in box)
            width, height = x_max - x, y_max - y
            notes.append(
                {"id": len(notes) + 1, "image_id": number, "category_id": int(kind) + 1,
                 "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0,
                 "score": float(score)}
            )  # fmt: skip
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number + 1} for number in range(len(pictures))],
        "categories": [{"id": kind + 1} for kind in range(classes)],
        "annotations": notes,
    }
    coco.createIndex()
    return coco


def _collect(cells: Sequence[dict[str, Any] | None], ious: int) -> _Matches:
    marked = np.array([0 if cell is None else len(cell["gtIds"]) for cell in cells])
    there = [(number, cell) for number, cell in enumerate(cells) if cell is not None]
    scores = np.array([s for _, cell in there for s in cell["dtScores"]], np.float64)
    picture = np.array([n for n, cell in there for _ in cell["dtScores"]], np.int64)
    hit = np.concatenate([np.zeros((ious, 0)), *(c["dtMatches"] for _, c in there)], axis=1) > 0
    order = np.argsort(-scores, kind="mergesort")  # ties as in the evaluator
    return _Matches(picture[order], scores[order], hit[:, order], marked)


def _average_precisions(matches: _Matches, weights: Floats) -> Floats:
    """COCO's average precision with pictures counted ``weights`` (R, N) times: (R, T)."""
    marked = weights @ matches.marked  # (R,)
    result = np.full((len(weights), len(matches.hit)), np.nan)
    drawn = weights[:, matches.picture]  # (R, D)
    called = np.cumsum(drawn, axis=1)
    for t, hit in enumerate(matches.hit):
        caught = np.cumsum(drawn * hit, axis=1)
        precision = caught / np.maximum(called, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for r in np.flatnonzero(marked):
            place = np.searchsorted(caught[r] / marked[r], _RECALLS, side="left")
            # Recall that is never reached counts as precision 0.
            result[r, t] = np.append(envelope[r], 0.0)[place].mean()
    return result


def _f_scores(matches: Sequence[_Matches], weights: Floats, threshold: float | None) -> Floats:
    """F over all kinds at DeepPCB's IoU, at a threshold or at the best one: (R,)."""
    scores = np.concatenate([one.scores for one in matches])
    order = np.argsort(-scores, kind="stable")
    hit = np.concatenate([one.hit[0] for one in matches])[order]
    picture = np.concatenate([one.picture for one in matches])[order]
    marked = weights @ np.sum([one.marked for one in matches], axis=0)
    drawn = weights[:, picture]
    caught, called = np.cumsum(drawn * hit, axis=1), np.cumsum(drawn, axis=1)
    f = np.divide(2 * caught, called + marked[:, None], out=np.zeros_like(caught),
                  where=marked[:, None] > 0)  # fmt: skip
    f = np.concatenate([np.zeros((len(f), 1)), f], axis=1)  # no box at all
    ordered = scores[order]
    if threshold is not None:
        chosen: Floats = f[:, int((ordered >= threshold).sum())]
    else:
        # A threshold takes all boxes of one score or none.
        ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1) + 1
        chosen = f[:, np.append(0, ends)].max(axis=1)
    return np.where(marked > 0, chosen, np.nan)


def picture_f_scores(pictures: Sequence[Boxes], classes: int, threshold: float) -> Floats:
    """F of each picture at DeepPCB's IoU and a threshold: (N,); 1 where nothing is or was found."""
    _, matches = _evaluate(pictures, classes, (DEEP_PCB_IOU,))
    count = len(pictures)
    total = np.sum([one.marked for one in matches], axis=0).astype(float)
    caught = np.zeros(count)
    for one in matches:
        kept = one.scores >= threshold
        caught += np.bincount(one.picture[kept], one.hit[0, kept], count)
        total += np.bincount(one.picture[kept], minlength=count)
    result: Floats = np.divide(2 * caught, total, out=np.ones(count), where=total > 0)
    return result
