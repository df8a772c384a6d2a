"""Boxes out of what the box heads say, inside the graph; only ``training`` imports this module."""

import torch
from torch import Tensor

from twonines.models.network import BINS, BOX_STRIDES

MOST_BOXES = 100
CANDIDATES = 200
"""Places of the highest scores that boxes are made of."""
REPEAT = 0.5
"""Overlap from which a box repeats a better one of its kind."""
SOFTNESS = 0.02
"""Width of that step: rounding must not turn a box on or off."""
ROUNDS = 6
"""Steps of a chain of repeats that are followed: a repeat of a repeat may stand for itself."""
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
    """The best boxes of a batch, best first; repeats of a better one have hardly a score left.

    Args:
        box_kinds: (N, n, P) logits of each kind at every place.
        edges: (N, 4, BINS, P), see :func:`decode_boxes`.
        size: (height, width) of the input.

    Returns:
        Boxes (N, M, 4) xyxy in input pixels, scores (N, M) in [0, 1] and kinds (N, M) int64.
    """
    places = box_kinds.shape[2]
    flat = torch.sigmoid(box_kinds).flatten(1)  # (N, n P)
    scores, index = flat.topk(min(CANDIDATES, flat.shape[1]), 1)
    kinds, place = index // places, index % places
    boxes = decode_boxes(edges, size).gather(1, place[:, :, None].expand(-1, -1, 4))
    limit = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype, device=boxes.device)
    boxes = torch.minimum(boxes.clamp(min=0.0), limit)
    overlap = box_overlap(boxes) * (kinds[:, :, None] == kinds[:, None, :]).to(boxes.dtype)
    boxes = listen(boxes, scores, overlap)
    scores, order = weaken_repeats(scores, overlap).topk(min(MOST_BOXES, scores.shape[1]), 1)
    return boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), scores, kinds.gather(1, order)


def weaken_repeats(scores: Tensor, overlap: Tensor) -> Tensor:
    """Scores (N, M) after Cluster-NMS (Zheng et al. 2021), with a soft step instead of a hard one.

    It comes to what the usual suppression does, a box that is itself suppressed suppressing none,
    but has no loop over boxes, so any runtime runs it.

    Args:
        scores: (N, M), falling.
        overlap: (N, M, M) intersection over union, 0 between boxes of different kinds.
    """
    count = scores.shape[1]
    better = torch.triu(torch.ones(count, count, device=scores.device), diagonal=1)
    repeats = torch.sigmoid((overlap - REPEAT) / SOFTNESS) * better  # (N, better, worse)
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
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0.0).prod(3)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0.0).prod(2)
    return common / (area[:, :, None] + area[:, None, :] - common).clamp(min=1e-6)
