"""Quality limits from the pictures that a model was taught and calibrated on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from twonines.datasets.record import Record
from twonines.models.image import decode_for, resize
from twonines.models.providers import available_threads
from twonines.models.quality import QualityLimits, learn_limits, measure

MOST = 512
"""Pictures that are looked at; more do not move the quantiles, and teaching takes seconds."""


def learn_quality(records: Sequence[Record], size: tuple[int, int], seed: int) -> QualityLimits:
    """Limits of the pictures' own features, from a seeded choice of at most ``MOST``.

    Args:
        records: pictures of training and calibration, never of test.
        size: (height, width) of the model's input.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(records))[:MOST]

    def features(index: int) -> dict[str, float]:
        found = decode_for(records[index].path.read_bytes(), lambda _: size)
        return measure(found.size, resize(found.image, size))

    with ThreadPoolExecutor(available_threads()) as pool:
        return learn_limits(pool.map(features, order))
