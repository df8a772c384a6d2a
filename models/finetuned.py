"""The trained network with its calibration, as the contract wants it; only for ``training``."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twonines.models.detector import find_boxes
from twonines.models.head import CLIP
from twonines.models.network import DefectNetwork, Raw, any_kind
from twonines.models.outputs import BOX_NAMES, MAP_NAMES, OUTPUT_NAMES
from twonines.types import FloatArray


@dataclass(frozen=True, slots=True)
class Finish:
    """What is fitted after training (D channels of the embedding, M landmarks).

    ``reject`` (4,) is Platt's sigmoid: slopes of the picture's signs, see
    :meth:`twonines.models.network.Raw.signs`, and the bias. ``temperature`` (1,) multiplies logits
    of kinds. ``mean`` and ``gain`` (D,) standardise an embedding, ``landmarks`` (M, D) float16 are
    training pictures' embeddings made so: the distance to the nearest is the novelty.
    """

    reject: FloatArray
    temperature: FloatArray
    mean: FloatArray
    gain: FloatArray
    landmarks: npt.NDArray[np.float16]


class FinetunedModel(nn.Module):
    """Images, and references where the network compares pairs, to the contract's outputs."""

    reject: Tensor
    temperature: Tensor
    mean: Tensor
    gain: Tensor
    landmarks: Tensor

    def __init__(self, network: DefectNetwork, finish: Finish, size: tuple[int, int]) -> None:
        """``size`` is (height, width) of the input."""
        super().__init__()
        self.network, self.size = network, size
        for name in ("reject", "temperature", "mean", "gain", "landmarks"):
            self.register_buffer(name, torch.from_numpy(getattr(finish, name).copy()))
        self.eval()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives, in order."""
        return (*OUTPUT_NAMES, *MAP_NAMES, *(BOX_NAMES if self.network.layout.detect else ()))

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, ...]:
        """Give the contract's outputs for (N, H, W, 3) uint8 images."""
        raw = self.network(images, references)
        first = int(self.network.layout.has_good)
        anything = any_kind(raw.places)
        outputs = (*self._scores(raw, anything), torch.sigmoid(anything),
                   self.novelty(raw.embedding), raw.places.argmax(1) + first)  # fmt: skip
        if raw.box_kinds is None or raw.edges is None:
            return outputs
        boxes, box_scores, kinds = find_boxes(raw.box_kinds, raw.edges, self.size)
        return (*outputs, boxes, box_scores, kinds + first)

    def _scores(self, raw: Raw, anything: Tensor) -> tuple[Tensor, Tensor]:
        kinds = torch.softmax(raw.kinds * self.temperature, 1)
        if not self.network.layout.has_good:
            # A model that knows no good part can never call a part good.
            return torch.ones_like(raw.defect), kinds
        score = torch.sigmoid(raw.signs(anything) @ self.reject[:3] + self.reject[3])
        return score, torch.cat([1.0 - score[:, None], kinds * score[:, None]], 1)

    def novelty(self, embedding: Tensor) -> Tensor:
        """Root mean squared distance to the nearest landmark, in standard deviations."""
        z = ((embedding - self.mean) * self.gain).clamp(-CLIP, CLIP)
        landmarks = self.landmarks.to(torch.float32)
        squared = (z * z).sum(1, keepdim=True) + (landmarks * landmarks).sum(1)[None]
        squared = (squared - 2 * z @ landmarks.T).clamp(min=0.0)
        return torch.sqrt(squared.amin(1) / z.shape[1])
