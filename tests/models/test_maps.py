"""The map's network: strides, enlarging, and projecting before it."""

import numpy as np
import pytest
import torch

from twonines.models.backbone import Backbone
from twonines.models.maps import LEVEL_NAMES, MapBackbone, MapHead, MapWeights, enlarge

STRIDES = (4, 8, 16, 32)


def weights(kinds: tuple[int, ...]) -> MapWeights:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(size=shape).astype(np.float32)

    count = 1 + len(kinds)
    return MapWeights(draw(5, 6), draw(6), draw(6, count), draw(count), kinds)


def levels() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 8, 12, generator=rng), torch.randn(2, 2, 4, 6, generator=rng)]


def test_levels_lie_at_their_strides_and_features_stay() -> None:
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    network = MapBackbone()
    with torch.inference_mode():
        features, *outputs = network(images)
        expected = Backbone()(images)[0]
    assert network.output_names == ("features", *LEVEL_NAMES)
    assert [tuple(o.shape[-2:]) for o in outputs] == [(64 // s, 96 // s) for s in STRIDES]
    assert torch.allclose(features, expected, atol=1e-5)


def test_projecting_first_changes_nothing() -> None:
    given, fine = weights((1, 3)), levels()
    logits, classes = MapHead(given)(*fine)
    stacked = torch.cat([enlarge(level, fine[0]) for level in fine], 1)
    hidden = torch.einsum("nchw,cm->nmhw", stacked, torch.from_numpy(given.project))
    hidden = (hidden + torch.from_numpy(given.offset)[:, None, None]).relu()
    answers = torch.einsum("nmhw,mk->nkhw", hidden, torch.from_numpy(given.answer))
    answers = answers + torch.from_numpy(given.bias)[:, None, None]
    assert torch.allclose(logits, answers[:, 0], atol=1e-5)
    expected = torch.where(answers[:, 1] >= answers[:, 2], 1, 3)
    assert classes.dtype == torch.int64 and (classes == expected).float().mean() > 0.99


@pytest.mark.parametrize(("kinds", "outputs"), [((1,), 1), ((), 1), ((0, 1), 2)])
def test_one_kind_needs_no_map_of_kinds(kinds: tuple[int, ...], outputs: int) -> None:
    head = MapHead(weights(kinds))
    assert len(head(*levels())) == outputs and head.names_kinds == (outputs == 2)


def test_enlarging_keeps_a_flat_level_and_its_own_size() -> None:
    flat = torch.full((1, 2, 3, 3), 4.0)
    assert torch.equal(enlarge(flat, torch.zeros(1, 1, 9, 6)), torch.full((1, 2, 9, 6), 4.0))
    assert enlarge(flat, torch.zeros(1, 7, 3, 3)) is flat
