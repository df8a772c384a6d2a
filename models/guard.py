"""What a reduced precision may decide otherwise, and is therefore run again in float32."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from twonines.models.card import ModelCard
from twonines.models.outputs import Outputs
from twonines.models.parts import CardPart

Rows = npt.NDArray[np.bool_]
MARGIN = 2.0
"""New pictures may move further than those that were measured; so many times is allowed for."""
LEAST = 0.5
"""The least margin in logits: pictures far from every limit show little of what is near one."""
_EXTREME = 1e-3
"""Probabilities nearer than this to 0 or 1 count as this near: half precision tells no more."""


def can_guard(card: ModelCard) -> bool:
    """Whether verdicts follow from what a guard looks at: not from boxes, nor from merged tiles."""
    return card.task != "detect" and card.tiling is None


class Guard(CardPart):
    """How far a reduced precision may move what the decision looks at.

    ``logits`` bounds the shift of the score and of class scores as logits, ln(p / (1 - p)): a
    rounding error that moves a score by a thousandth near 0 moves it by a tenth near 0.5.
    ``novelty`` bounds the shift of the novelty. A picture that is as near as that to a limit of
    the policy runs again, and so does one whose novelty is above ``most_novel``, beyond which
    nothing was measured.
    """

    logits: float = Field(ge=0)
    novelty: float = Field(ge=0)
    most_novel: float

    @classmethod
    def of(cls, exact: Outputs, reduced: Outputs) -> "Guard":
        """``MARGIN`` times the largest shifts between two runs over the same N >= 1 pictures.

        That of logits is at least ``LEAST``.
        """
        shifts = _find_shifts(exact, reduced)
        return cls(
            logits=max(LEAST, MARGIN * shifts[0]),
            novelty=MARGIN * shifts[1],
            most_novel=float(reduced.novelty.max()),
        )

    def covers(self, exact: Outputs, reduced: Outputs) -> bool:
        """Whether no shift between two runs over the same pictures is larger."""
        shifts = _find_shifts(exact, reduced)
        return shifts[0] <= self.logits and shifts[1] <= self.novelty

    def find_unsure(self, outputs: Outputs, card: ModelCard) -> Rows:
        """Which of N pictures float32 might decide otherwise, (N,) bool.

        What is no proper output is unsure. So is every picture that may be NG where the policy
        asks for a least area of defects, which depends on the whole map.
        """
        policy = card.policy
        scores, kinds = _logits(outputs.score), _logits(outputs.class_scores)
        sure = _are_proper(outputs) & (outputs.novelty <= self.most_novel)
        may_be_ng = scores >= _logits(policy.threshold)
        may_be_ok = (outputs.score < policy.accepts_below) & card.has_good
        for limit in (policy.accepts_below, policy.threshold):
            sure &= np.abs(scores - _logits(limit)) > self.logits
        for name, rule in policy.class_rules.items():
            values = kinds[:, card.classes.index(name)]
            for at in (rule.review_from, rule.reject_from):
                if at is not None:
                    sure &= np.abs(values - _logits(at)) > self.logits
                    may_be_ok &= values < _logits(at)
            if rule.reject_from is not None:
                may_be_ng |= values >= _logits(rule.reject_from)
        if policy.novelty_limit is not None:
            sure &= np.abs(outputs.novelty - policy.novelty_limit) > self.novelty
            may_be_ok &= outputs.novelty <= policy.novelty_limit
        if policy.min_defect_area:
            sure &= ~may_be_ng
        return ~(sure & (may_be_ok | self._is_kind_sure(kinds, card)))

    def _is_kind_sure(self, kinds: npt.NDArray[np.float64], card: ModelCard) -> Rows:
        """Whether the likeliest kind of defect stays the likeliest, (N,) bool."""
        defects = kinds[:, 1:] if card.has_good and len(card.classes) > 1 else kinds
        if defects.shape[1] < 2:
            return np.ones(len(kinds), np.bool_)
        best = np.sort(defects, axis=1)
        sure: Rows = best[:, -1] - best[:, -2] > 2 * self.logits
        return sure


def _logits(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    inner = np.clip(np.asarray(values, np.float64), _EXTREME, 1 - _EXTREME)
    found: npt.NDArray[np.float64] = np.log(inner / (1 - inner))
    return found


def _find_shifts(exact: Outputs, reduced: Outputs) -> tuple[float, float]:
    """The largest shifts of logits and of novelty."""
    pairs = ((exact.score, reduced.score), (exact.class_scores, reduced.class_scores))
    moved = max(float(np.abs(_logits(a) - _logits(b)).max()) for a, b in pairs)
    return moved, float(np.abs(exact.novelty - reduced.novelty).max())


def _are_proper(outputs: Outputs) -> Rows:
    """What the decision takes for a model's output, (N,) bool."""
    proper: Rows = (outputs.score >= 0) & (outputs.score <= 1) & np.isfinite(outputs.novelty)
    proper &= np.isfinite(outputs.class_scores).all(axis=1)
    proper &= np.isfinite(outputs.defect_map).all(axis=(1, 2))
    return proper
