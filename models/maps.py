"""The map of the task ``segment`` in PyTorch; only ``training`` imports this module."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twonines.models.backbone import Backbone
from twonines.models.head import HeadWeights, KernelHead
from twonines.models.outputs import MAP_NAMES, OUTPUT_NAMES
from twonines.types import FloatArray

LEVEL_STAGES = (1, 2, 4, 6)
"""Stages that describe a place, at strides 4, 8, 16 and 32."""
LEVEL_NAMES = ("level_4", "level_8", "level_16", "level_32")


class MapBackbone(Backbone):
    """The network for pictures and their places.

    ``forward`` takes images (N, H, W, 3) uint8 RGB and gives ``features`` as
    :class:`~twonines.models.backbone.Backbone` does, and the outputs (N, C, h, w) float32 of
    :data:`LEVEL_STAGES` in place of one stack, so that nothing wide is made large.
    """

    output_names = ("features", *LEVEL_NAMES)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Give pooled ``features`` (N, D) and the levels from fine to coarse."""
        features, outputs = self.stages(images)
        return features, *(outputs[i] for i in LEVEL_STAGES)


@dataclass(frozen=True, slots=True)
class MapWeights:
    """What teaching the map found (C channels of all levels, M hidden units, K kinds of defect).

    ``project`` (C, M) and ``offset`` (M,) lead to the hidden units, ``answer`` (M, 1 + K) and
    ``bias`` (1 + K,) from them to the logit of "defective" and one of each kind. ``kinds`` are
    the kinds' indices among the card's classes.
    """

    project: FloatArray
    offset: FloatArray
    answer: FloatArray
    bias: FloatArray
    kinds: tuple[int, ...]


def enlarge(level: Tensor, like: Tensor) -> Tensor:
    """A coarse level (N, C, h, w) at the size of a finer one, linearly between its places."""
    if level.shape[-2:] == like.shape[-2:]:
        return level
    return nn.functional.interpolate(level, size=like.shape[-2:], mode="bilinear")


class MapHead(nn.Module):
    """A perceptron with one hidden layer at every place of the finest level.

    Its first layer is linear, and so is enlarging: each level is projected at its own size and
    only M channels are enlarged. The result is that of enlarging all C channels first.
    """

    project: Tensor
    offset: Tensor
    answer: Tensor
    bias: Tensor
    kinds: Tensor

    def __init__(self, weights: MapWeights) -> None:
        """Copy the weights into buffers."""
        super().__init__()
        for name in ("project", "offset", "answer", "bias"):
            self.register_buffer(name, torch.from_numpy(getattr(weights, name).copy()))
        self.register_buffer("kinds", torch.tensor(weights.kinds, dtype=torch.int64))

    @property
    def names_kinds(self) -> bool:
        """True where there is more than one kind to tell apart."""
        return len(self.kinds) > 1

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        """Give logits (N, h, w) of "defective", and classes (N, h, w) int64 of several kinds."""
        start, hidden = 0, self.offset[None, :, None, None]
        for level in levels:
            weight = self.project[start : start + level.shape[1]]
            start += level.shape[1]
            hidden = hidden + enlarge(torch.einsum("nchw,cm->nmhw", level, weight), levels[0])
        answers = torch.einsum("nmhw,mk->nkhw", hidden.clamp(min=0.0), self.answer)
        answers = answers + self.bias[None, :, None, None]  # (N, 1 + K, h, w)
        if not self.names_kinds:
            return (answers[:, 0],)
        return answers[:, 0], self.kinds[answers[:, 1:].argmax(1)]


class SegmentHead(nn.Module):
    """The picture's verdict by :class:`KernelHead`, its places by :class:`MapHead`."""

    def __init__(self, pictures: HeadWeights, places: MapWeights) -> None:
        """Join the two."""
        super().__init__()
        self.pictures, self.places = KernelHead(pictures), MapHead(places)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives; ``map_classes`` where there are several kinds."""
        return (*OUTPUT_NAMES, *MAP_NAMES) if self.places.names_kinds else OUTPUT_NAMES

    def forward(
        self, features: Tensor, level_4: Tensor, level_8: Tensor, level_16: Tensor, level_32: Tensor
    ) -> tuple[Tensor, ...]:
        """Give the contract's outputs for the outputs of :class:`MapBackbone`."""
        logits, *kinds = self.places(level_4, level_8, level_16, level_32)
        score, class_scores, novelty = self.pictures.judge(features)
        return score, class_scores, torch.sigmoid(logits), novelty, *kinds
