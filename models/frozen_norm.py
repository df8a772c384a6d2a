"""Convolutions with a frozen batch norm, as fast to train as they can be on processors."""

from collections.abc import Iterator
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
from torch import Tensor, nn
from torch.nn import functional


class FoldedConv(nn.Module):
    """A convolution and the batch norm behind it, whose statistics are frozen, as one operation.

    It answers and trains as the two do, but the norm's pass over every place, forward and
    backward, becomes a product with the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        """The parameters are those of the two; the statistics stay as they are."""
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        self.weight, self.gain, self.shift = conv.weight, norm.weight, norm.bias
        self.register_buffer("mean", norm.running_mean.clone())
        self.register_buffer("deviation", torch.sqrt(norm.running_var + norm.eps))
        self.same, padding = isinstance(conv, Conv2dSame), conv.padding
        # Stride, padding, dilation and groups; what TensorFlow calls SAME is padded beforehand.
        self.geometry: tuple[Any, ...] = (
            conv.stride, (0, 0) if self.same else padding, conv.dilation, conv.groups
        )  # fmt: skip

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that both make."""
        scale = self.gain / self.deviation
        return self.weight * scale[:, None, None, None], self.shift - self.mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, h, w)."""
        if self.same:
            x = pad_same(x, self.weight.shape[-2:], self.geometry[0], self.geometry[2])
        weight, bias = self.folded()
        if self.geometry[-1] > 1 and torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
            # Depthwise gradients in bfloat16 take processors ten times as long as in float32.
            with torch.autocast("cpu", enabled=False):
                return functional.conv2d(x.float(), weight, bias, *self.geometry)
        return functional.conv2d(x, weight, bias, *self.geometry)

    def plain(self) -> nn.Conv2d:
        """The one convolution, for a network that is not trained any more."""
        count, inputs, height, width = self.weight.shape
        kind = Conv2dSame if self.same else nn.Conv2d
        conv: nn.Conv2d = kind(inputs * self.geometry[-1], count, (height, width), *self.geometry)
        weight, bias = self.folded()
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return conv


def fold_norms(net: nn.Module) -> None:
    """Make every convolution and the norm behind it one :class:`FoldedConv`, in place.

    Modules must list a convolution and its norm in this order, as timm's do.
    """
    for holder in list(net.modules()):
        last: tuple[str, nn.Conv2d] | None = None
        for name, module in list(holder.named_children()):
            if isinstance(module, nn.Conv2d):
                last = (name, module)
            elif isinstance(module, BatchNormAct2d):
                assert last is not None, f"{name}: no convolution before it"
                setattr(holder, last[0], FoldedConv(last[1], module))
                setattr(holder, name, module.act)
                last = None


def settle_norms(net: nn.Module) -> None:
    """Make every :class:`FoldedConv` in ``net`` a plain convolution, in place."""
    for holder, name, folded in list(_folded(net)):
        setattr(holder, name, folded.plain().train(folded.training))


def _folded(net: nn.Module) -> Iterator[tuple[nn.Module, str, FoldedConv]]:
    for holder in net.modules():
        for name, module in holder.named_children():
            if isinstance(module, FoldedConv):
                yield holder, name, module
