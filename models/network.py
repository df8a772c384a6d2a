"""The network that is trained end to end; only ``training`` imports this module."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from twonines.models.backbone import FrozenNetwork, normalise, pooled_widths, run_stages
from twonines.models.frozen_norm import fold_norms, settle_norms
from twonines.types import GOOD

WIDTH = 48
"""Channels of the decoder."""
BOX_WIDTH = 64
"""Channels of the box heads."""
BOX_STRIDES = (8, 16, 32)
"""Input pixels to a place of each box head: small defects are framed by the first, large by all."""
BINS = 16
"""Distances from a place to an edge that a box head tells apart, in its strides: 480 px at most."""
_LEVELS = (1, 2, 4, 6)
"""Stages whose outputs the decoder takes, at strides 4, 8, 16 and 32."""
_MAP_PRIOR = -5.0
_BOX_PRIOR = -4.6
"""First logits of every place: nearly all places are good."""
_EDGE_PRIOR = -0.25
"""First slope of an edge's logits: most edges are a few strides away."""
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the network tells apart.

    ``kinds`` are the defect classes, ``has_good`` says whether it knows good parts,
    ``detect`` whether it gives boxes, ``reference`` whether it compares pairs.
    """

    kinds: tuple[str, ...]
    has_good: bool
    detect: bool = False
    reference: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The card's classes, ``good`` first where it is known."""
        return ((GOOD,) if self.has_good else ()) + self.kinds


class Raw(NamedTuple):
    """What the network says before calibration, for N pictures and n kinds.

    Logits ``defect`` (N,), ``kinds`` (N, n), ``bags`` (N, n), the mean of each kind's loudest
    places, and ``places`` (N, n, h, w) at half the input's resolution. ``features`` (N, D) are
    what the backbone's blocks pool, as in :class:`twonines.models.backbone.Backbone`; training
    does not look at them, and has (N, 0).
    A detector adds, for its P places at :data:`BOX_STRIDES`, logits ``box_kinds`` (N, n, P) and
    ``edges`` (N, 4, BINS, P), logits of the distances from a place to the left, top, right and
    bottom edge of its box, in strides.
    """

    features: Tensor
    defect: Tensor
    kinds: Tensor
    bags: Tensor
    places: Tensor
    box_kinds: Tensor | None
    edges: Tensor | None

    def signs(self, anything: Tensor) -> Tensor:
        """What tells defective from good, (N, 3) logits, as ``anything`` (N, h, w) of the map.

        The picture's, the map's highest, for one small defect is enough to reject a part, and the
        highest of a detector's boxes, else 0.
        """
        loudest_box = (
            torch.zeros_like(self.defect) if self.box_kinds is None else self.box_kinds.amax((1, 2))
        )
        return torch.stack([self.defect, anything.amax((1, 2)), loudest_box], 1)


