"""Good-only inspection in PyTorch: patches and their memory; only ``training`` imports this."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twonines.models.backbone import FrozenNetwork
from twonines.types import FloatArray

PATCH_STAGES = (3, 4, 5)
"""Stages whose last block describes a patch; 3 and 4 have stride 16, 5 has stride 32."""
TOP_SHARE = 0.05


def top_count(places: int) -> int:
    """Patches whose mean distance is the picture's: one in twenty, at least three."""
    return min(places, max(3, round(TOP_SHARE * places)))


class PatchBackbone(FrozenNetwork):
    """The network up to the last of :data:`PATCH_STAGES`, one vector per place.

    ``forward`` takes images (N, H, W, 3) uint8 RGB and gives ``patches`` (N, h, w, C) float32 at
    stride 16: the stages side by side, each averaged over 3 x 3 places (Roth et al. 2022, eq. 2).
    """

    output_names = ("patches",)

    def __init__(self, weights: Path | None = None) -> None:
        """Load the weights as every backbone does, and drop the layers that are not needed."""
        super().__init__(weights)
        self.net.blocks = self.net.blocks[: max(PATCH_STAGES) + 1]
        self.net.conv_head = self.net.bn2 = self.net.classifier = nn.Identity()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage, in the order of ``patches``."""
        return tuple(self.net.blocks[i][-1].bn3.num_features for i in PATCH_STAGES)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Give ``patches`` (N, h, w, C)."""
        x = self.stem(images)
        levels: list[Tensor] = []
        for index, stage in enumerate(self.net.blocks):
            x = stage(x)
            if index in PATCH_STAGES:
                mean = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
                if levels and mean.shape[-2:] != levels[0].shape[-2:]:
                    mean = nn.functional.interpolate(
                        mean, size=levels[0].shape[-2:], mode="bilinear"
                    )
                levels.append(mean)
        return (torch.cat(levels, 1).permute(0, 2, 3, 1),)  # (N, h, w, C)


@dataclass(frozen=True, slots=True)
class PatchWeights:
    """What teaching from good pictures found (C channels, M patches).

    ``whiten`` (C, C) and ``offset`` (C,) take a patch to where good patches have unit covariance,
    so that a distance there is Mahalanobis' (divided by the root of C); ``memory`` (M, C) float16
    holds patches of good pictures made so.
    ``limit`` is the distance from which a picture is NG, ``scale`` the distance that moves the
    score's logit by 1.
    """

    whiten: FloatArray
    offset: FloatArray
    memory: npt.NDArray[np.float16]
    limit: float = 1.0
    scale: float = 1.0


class PatchHead(nn.Module):
    """Distance of every patch to the nearest one in the memory (Roth et al. 2022, PatchCore).

    The picture's distance is the mean of its largest, see :func:`top_count`. ``score`` is a
    sigmoid that is 1/2 at the limit: monotone, so that it ranks as the distance does.
    ``novelty`` is the distance in units of the limit.
    """

    whiten: Tensor
    offset: Tensor
    memory: Tensor
    squares: Tensor

    def __init__(self, weights: PatchWeights, size: tuple[int, int]) -> None:
        """Copy the weights into buffers; ``size`` (height, width) is that of the map."""
        super().__init__()
        self.size, self.limit, self.scale = size, weights.limit, weights.scale
        self.register_buffer("whiten", torch.from_numpy(weights.whiten.copy()))
        self.register_buffer("offset", torch.from_numpy(weights.offset.copy()))
        self.register_buffer("memory", torch.from_numpy(weights.memory.copy()))
        squares = np.square(weights.memory.astype(np.float64)).sum(1) / 2
        self.register_buffer("squares", torch.from_numpy(squares.astype(np.float32)))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give ``score`` (N,), ``class_scores`` (N, 2), ``defect_map`` (N, H, W), ``novelty``.

        Args:
            patches: (N, h, w, C) float32 of :class:`PatchBackbone`.
        """
        _, height, width, channels = patches.shape
        z = torch.addmm(self.offset, patches.reshape(-1, channels), self.whiten)  # (N h w, C)
        # |z - m|^2 = |z|^2 + 2 (|m|^2 / 2 - z m): the sum of squares of z needs no minimum.
        cross = torch.addmm(self.squares, z, -self.memory.to(torch.float32).T)  # (N h w, M)
        squared = (z * z).sum(1) + 2.0 * cross.amin(1)
        distance = torch.sqrt(squared.clamp(min=0.0)).reshape(-1, height * width)  # (N, h w)
        picture = distance.topk(top_count(height * width), 1).values.mean(1)
        score = torch.sigmoid((picture - self.limit) / self.scale)
        places = torch.sigmoid((distance - self.limit) / self.scale)
        defect_map = nn.functional.interpolate(
            places.reshape(-1, 1, height, width), size=self.size, mode="bilinear"
        )[:, 0]
        return score, torch.stack([1.0 - score, score], 1), defect_map, picture / self.limit
