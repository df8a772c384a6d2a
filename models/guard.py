"""What a reduced precision may decide otherwise, and is therefore run again in float32."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from twonines.models.card import ModelCard
from twonines.models.outputs import Outputs
from twonines.models.parts import CardPart
from twonines.types import FloatArray

Rows = npt.NDArray[np.bool_]
MARGIN = 2.0
"""New pictures may move further than those that were measured; so many times is allowed for."""


def can_guard(card: ModelCard) -> bool:
    """Whether verdicts follow from what a guard looks at: not from boxes, nor from merged tiles."""
    return card.task != "detect" and card.tiling is None


class Guard(CardPart):
    """How far a reduced precision may move what the decision looks at.

    ``scores`` bounds the shift of the score and of class scores, in [0, 1]; ``novelty`` that of
    the novelty. A picture that is as near as that to a limit of the policy runs again.
    """

    scores: float = Field(ge=0)
    novelty: float = Field(ge=0)

    @classmethod
    def of(cls, exact: Outputs, reduced: Outputs) -> "Guard":
        """``MARGIN`` times the largest shifts between two runs over the same pictures."""
        shifts = (
            np.abs(exact.score - reduced.score).max(initial=0.0),
            np.abs(exact.class_scores - reduced.class_scores).max(initial=0.0),
            np.abs(exact.novelty - reduced.novelty).max(initial=0.0),
        )
        return cls(
            scores=MARGIN * float(max(shifts[:2])),
            novelty=MARGIN * float(shifts[2]),
        )

    def find_unsure(self, outputs: Outputs, card: ModelCard) -> Rows:
        """Which of N pictures float32 might decide otherwise, (N,) bool.

        What is not finite is unsure. So is every picture that would be NG where the policy asks
        for a least area of defects, which depends on the whole map.
        """
        policy, scores = card.policy, outputs.score
        sure = np.isfinite(scores) & np.isfinite(outputs.novelty)
        sure &= np.isfinite(outputs.class_scores).all(axis=1)
        for limit in (policy.accepts_below, policy.threshold):
            sure &= np.abs(scores - limit) > self.scores
        for name, rule in policy.class_rules.items():
            values = outputs.class_scores[:, card.classes.index(name)]
            for at in (rule.review_from, rule.reject_from):
                if at is not None:
                    sure &= np.abs(values - at) > self.scores
        if policy.novelty_limit is not None:
            sure &= np.abs(outputs.novelty - policy.novelty_limit) > self.novelty
        sure &= (scores < policy.accepts_below) | self._is_kind_sure(outputs.class_scores, card)
        if policy.min_defect_area:
            sure &= scores < policy.threshold
        return ~sure

    def _is_kind_sure(self, class_scores: FloatArray, card: ModelCard) -> Rows:
        """Whether the likeliest kind of defect stays the likeliest, (N,) bool."""
        kinds = class_scores[:, 1:] if card.has_good and len(card.classes) > 1 else class_scores
        if kinds.shape[1] < 2:
            return np.ones(len(kinds), np.bool_)
        best = np.sort(kinds, axis=1)
        sure: Rows = best[:, -1] - best[:, -2] > 2 * self.scores
        return sure
