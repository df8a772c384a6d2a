"""After training: calibration and thresholds, on pictures held out for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from twonines.errors import GateError
from twonines.models.detector import find_boxes
from twonines.models.finetuned import Finish
from twonines.models.head import HeadWeights
from twonines.models.network import DefectNetwork, any_kind
from twonines.training.finetune_data import Gallery
from twonines.training.finetune_labels import UNKNOWN
from twonines.training.finetune_neighbours import compare
from twonines.training.fit import fit_sigmoid, fit_temperature
from twonines.training.marks import cover_of
from twonines.training.regions import MOST_PLACES
from twonines.types import FloatArray

MATCH = 0.5
"""Overlap from which a box counts as found."""
FLAT = 1e-6
"""A sign that varies less over held-out pictures tells nothing."""
FLATTEST = 0.1
"""Least slope of the calibration, on logits of unit deviation."""
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Answers:
    """The network's answers for N pictures (n kinds, D features); boxes only of a detector.

    ``signs`` (N, 3) are the logits that may tell defective from good: the picture's, the map's
    highest and the highest of all boxes, 0 without. ``maps`` are maps (h, w) of some pictures with
    the share of each place that is marked; where that is not known, the map is 0.
    """

    features: FloatArray
    signs: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.float64]
    maps: list[tuple[FloatArray, FloatArray]]
    boxes: list[tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]]


def ask(
    network: DefectNetwork,
    gallery: Gallery,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Run the network over the pictures of a gallery as they are.

    Of a large input fewer maps are kept, so that :data:`MOST_PLACES` hold them all.
    """
    features, signs, kinds, boxes, maps = [], [], [], [], []
    size, count = (gallery.images.shape[1], gallery.images.shape[2]), len(gallery)
    network.eval()
    for start in range(0, count, _BATCH):
        chosen = range(start, min(start + _BATCH, count))
        with torch.inference_mode():
            raw = network(*gallery.tensors(chosen))
            if raw.box_kinds is not None and raw.edges is not None:
                found = [part.numpy() for part in find_boxes(raw.box_kinds, raw.edges, size)]
                boxes += list(zip(*found, strict=True))
            anything = any_kind(raw.places)
            signs.append(raw.signs(anything).numpy())
        features.append(raw.features.numpy())
        kinds.append(raw.kinds.numpy())
        step = -(-count * anything[0].numel() // MOST_PLACES)
        maps += [
            _marked_map(torch.sigmoid(anything[place]).numpy(), gallery.kinds[index])
            for place, index in enumerate(chosen) if index % step == 0
        ]  # fmt: skip
        progress(chosen.stop, count)
    return Answers(
        np.concatenate(features),
        np.concatenate(signs).astype(np.float64),
        np.concatenate(kinds).astype(np.float64),
        maps,
        boxes,
    )


def _marked_map(values: FloatArray, kinds: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """A map (h, w), 0 where nothing is known, and the share of each place that is marked."""
    grid = (values.shape[0], values.shape[1])
    unknown = cover_of(kinds == UNKNOWN, grid) > 0.5
    return np.where(unknown, 0.0, values), cover_of((kinds > 0) & (kinds < UNKNOWN), grid)


def fit_finish(
    network: DefectNetwork,
    neighbours: HeadWeights,
    held: Answers,
    labels: npt.NDArray[np.int64],
) -> tuple[Finish, float]:
    """Calibrate score and kinds on held-out pictures.

    Args:
        network: gives the layout.
        neighbours: see :func:`twonines.training.finetune_neighbours.fit_neighbours`.
        held: answers on the calibration split.
        labels: (N,) indices into the layout's classes, -1 where the kind is not among them.

    Returns:
        What the model needs, and the highest novelty of a held-out picture.

    Raises:
        GateError: the network cannot tell good from defective on the calibration split.
    """
    layout = network.layout
    first = int(layout.has_good)
    alike, novelty = compare(neighbours, held.features)
    reject = np.array([1, 0, 0, 0, 0], np.float32)
    if layout.has_good:
        reject = _reject(np.column_stack([held.signs, alike]), labels != 0)
    known = labels >= first
    temperature = fit_temperature(held.kinds[known], labels[known] - first)
    return Finish(neighbours, reject, temperature), float(novelty.max())


def _reject(signs: npt.NDArray[np.float64], defective: npt.NDArray[np.bool_]) -> FloatArray:
    """Slopes and bias of the score's sigmoid, see :class:`twonines.models.finetuned.Finish`.

    Of the network's own signs one speaks, or the mean of all, whichever sorts the held-out pictures
    best: where defects are drawn and small, the map sees more than the picture's logit. How much
    it counts beside the neighbours, the sigmoid's fit says.

    Args:
        signs: (N, S), the neighbours' last.
        defective: (N,).
    """
    if defective.all() or not defective.any():
        raise GateError(
            f"calibration: good and defective pictures must be held out, got {defective.sum()} "
            f"defective ones among {len(defective)}"
        )
    middle, spread = signs.mean(0), signs.std(0)
    told = spread > FLAT
    spread = np.where(told, spread, 1.0)
    z = (signs - middle) / spread
    alone = np.eye(signs.shape[1])
    own, voices = alone[:-1][told[:-1]], alone[-1:][told[-1:]]
    if len(own):
        choices = [*own, own.mean(0)]
        best = max(choices, key=lambda w: float(roc_auc_score(defective, z @ w)))
        voices = np.stack([best / (z @ best).std(), *voices])
    *weights, bias = fit_sigmoid(z @ voices.T, defective).astype(np.float64)
    slopes = np.array(weights) @ voices
    if not (z @ slopes).std() >= FLATTEST:
        raise GateError(
            f"calibration: the network must tell good from defective on {len(signs)} held-out "
            f"pictures, its slope is {(z @ slopes).std():.2g}; train longer, with more pictures, "
            "or look at the labels"
        )
    slopes = slopes / spread
    return np.append(slopes, bias - slopes @ middle).astype(np.float32)


def box_threshold(answers: Answers, gallery: Gallery) -> float | None:
    """The box score of the best F1 at an overlap of ``MATCH``; None where no box was drawn."""
    scores, right, wanted = [], [], 0
    for (truth, kinds), found in zip(gallery.boxes, answers.boxes, strict=True):
        wanted += len(truth)
        boxes, box_scores, box_kinds = found
        order = np.argsort(-box_scores, kind="stable")
        scores.append(box_scores[order])
        right.append(match_boxes(boxes[order], box_kinds[order], truth, kinds))
    if not wanted:
        return None
    every, hit = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-every, kind="stable")
    return _middle_threshold(every[order], hit[order], wanted)


def _middle_threshold(scores: FloatArray, right: npt.NDArray[np.bool_], wanted: int) -> float:
    """The middle of the scores that give the best F1, or as good a one as can be told apart.

    The very best on held-out pictures lies at the edge of what they happen to hold; other parts'
    false boxes reach farther up, and their weak true ones farther down.

    Args:
        scores: (M,) of all boxes, falling.
        right: (M,) whether each found a marked box.
        wanted: number of marked boxes.
    """
    f1 = 2 * right.cumsum() / (np.arange(1, len(scores) + 1) + wanted)
    best = int(np.argmax(f1))
    error = np.sqrt(f1[best] * (1 - f1[best]) / wanted)  # of a share of so many
    worse = np.flatnonzero(f1 < f1[best] - error)
    first = max(worse[worse < best], default=-1) + 1
    behind = min(worse[worse > best], default=len(scores))  # its score is too low
    least = scores[behind] if behind < len(scores) else 0.0
    return float(np.clip((scores[first] + least) / 2, 0.02, 0.95))


def match_boxes(
    boxes: FloatArray, kinds: npt.NDArray[np.int64], truth: FloatArray, truth_kinds: FloatArray
) -> npt.NDArray[np.bool_]:
    """Which boxes (M, 4), best first, find a true one of their kind that none before them found."""
    right = np.zeros(len(boxes), bool)
    free = np.ones(len(truth), bool)
    for index, box in enumerate(boxes):
        low, high = np.maximum(box[:2], truth[:, :2]), np.minimum(box[2:], truth[:, 2:])
        common = np.clip(high - low, 0, None).prod(1)
        both = (box[2:] - box[:2]).prod() + (truth[:, 2:] - truth[:, :2]).prod(1) - common
        overlap = np.where(free & (truth_kinds == kinds[index]), common / both, 0.0)
        if len(overlap) and overlap.max() >= MATCH:
            right[index] = True
            free[int(np.argmax(overlap))] = False
    return right
