"""Losses of a detector: which places answer for a box, and how well they name and frame it."""

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, complete_box_iou_loss

from twonines.models.detector import box_places, decode_boxes
from twonines.models.network import BINS
from twonines.training.finetune_data import Batch

ANSWERING = 10
"""Places at most that answer for a box."""
LEAST_ANSWERS = 5.0
"""The losses are means over what boxes weigh, of each picture at least so much: a batch with fewer
must not be shouted at."""
LEAST_GOAL = 0.1
"""Of the best place of a box: one that is framed badly yet must not be taught as background."""
LEAST_SIDE = 0.01
"""Pixels; the gradient of the ratio of sides is none without."""
NAMING_POWER, FRAMING_POWER = 0.5, 6.0
"""How much a place's score and its overlap say of how well it suits a box (TOOD, eq. 1)."""


def box_losses(box_kinds: Tensor, edges: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Losses of names, of overlaps (Zheng et al. 2020, CIoU) and of distributions of edges.

    Args:
        box_kinds: (N, n, P) logits, see :class:`twonines.models.network.Raw`.
        edges: (N, 4, BINS, P) logits.
        batch: pictures whose boxes are not known teach nothing.
    """
    size = (batch.images.shape[1], batch.images.shape[2])
    boxes = decode_boxes(edges, size)  # (N, P, 4)
    middles, strides = box_places(size, edges.device)
    goal, owner = assign(torch.sigmoid(box_kinds.detach()), boxes.detach(), middles, batch)
    known = batch.boxed[:, None, None]
    total = (goal * known).sum().clamp(min=LEAST_ANSWERS * len(boxes))
    named = functional.binary_cross_entropy_with_logits(box_kinds, goal, reduction="none")
    picture, place = torch.nonzero(owner >= 0, as_tuple=True)
    weight = goal[picture, :, place].sum(1)
    wanted = batch.boxes[owner[picture, place]]
    mine = boxes[picture, place]
    mine = torch.cat([mine[:, :2], torch.maximum(mine[:, 2:], mine[:, :2] + LEAST_SIDE)], 1)
    framed = complete_box_iou_loss(mine, wanted, reduction="none")
    reach = torch.cat([middles[place] - wanted[:, :2], wanted[:, 2:] - middles[place]], 1)
    spread = edge_loss(edges[picture, :, :, place], reach / strides[place, None])
    return {
        "box_kind": (named * known).sum() / total,
        "box": (framed * weight).sum() / total,
        "edge": (spread * weight).sum() / total,
    }


def assign(chance: Tensor, boxes: Tensor, middles: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Task-aligned assignment (Feng et al. 2021, TOOD, section 3.2).

    The places inside a marked box that name and frame it best answer for it. How well they do is
    what they shall say: so the score of a box is also one of how well it is framed. A place
    answers for one box alone; of several that share all their places some end without.

    Args:
        chance: (N, n, P) scores in [0, 1].
        boxes: (N, P, 4) what the places frame, xyxy in input pixels.
        middles: (P, 2) of the places, see :func:`twonines.models.detector.box_places`.
        batch: the marked boxes.

    Returns:
        Goals (N, n, P) in [0, 1], and (N, P) the index of the box that a place answers for, or -1.
    """
    goal = torch.zeros_like(chance)
    owner = torch.full((len(boxes), boxes.shape[1]), -1, device=boxes.device)
    for picture in range(len(boxes)):
        index = torch.nonzero(batch.owners == picture)[:, 0]
        if not len(index):
            continue
        marked, kinds = batch.boxes[index], batch.box_kinds[index]
        overlap = box_iou(marked, boxes[picture])  # (B, P)
        inside = _inside(marked, middles)
        suits = chance[picture][kinds] ** NAMING_POWER * overlap**FRAMING_POWER
        best = suits.masked_fill(~inside, -1.0).topk(min(ANSWERING, len(middles)), 1).indices
        answers = torch.zeros_like(inside).scatter_(1, best, True) & inside
        # A place inside several boxes answers for the one that it frames best.
        nearest = overlap.masked_fill(~answers, -1.0).argmax(0)
        answers &= nearest == torch.arange(len(marked), device=boxes.device)[:, None]
        best_suit = (suits * answers).amax(1).clamp(min=1e-30)
        best_overlap = (overlap * answers).amax(1).clamp(min=LEAST_GOAL)
        box, place = torch.nonzero(answers, as_tuple=True)
        share = suits[box, place] / best_suit[box]
        goal[picture, kinds[box], place] = share * best_overlap[box]
        owner[picture, place] = index[box]
    return goal, owner


def _inside(marked: Tensor, middles: Tensor) -> Tensor:
    """Whether a place (P) lies in a box (B); a box between places has the nearest, (B, P)."""
    low, high = marked[:, None, :2], marked[:, None, 2:]
    inside = ((middles > low) & (middles < high)).all(2)
    nearest = (middles - (low + high) / 2).square().sum(2).argmin(1)
    lost = ~inside.any(1)
    inside[lost, nearest[lost]] = True
    return inside


def edge_loss(edges: Tensor, reach: Tensor) -> Tensor:
    """Cross entropy with the two bins beside an edge (Li et al. 2020, Distribution Focal Loss).

    Args:
        edges: (A, 4, BINS) logits.
        reach: (A, 4) wanted distances in strides.

    Returns:
        The mean of a place's edges, (A,).
    """
    reach = reach.clamp(0.0, BINS - 1.01)
    low = reach.floor()
    logs = functional.log_softmax(edges, 2)
    near = logs.gather(2, low.long()[..., None])[..., 0]
    far = logs.gather(2, low.long()[..., None] + 1)[..., 0]
    result: Tensor = -(near * (low + 1 - reach) + far * (reach - low)).mean(1)
    return result
