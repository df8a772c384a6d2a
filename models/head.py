"""The image head that is fitted on pooled features; only ``training`` imports this module."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twonines.types import FloatArray


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """What teaching found, as arrays (D features, M landmarks, K classes, C channels of places).

    ``mean``, ``gain`` (D,) standardise the features, ``weight`` (D,) gives every block of the
    backbone the same share of the distance; ``landmarks`` (M, D) float16 are training features
    made so; ``alphas`` (M, K) their kernel ridge weights, ``offset`` (K,);
    ``reject`` (2,) is slope and bias of Platt's sigmoid on "not good"; ``temperature`` (1,)
    multiplies responses before the softmax over kinds of defect; ``place_weights`` (C, H) and
    ``place_bias`` (H,) give each place its logits for the map.
    """

    mean: FloatArray
    gain: FloatArray
    weight: FloatArray
    landmarks: npt.NDArray[np.float16]
    alphas: FloatArray
    offset: FloatArray
    reject: FloatArray
    temperature: FloatArray
    place_weights: FloatArray
    place_bias: FloatArray
    has_good: bool


CLIP = 5.0
"""Standardised features are cut here, so that one wild channel cannot rule the distance."""

_BUFFERS = (
    "mean",
    "gain",
    "weight",
    "landmarks",
    "alphas",
    "offset",
    "reject",
    "temperature",
    "place_weights",
    "place_bias",
)


class KernelHead(nn.Module):
    """Kernel ridge responses with an RBF kernel, calibrated to probabilities.

    The same distances give ``novelty``: the root mean squared distance, in standard deviations,
    to the nearest landmark. ``defect_map`` is what linear heads say of every place.
    """

    mean: Tensor
    gain: Tensor
    weight: Tensor
    landmarks: Tensor
    alphas: Tensor
    offset: Tensor
    reject: Tensor
    temperature: Tensor
    place_weights: Tensor
    place_bias: Tensor

    def __init__(self, weights: HeadWeights) -> None:
        """Copy the weights into buffers."""
        super().__init__()
        self.has_good = weights.has_good
        for name in _BUFFERS:
            self.register_buffer(name, torch.from_numpy(getattr(weights, name).copy()))

    def forward(self, features: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give ``score`` (N,), ``class_scores`` (N, K), ``defect_map`` (N, h, w), ``novelty``.

        Args:
            features: (N, D) float32 of the backbone.
            places: (N, C, h, w) float32 of the backbone.
        """
        score, class_scores, novelty = self.judge(features)
        return score, class_scores, self._map(places), novelty

    def respond(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the uncalibrated responses (N, K) and ``novelty`` (N,) of whole pictures."""
        z = ((features - self.mean) * self.gain).clamp(-CLIP, CLIP) * self.weight
        landmarks = self.landmarks.to(torch.float32)
        cross = z @ landmarks.T  # (N, M)
        squared = (z * z).sum(1, keepdim=True) + (landmarks * landmarks).sum(1)[None] - 2 * cross
        squared = squared.clamp(min=0.0)
        return torch.exp(-squared) @ self.alphas + self.offset, torch.sqrt(squared.amin(1))

    def judge(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give ``score`` (N,), ``class_scores`` (N, K) and ``novelty`` (N,) of whole pictures."""
        response, novelty = self.respond(features)
        if not self.has_good:
            class_scores = torch.softmax(response * self.temperature, 1)
            # A typing model knows no good part, so it can never call a part good.
            return torch.ones_like(novelty), class_scores, novelty
        # Good or not is decided first: a softmax over all classes would split the evidence of a
        # defect among its kinds, and good would win what no kind wins alone.
        score = torch.sigmoid(self.reject[0] * defect_sign(response) + self.reject[1])
        kinds = torch.softmax(response[:, 1:] * self.temperature, 1) * score[:, None]
        return score, torch.cat([1.0 - score[:, None], kinds], 1), novelty

    def _map(self, places: Tensor) -> Tensor:
        """The loudest head at every place, (N, h, w) in [0, 1]."""
        logits = torch.einsum("nchw,ck->nkhw", places, self.place_weights)
        logits = logits + self.place_bias[None, :, None, None]
        return torch.sigmoid(logits.amax(1))


def defect_sign(response: Tensor) -> Tensor:
    """-1 for good to 1 for defective, (N,), of responses (N, K) whose first class is good."""
    return 1.0 - 2.0 * response[:, 0]