class DefectNetwork(nn.Module):
    """EfficientNet-Lite0 with a top-down decoder and one head for each question."""

    def __init__(self, layout: Layout, weights: Path | None = None) -> None:
        """Load the pretrained backbone; decoder and heads start at random.

        Raises:
            ModelFileError: the weights do not fit the network.
        """
        super().__init__()
        self.layout = layout
        self.net = FrozenNetwork(weights).net.requires_grad_(True).train()
        depth, count = self.net.num_features, len(layout.kinds)
        self.widths = pooled_widths(self.net.blocks)  # of ``features``
        self.net.classifier = nn.Identity()
        self.decoder = Decoder([self.net.blocks[i][-1].bn3.num_features for i in _LEVELS])
        # Batches are small here and sets too: new statistics of the backbone's batch norm would
        # differ between training and inspection by more than they gain.
        fold_norms(self.net)
        self.map_head = nn.Conv2d(WIDTH, count, 1)
        nn.init.normal_(self.map_head.weight, std=0.01)
        nn.init.constant_(_bias(self.map_head), _MAP_PRIOR)
        self.dropout = nn.Dropout(0.2)
        self.defect_head, self.kind_head = nn.Linear(depth, 1), nn.Linear(depth, count)
        # The map speaks for the picture from the start.
        self.defect_gain = nn.Parameter(torch.tensor(0.5))
        self.kind_gain = nn.Parameter(torch.tensor(0.5))
        self.box_heads = (
            nn.ModuleList(BoxHead(count) for _ in BOX_STRIDES) if layout.detect else None
        )

    def settle(self) -> "DefectNetwork":
        """End training: nothing is a parameter of batch norm in the backbone any more."""
        settle_norms(self.net)
        return self.requires_grad_(False).eval()

    def forward(self, images: Tensor, references: Tensor | None = None) -> Raw:
        """Look at a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB.
            references: the same of aligned parts without defects, for a network of pairs.
        """
        levels, deep, features = self._levels(self._input(images, references))
        fine, *coarser = self.decoder(levels)  # (N, WIDTH, h, w) each
        places = self.map_head(fine)
        bags = loudest(places)
        embedding = self.dropout(deep.mean((2, 3)))
        defect = self.defect_head(embedding)[:, 0] + self.defect_gain * bags.amax(1)
        kinds = self.kind_head(embedding) + self.kind_gain * bags
        double = functional.interpolate(places, scale_factor=2, mode="bilinear")
        return Raw(features, defect, kinds, bags, double, *self._boxes(coarser))

    def features(self, images: Tensor, references: Tensor | None = None) -> Tensor:
        """The features alone, (N, D); arguments as for the whole, which must not be training."""
        return self._levels(self._input(images, references))[2]

    def _boxes(self, levels: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        if self.box_heads is None:
            return None, None
        said = [head(level) for head, level in zip(self.box_heads, levels, strict=True)]
        kinds, edges = zip(*said, strict=True)
        return torch.cat(kinds, 2), torch.cat(edges, 3)

    def _input(self, images: Tensor, references: Tensor | None) -> Tensor:
        """(N, 3, H, W): the colours, or grey picture, grey reference and how far they differ.

        The pretrained filters see a defect of a pair as a spot of another colour.
        """
        if references is None:
            return normalise(images)
        weights = torch.tensor(_GREY, device=images.device)
        grey, other = images.float() @ weights, references.float() @ weights  # (N, H, W)
        stacked = torch.stack([grey, other, (grey - other).abs()], 3)
        return normalise(stacked)

    def _levels(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The decoder's levels, the deepest output, and the features."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.net.bn1(self.net.conv_stem(x))
        pooled, outputs = run_stages(self.net.blocks, x, pooling=not self.training)
        x = outputs[-1]
        features = torch.cat(pooled, 1) if pooled else x[:, :0, 0, 0]
        deep = self.net.bn2(self.net.conv_head(x))
        return [outputs[index] for index in _LEVELS], deep, features


class Decoder(nn.Module):
    """Top-down: each finer level adds what the coarser ones know (Lin et al. 2017, FPN)."""

    def __init__(self, widths: list[int]) -> None:
        """``widths`` are the channels of the levels, finest first."""
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths)
        self.fuses = nn.ModuleList(_conv(WIDTH, WIDTH) for _ in widths)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Levels finest first -> (N, WIDTH, h, w) of each, finest first."""
        steps = list(zip(self.laterals, self.fuses, levels, strict=True))[::-1]
        made: list[Tensor] = []
        for lateral, fuse, level in steps:
            here = lateral(level)
            if made:
                here = here + functional.interpolate(
                    made[-1], size=here.shape[-2:], mode="bilinear"
                )
            made.append(fuse(here))
        return made[::-1]


class BoxHead(nn.Module):
    """Kinds and edges at every place of one level, each by its own layers (Ge et al. 2021)."""

    def __init__(self, count: int) -> None:
        """``count`` kinds of defect."""
        super().__init__()
        named, framed = nn.Conv2d(BOX_WIDTH, count, 1), nn.Conv2d(BOX_WIDTH, 4 * BINS, 1)
        nn.init.normal_(named.weight, std=0.01)
        nn.init.constant_(_bias(named), _BOX_PRIOR)
        with torch.no_grad():
            _bias(framed).copy_(_EDGE_PRIOR * torch.arange(BINS).repeat(4))
        self.kind = nn.Sequential(_conv(WIDTH, BOX_WIDTH), _conv(BOX_WIDTH, BOX_WIDTH), named)
        self.edge = nn.Sequential(_conv(WIDTH, BOX_WIDTH), _conv(BOX_WIDTH, BOX_WIDTH), framed)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of kinds (N, n, h w) and of edges (N, 4, BINS, h w)."""
        edges = self.edge(level).flatten(2)
        return self.kind(level).flatten(2), edges.unflatten(1, (4, BINS))


def any_kind(places: Tensor) -> Tensor:
    """Logit that a place is defective in any way, (N, n, h, w) -> (N, h, w)."""
    return torch.logsumexp(places, 1)


def loudest(places: Tensor) -> Tensor:
    """Mean of each kind's loudest places, (N, n, h, w) -> (N, n)."""
    flat = places.flatten(2)
    count = min(flat.shape[2], max(4, flat.shape[2] // 500))
    return flat.topk(count, 2).values.mean(2)


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
