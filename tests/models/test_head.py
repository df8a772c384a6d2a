"""The graph's head against the arithmetic of the fit, which is written apart from it."""

import numpy as np
import pytest
import torch

from twonines.models.head import HeadWeights, KernelHead
from twonines.training import fit


def weights(has_good: bool, classes: int) -> HeadWeights:
    rng = np.random.default_rng(0)
    heads = 1 if has_good else classes
    return HeadWeights(
        mean=rng.normal(size=8).astype(np.float32),
        gain=rng.uniform(0, 2, 8).astype(np.float32),
        weight=np.full(8, 0.35, np.float32),
        landmarks=rng.normal(size=(20, 8)).astype(np.float16),
        alphas=rng.normal(size=(20, classes)).astype(np.float32),
        offset=rng.uniform(size=classes).astype(np.float32),
        reject=np.array([3.0, -0.4], np.float32),
        temperature=np.array([2.5], np.float32),
        place_weights=rng.normal(size=(5, heads)).astype(np.float32),
        place_bias=rng.normal(size=heads).astype(np.float32),
        has_good=has_good,
    )


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("has_good", [True, False])
def test_graph_and_fit_agree(has_good: bool, classes: int) -> None:
    rng = np.random.default_rng(1)
    features = (10 * rng.normal(size=(6, 8))).astype(np.float32)
    places = rng.normal(size=(6, 5, 3, 4)).astype(np.float32)
    head = weights(has_good, classes)
    with torch.inference_mode():
        outputs = KernelHead(head)(torch.from_numpy(features), torch.from_numpy(places))
    score, class_scores, defect_map, novelty = (output.numpy() for output in outputs)
    expected = fit.probabilities(head, features)
    assert np.allclose(class_scores, expected, atol=1e-4)
    assert np.allclose(class_scores.sum(1), 1, atol=1e-5)
    assert np.allclose(novelty, fit.novelty(head, features), atol=1e-3)
    logits = np.einsum("nchw,ck->nkhw", places, head.place_weights)
    logits = (logits + head.place_bias[None, :, None, None]).max(1)
    assert np.allclose(defect_map, 1 / (1 + np.exp(-logits)), atol=1e-5)
    if has_good:
        assert np.allclose(score, 1 - expected[:, 0], atol=1e-4)
    else:
        assert (score == 1).all()
