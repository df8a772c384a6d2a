"""Losses of the trained network; each knows which pictures it may learn from."""

import torch
from torch import Tensor
from torch.nn import functional

from twonines.models.network import Raw, any_kind
from twonines.training.finetune_boxes import box_losses
from twonines.training.finetune_data import Batch
from twonines.training.finetune_labels import UNKNOWN

FOCUS = 2.0
"""Exponent by which places that are right already fade (Lin et al. 2017, focal loss)."""
NAMING = 0.3
"""Weight of the map's kinds beside its places."""
LEAST_PLACES = 20
"""The focal loss is a mean over marked places; a batch with fewer must not be shouted at."""
WEIGHTS = {
    "picture": 1.0, "kind": 0.5, "map": 1.0, "bag": 0.2, "box_kind": 1.0, "box": 5.0, "edge": 1.0
}  # fmt: skip


def losses(raw: Raw, batch: Batch) -> dict[str, Tensor]:
    """Every loss that the batch can give, weighted, by name; in float32 whatever ``raw`` is."""
    raw = Raw._make(part if part is None else part.float() for part in raw)
    found = {
        "picture": _picture(raw, batch),
        "kind": _kind(raw, batch),
        "map": map_loss(raw.places, batch.kinds),
        "bag": bag_loss(raw.bags, batch.bags),
    }
    if raw.box_kinds is not None and raw.edges is not None:
        found |= box_losses(raw.box_kinds, raw.edges, batch)
    return {name: WEIGHTS[name] * value for name, value in found.items()}


def _picture(raw: Raw, batch: Batch) -> Tensor:
    """Defective or not, where the picture as it was cut is known."""
    each = functional.binary_cross_entropy_with_logits(raw.defect, batch.defect, reduction="none")
    return (each * batch.weight).sum() / batch.weight.sum().clamp(min=1.0)


def _kind(raw: Raw, batch: Batch) -> Tensor:
    """Cross entropy over the kinds that are there; good pictures say nothing of kinds."""
    each = -(batch.kind_shares * functional.log_softmax(raw.kinds, 1)).sum(1)
    return each.sum() / batch.kind_shares.sum().clamp(min=1.0)


def map_loss(places: Tensor, kinds: Tensor) -> Tensor:
    """Where is a defect of any kind, and of which kind is it there?

    Kinds of which few pictures exist teach *where* together. Focal loss finds small defects, Dice
    for each picture their extent; cross entropy over kinds looks at marked places alone.

    Args:
        places: (N, n, h, w) logits.
        kinds: (N, H, W) uint8, 0 good, k + 1 kind k, 255 unknown; unknown places teach nothing.
    """
    count, height, width = places.shape[1:]
    size = (height, width)
    names = torch.arange(1, count + 1, device=kinds.device, dtype=kinds.dtype)
    hot = (kinds[:, None] == names[None, :, None, None]).to(torch.float32)  # (N, n, H, W)
    known = (kinds != UNKNOWN).to(torch.float32)[:, None]
    seen = (functional.adaptive_avg_pool2d(known, size)[:, 0] > 0.5).to(torch.float32)  # (N, h, w)
    there = functional.adaptive_max_pool2d(hot, size) * seen[:, None]
    goal, anything = there.amax(1), any_kind(places)
    each = functional.binary_cross_entropy_with_logits(anything, goal, reduction="none")
    focal = ((1 - torch.exp(-each)) ** FOCUS * each * seen).sum() / goal.sum().clamp(LEAST_PLACES)
    chance, drawn = torch.sigmoid(anything) * seen, goal.sum((1, 2)) > 0
    common, both = (chance * goal).sum((1, 2)), (chance + goal).sum((1, 2))
    dice = (1 - (2 * common + 1) / (both + 1))[drawn]
    marked = goal > 0
    if not marked.any():
        return focal
    named = there.permute(0, 2, 3, 1)[marked].argmax(1)
    naming = functional.cross_entropy(places.permute(0, 2, 3, 1)[marked], named)
    return focal + dice.mean() + NAMING * naming


def bag_loss(bags: Tensor, targets: Tensor) -> Tensor:
    """Multiple-instance learning: a kind that is there must show somewhere, else nowhere.

    Args:
        bags: (N, n) logits of each kind's loudest places.
        targets: (N, n) of 1, 0 and -1 where it is not known.
    """
    known = (targets >= 0).to(torch.float32)
    each = functional.binary_cross_entropy_with_logits(bags, targets.clamp(min=0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1.0)
