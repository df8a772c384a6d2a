import numpy as np
import pytest
import torch

from twonines.models.patches import PatchBackbone, PatchHead, PatchWeights


@pytest.fixture(scope="module")
def backbone() -> PatchBackbone:
    return PatchBackbone()


def test_patches_stand_at_stride_16(backbone: PatchBackbone) -> None:
    images = torch.zeros((2, 96, 96, 3), dtype=torch.uint8)
    (patches,) = backbone(images)
    assert patches.shape == (2, 6, 6, sum(backbone.widths))
    assert backbone.widths == (80, 112, 192)


def test_odd_sizes_are_taken(backbone: PatchBackbone) -> None:
    (patches,) = backbone(torch.zeros((1, 75, 75, 3), dtype=torch.uint8))
    assert patches.shape[:3] == (1, 5, 5)


def head(limit: float = 1.0) -> PatchHead:
    """Two channels, as they are; one patch in the memory, at the origin."""
    weights = PatchWeights(
        whiten=np.eye(2, dtype=np.float32),
        offset=np.zeros(2, np.float32),
        memory=np.zeros((1, 2), np.float16),
        limit=limit,
        scale=0.1,
    )
    return PatchHead(weights, (32, 32))


def picture(distance: float) -> torch.Tensor:
    """Four places of which all lie at the distance."""
    patches = torch.zeros((1, 2, 2, 2))
    patches[..., 0] = distance
    return patches


@pytest.mark.parametrize(("distance", "ng"), [(0.999, False), (1.0, True), (1.001, True)])
def test_score_at_the_limit(distance: float, ng: bool) -> None:
    score, class_scores, defect_map, novelty = head()(picture(distance))
    assert (float(score[0]) >= 0.5) is ng
    assert class_scores[0].tolist() == pytest.approx([1 - float(score[0]), float(score[0])])
    assert defect_map.shape == (1, 32, 32)
    assert defect_map.numpy() == pytest.approx(float(score[0]), abs=1e-6)
    assert float(novelty[0]) == pytest.approx(distance)


def test_score_ranks_as_the_distance() -> None:
    patches = torch.cat([picture(d) for d in np.linspace(0.2, 1.8, 9)])
    score, _, _, novelty = head()(patches)
    assert (score.diff() > 0).all() and (novelty.diff() > 0).all()


def test_the_map_shows_the_place() -> None:
    patches = torch.zeros((1, 2, 2, 2))
    patches[0, 1, 0, 1] = 5.0
    defect_map = head()(patches)[2][0]
    assert defect_map[28, 4] > 0.99 and defect_map[4, 28] < 0.01
