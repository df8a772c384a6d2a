"""Boxes out of what the box heads say, inside the graph; only ``training`` imports this module."""

import torch
from torch import Tensor

from twonines.models.network import BINS, BOX_STRIDES

MOST_BOXES = 100
LEAST_CANDIDATES, MOST_CANDIDATES, PLACES_TO_CANDIDATE = 200, 500, 16
"""Of how many places boxes are made: ten answer for each defect, and large inputs hold more."""
REPEAT, REPEAT_RAMP = 0.5, 0.08
"""Overlap at which a box is half a repeat of a better one of its kind, and the width of the ramp
around it: rounding must not turn a box on or off."""
ROUNDS = 8
"""Steps of a chain of boxes that are followed, each a repeat of the one before it."""
LIKENESS = 8
"""Power of the overlap by which a box listens to others of its kind."""


def box_places(size: tuple[int, int], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Middles (P, 2) as x and y in input pixels and strides (P,) of all places, finest first.

    ``size`` is (height, width) of the input.
    """
    middles, strides = [], []
    for stride in BOX_STRIDES:
        height, width = -(-size[0] // stride), -(-size[1] // stride)
        y, x = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        places = torch.stack([x, y], 2).reshape(-1, 2).to(torch.float32)
        middles.append((places + 0.5) * stride)
        strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(middles), torch.cat(strides)


def decode_boxes(edges: Tensor, size: tuple[int, int]) -> Tensor:
    """The box of every place, (N, P, 4) xyxy in input pixels, which may reach out of the picture.

    An edge lies at the mean of its distribution (Li et al. 2020, Generalized Focal Loss).

    Args:
        edges: (N, 4, BINS, P) logits of the distances to left, top, right and bottom.
        size: (height, width) of the input.
    """
    middles, strides = box_places(size, edges.device)
    steps = torch.arange(BINS, dtype=torch.float32, device=edges.device)
    reach = (torch.softmax(edges, 2) * steps[:, None]).sum(2) * strides  # (N, 4, P)
    reach = reach.transpose(1, 2)
    return torch.cat([middles - reach[..., :2], middles + reach[..., 2:]], 2)


def find_boxes(
    box_kinds: Tensor, edges: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of a batch, best first; a repeat of a better one has the score 0.

    Args:
        box_kinds: (N, n, P) logits of each kind at every place.
        edges: (N, 4, BINS, P), see :func:`decode_boxes`.
        size: (height, width) of the input.

    Returns:
        Boxes (N, M, 4) xyxy in input pixels, scores (N, M) in [0, 1] and kinds (N, M) int64.
    """
    places = box_kinds.shape[2]
    count = min(max(LEAST_CANDIDATES, places // PLACES_TO_CANDIDATE), MOST_CANDIDATES)
    flat = torch.sigmoid(box_kinds).flatten(1)  # (N, n P)
    scores, index = flat.topk(min(count, flat.shape[1]), 1)
    kinds, place = index // places, index % places
    boxes = decode_boxes(edges, size).gather(1, place[:, :, None].expand(-1, -1, 4))
    boxes = _clip(boxes, size)
    alike = (kinds[:, :, None] == kinds[:, None, :]).to(boxes.dtype)
    boxes = _clip(listen(boxes, scores, box_overlap(boxes) * alike), size)
    scores = weaken_repeats(scores, box_overlap(boxes) * alike)
    scores, order = scores.topk(min(MOST_BOXES, scores.shape[1]), 1)
    return boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), scores, kinds.gather(1, order)


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    limit = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0.0), limit)


def weaken_repeats(scores: Tensor, overlap: Tensor) -> Tensor:
    """Scores (N, M) after Cluster-NMS (Zheng et al. 2021), with a ramp instead of its step.

    It comes to what the usual suppression does, where a box that is itself suppressed suppresses
    none, but has no loop over boxes, so any runtime runs it. Of a chain of more than
    :data:`ROUNDS` boxes, each a repeat of the one before, the rest is left as it is.

    Args:
        scores: (N, M), falling.
        overlap: (N, M, M) intersection over union, 0 between boxes of different kinds.
    """
    count = scores.shape[1]
    better = torch.triu(torch.ones(count, count, device=scores.device), diagonal=1)
    # (N, better, worse)
    repeats = ((overlap - REPEAT) / REPEAT_RAMP + 0.5).clamp(0.0, 1.0) * better
    kept = torch.ones_like(scores)
    for _ in range(ROUNDS):
        kept = 1 - (kept[:, :, None] * repeats).amax(1)
    return scores * kept


def listen(boxes: Tensor, scores: Tensor, overlap: Tensor) -> Tensor:
    """Boxes (N, M, 4), each the mean of all that lie as it does, by score and overlap.

    Box voting (Gidaris & Komodakis 2015): where the edges of a defect are vague, what many places
    say of them is nearer to what people drew than what the surest says.
    """
    votes = scores[:, None, :] * overlap**LIKENESS
    # A box of no area overlaps nothing, not even itself.
    votes = votes + 1e-6 * torch.eye(boxes.shape[1], device=boxes.device)
    voted: Tensor = votes @ boxes / votes.sum(2, keepdim=True)
    return voted


def box_overlap(boxes: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, M, 4) -> (N, M, M)."""
    # Each side for itself: runtimes are slow at rows of two numbers.
    left, top, right, bottom = boxes.unbind(2)
    common = _common(left, right) * _common(top, bottom)
    area = (right - left).clamp(min=0.0) * (bottom - top).clamp(min=0.0)
    return common / (area[:, :, None] + area[:, None, :] - common).clamp(min=1e-6)


def _common(low: Tensor, high: Tensor) -> Tensor:
    """What intervals (N, M) have in common, (N, M, M)."""
    ends = torch.minimum(high[:, :, None], high[:, None, :])
    return (ends - torch.maximum(low[:, :, None], low[:, None, :])).clamp(min=0.0)
