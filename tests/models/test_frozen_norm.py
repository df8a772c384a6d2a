"""A convolution with its folded norm answers and learns as the two do."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from twonines.models.backbone import FrozenNetwork
from twonines.models.frozen_norm import FoldedConv, fold_norms, settle_norms


@pytest.fixture
def pair() -> tuple[Any, Any]:
    """The network as timm has it, and a folded copy."""
    plain = FrozenNetwork().net.requires_grad_(True)
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    return plain, folded


def answer(net: Any) -> Tensor:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    result: Tensor = net.forward_features(x)
    return result


def test_nothing_of_batch_norm_is_left(pair: tuple[Any, Any]) -> None:
    assert not any(isinstance(module, nn.BatchNorm2d) for module in pair[1].modules())


def test_answers_are_those_of_the_two(pair: tuple[Any, Any]) -> None:
    expected = answer(pair[0]).detach()
    assert torch.allclose(answer(pair[1]), expected, atol=1e-4 * float(expected.abs().max()))
    settle_norms(pair[1])
    assert not any(isinstance(module, FoldedConv) for module in pair[1].modules())
    assert torch.allclose(answer(pair[1]), expected, atol=1e-4 * float(expected.abs().max()))


def test_every_parameter_gets_the_gradient_of_the_two(pair: tuple[Any, Any]) -> None:
    for net in pair:
        torch.autograd.backward(answer(net).square().mean())
    plain, folded = (list(net.blocks.parameters()) for net in pair)
    assert len(plain) == len(folded)
    for one, other in zip(plain, folded, strict=True):
        assert one.shape == other.shape
        assert one.grad is not None
        assert other.grad is not None
        assert float((one.grad - other.grad).abs().max()) < 1e-3 * float(one.grad.abs().max())


def test_under_autocast_only_depthwise_stays_exact(pair: tuple[Any, Any]) -> None:
    block, x = pair[1].blocks[1][0], torch.randn(1, 16, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert block.conv_pw(x).dtype == torch.bfloat16
        assert block.conv_dw(torch.randn(1, 96, 32, 32).bfloat16()).dtype == torch.float32
