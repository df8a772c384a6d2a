"""What a trained network's features say of a picture, beside those of the pictures it learnt."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from twonines.datasets.record import DEFECTIVE
from twonines.models.head import HeadWeights, KernelHead, defect_sign
from twonines.models.network import DefectNetwork
from twonines.training.finetune_data import Gallery
from twonines.training.fit import FeatureLayout, fit_head
from twonines.types import GOOD, FloatArray

BATCH = 16
CHUNK = 256
"""Pictures that are compared at a time; their distances to all landmarks are held at once."""


def fit_neighbours(
    network: DefectNetwork,
    gallery: Gallery,
    progress: Callable[[int, int], None],
    *,
    seed: int,
) -> HeadWeights:
    """Kernel ridge on what the trained backbone pools of training pictures, as ``teach`` has it.

    The network was trained on the same pictures, and yet this tells others apart as well as its
    own logit, or better: extremes and spreads at several depths say what the mean of the last one
    does not. Without good pictures it says only how new a picture is.

    Args:
        network: trained.
        gallery: N training pictures.
        progress: told how many are done.
        seed: chooses the landmarks where there are more than a head holds.
    """
    network.eval()
    features = []
    for start in range(0, len(gallery), BATCH):
        chosen = range(start, min(start + BATCH, len(gallery)))
        with torch.inference_mode():
            features.append(network.features(*gallery.tensors(chosen)).numpy())
        progress(chosen.stop, len(gallery))
    classes: tuple[str, ...] = (DEFECTIVE,)
    labels = np.zeros(len(gallery), np.int64)
    if network.layout.has_good:
        classes = (GOOD, DEFECTIVE)
        labels[:] = [record.is_defective for record in gallery.records]
    certainty = np.array([record.certainty for record in gallery.records], np.float32)
    layout = FeatureLayout.of(network.widths)
    return fit_head(np.concatenate(features), labels, certainty, classes, layout, seed=seed)


def compare(neighbours: HeadWeights, features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What the neighbours say of features (N, D): their sign (N,) and the novelty (N,)."""
    head = KernelHead(neighbours)
    signs: list[Tensor] = []
    novelty: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(features), CHUNK):
            response, distance = head.respond(torch.from_numpy(features[start : start + CHUNK]))
            signs.append(defect_sign(response))
            novelty.append(distance)
    return torch.cat(signs).numpy(), torch.cat(novelty).numpy()
