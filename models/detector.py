"""Boxes out of centres and sides, inside the graph; only ``training`` imports this module."""

import torch
from torch import Tensor
from torch.nn import functional

from twonines.models.network import STRIDE

MOST_BOXES = 100
OVERLAP_SPREAD = 0.3
"""How fast a box loses its score to a better one that it overlaps; smaller is faster."""


def place_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Middles of the places in input pixels, (h, w, 2) as x and y."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return (torch.stack([x, y], 2).to(torch.float32) + 0.5) * STRIDE


def find_boxes(
    centres: Tensor, sides: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of a batch, best first, those that repeat a better one weakened.

    Args:
        centres: (N, n, h, w) logits.
        sides: (N, 4, h, w) distances to left, top, right and bottom in input pixels.
        size: (height, width) of the input.

    Returns:
        Boxes (N, M, 4) xyxy in input pixels, scores (N, M) in [0, 1] and kinds (N, M) int64.
    """
    height, width = centres.shape[-2:]
    heat = torch.sigmoid(centres)
    # A place that is not the highest of its neighbours belongs to theirs (Zhou et al. 2019).
    heat = heat * (functional.max_pool2d(heat, 3, 1, 1) == heat)
    places = height * width
    flat = heat.flatten(1)  # (N, n h w)
    scores, index = flat.topk(min(MOST_BOXES, flat.shape[1]), 1)
    place, kinds = index % places, index // places
    middle = place_centres(height, width, centres.device).reshape(places, 2)[place]  # (N, M, 2)
    reach = sides.flatten(2).transpose(1, 2)  # (N, h w, 4)
    reach = reach.gather(1, place[:, :, None].expand(-1, -1, 4))  # (N, M, 4)
    boxes = torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], 2)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype, device=boxes.device)
    boxes = torch.minimum(boxes.clamp(min=0.0), limit)
    return boxes, weaken_repeats(boxes, scores, kinds), kinds


def weaken_repeats(boxes: Tensor, scores: Tensor, kinds: Tensor) -> Tensor:
    """Scores (N, M) after Matrix NMS with a Gaussian (Wang et al. 2020, SOLOv2, section 3.3).

    A box loses score by its overlap with a better one of its kind, less so where the better one
    is itself a repeat. Unlike the usual suppression it has no loop, so any runtime runs it.

    Args:
        boxes: (N, M, 4) xyxy, best first.
        scores: (N, M), falling.
        kinds: (N, M) int64.
    """
    count = boxes.shape[1]
    better = torch.triu(torch.ones(count, count, device=boxes.device), diagonal=1)
    same = (kinds[:, :, None] == kinds[:, None, :]).to(boxes.dtype)
    overlap = box_overlap(boxes) * same * better  # (N, better, worse)
    repeat = overlap.amax(1)[:, :, None]  # how far the better box is itself a repeat
    decay = torch.exp((repeat**2 - overlap**2) / OVERLAP_SPREAD).amin(1).clamp(max=1.0)
    return scores * decay


def box_overlap(boxes: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, M, 4) -> (N, M, M)."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0.0).prod(3)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0.0).prod(2)
    return common / (area[:, :, None] + area[:, None, :] - common).clamp(min=1e-6)
