"""The trained network with its calibration, as the contract wants it; only for ``training``."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twonines.models.detector import find_boxes
from twonines.models.head import HeadWeights, KernelHead, defect_sign
from twonines.models.network import DefectNetwork, Raw, any_kind
from twonines.models.outputs import BOX_NAMES, MAP_NAMES, OUTPUT_NAMES
from twonines.types import FloatArray


@dataclass(frozen=True, slots=True)
class Finish:
    """What is fitted after training.

    ``neighbours`` compares a picture's features with those of training pictures: what these were
    is one more sign, and the distance to the nearest is the novelty. ``reject`` (5,) is Platt's
    sigmoid: slopes of the picture's signs, see :meth:`twonines.models.network.Raw.signs`, of the
    neighbours' sign, and the bias. ``temperature`` (1,) multiplies logits of kinds.
    """

    neighbours: HeadWeights
    reject: FloatArray
    temperature: FloatArray


class FinetunedModel(nn.Module):
    """Images, and references where the network compares pairs, to the contract's outputs."""

    reject: Tensor
    temperature: Tensor

    def __init__(self, network: DefectNetwork, finish: Finish, size: tuple[int, int]) -> None:
        """``size`` is (height, width) of the input."""
        super().__init__()
        self.network, self.size = network, size
        self.neighbours = KernelHead(finish.neighbours)
        for name in ("reject", "temperature"):
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
        response, novelty = self.neighbours.respond(raw.features)
        signs = torch.cat([raw.signs(anything), defect_sign(response)[:, None]], 1)
        outputs = (*self._scores(raw, signs), torch.sigmoid(anything), novelty,
                   raw.places.argmax(1) + first)  # fmt: skip
        if raw.box_kinds is None or raw.edges is None:
            return outputs
        boxes, box_scores, kinds = find_boxes(raw.box_kinds, raw.edges, self.size)
        return (*outputs, boxes, box_scores, kinds + first)

    def _scores(self, raw: Raw, signs: Tensor) -> tuple[Tensor, Tensor]:
        kinds = torch.softmax(raw.kinds * self.temperature, 1)
        if not self.network.layout.has_good:
            # A model that knows no good part can never call a part good.
            return torch.ones_like(raw.defect), kinds
        score = torch.sigmoid(signs @ self.reject[:-1] + self.reject[-1])
        return score, torch.cat([1.0 - score[:, None], kinds * score[:, None]], 1)
