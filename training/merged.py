"""What a model in tiles takes for good, learnt from large good pictures.

What was learnt on pieces says nothing of a whole large picture: its size is another, and the score
and novelty of hundreds of tiles are the highest of hundreds.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twonines.errors import GateError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.image import naming
from twonines.models.inspector import Inspector
from twonines.models.quality import learn_limits
from twonines.models.session import InspectionSession
from twonines.training.classes import NOVELTY_MARGIN
from twonines.training.lesson import Report

BATCH = 32
CLEAR = 2.0
"""Logits by which the threshold lies above the highest score of a good picture."""
MOST = 0.999
HIGHEST, PICTURES = "tiled_highest_score", "tiled_pictures"
"""Parameters of the card's calibration: what the threshold was set by."""


def learn_merged(
    session: InspectionSession, paths: Sequence[Path], max_tiles: int, report: Report
) -> ModelCard:
    """The card of a model in tiles with the limits of whole pictures, set on good ones.

    Quality limits are of the pictures' own features. The limit of novelty, where the model had one,
    is clear of their highest, and the threshold is :data:`CLEAR` of their highest score; neither
    gets lower, for defective pieces had a say in both, and good pictures tell nothing of those. A
    band below it (``accept_below``) was certified without tiles, and is taken off. Least areas,
    which are shares of a picture, become the same pixels of a large one.

    Args:
        session: a model whose card has its tiling, and the policy of whole inputs.
        paths: large pictures of good parts, at least one, none of them taught.
        max_tiles: a picture of more is refused.
        report: of progress.

    Raises:
        SettingsError: no threshold lies above the score of a picture.
        ImageError: a picture cannot be read or has too many tiles; the message names it.
        GateError: the model's answer to a picture is not finite.
    """
    card = session.card
    assert card.tiling is not None and paths
    inspector = Inspector(session, max_tiles=max_tiles)
    scores, novelties, qualities, shares = [], [], [], []
    for index, path in enumerate(paths):
        report("good pictures", index, len(paths))
        with naming(path):
            picture = inspector.read(path.read_bytes())
        outputs = inspector.outputs(picture, BATCH)
        score, novelty = float(outputs.score[0]), float(outputs.novelty[0])
        if not (math.isfinite(novelty) and 0 <= score <= 1):
            raise GateError(
                f"good: the score must lie in [0, 1] and the novelty be finite, the model gives "
                f"{score:g} and {novelty:g} for {path.name}"
            )
        scores.append(score)
        novelties.append(novelty)
        qualities.append(picture.quality)
        shares.append(math.prod(card.input_size) / card.tiling.scale**2 / math.prod(picture.size))
    report("good pictures", len(paths), len(paths))
    highest = max(scores)
    if highest >= MOST:
        raise SettingsError(
            f"good: every picture must score below {MOST}, so that a threshold can lie above it, "
            f"got {highest:.4f} for {paths[scores.index(highest)].name}; look at it with "
            "`twonines show`, or teach with pieces like it"
        )
    policy = card.policy
    share = min(1.0, float(np.median(shares)))
    limit = policy.novelty_limit
    if limit is not None:
        limit = max(limit, max(novelties) * NOVELTY_MARGIN)
    policy = policy.model_copy(
        update={
            "threshold": max(policy.threshold, raised(highest)),
            "accept_below": None,
            "novelty_limit": limit,
            "min_region_area": policy.min_region_area * share,
            "min_defect_area": policy.min_defect_area * share,
        }
    )
    found = {HIGHEST: highest, PICTURES: float(len(paths))}
    calibration = card.calibration.model_copy(
        update={"parameters": card.calibration.parameters | found}
    )
    quality = learn_limits(qualities)
    return card.model_copy(
        update={"policy": policy, "quality": quality, "calibration": calibration}
    )


def raised(score: float) -> float:
    """A threshold clearly above a score: its logit and :data:`CLEAR` more, at most :data:`MOST`."""
    inner = min(max(score, 1e-6), MOST)
    return min(1 / (1 + (1 - inner) / inner * math.exp(-CLEAR)), MOST)


def most_rejected(pictures: int) -> float:
    """The most good parts, as a share, that may score above all ``pictures``; 95 % confidence."""
    share: float = 1 - 0.05 ** (1 / pictures)
    return share
