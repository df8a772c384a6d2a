"""The model with people behind it: what is sent to them, what it buys, and what it costs.

The largest band of sure answers is chosen on calibration pictures and counted on test pictures
(selective classification: El-Yaniv & Wiener, JMLR 2010; Geifman & El-Yaniv, NeurIPS 2017).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twonines.benchmarks import statistics as st
from twonines.benchmarks.evaluate import Judged, rate_json
from twonines.errors import SettingsError
from twonines.types import GOOD, Verdict

TARGET = 0.99
"""Two nines: the accuracy that the claim speaks of."""
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class People:
    """Error rates of who decides what the model does not: modelled, or measured in a study."""

    escape_rate: float
    overkill_rate: float

    def __post_init__(self) -> None:
        """Refuse what is no rate."""
        for name in ("escape_rate", "overkill_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name}: must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model would answer by itself to N pictures, and how sure it is.

    ``defective`` and ``rejected`` (N,) bool. ``sure`` (N,) in [0, 1] is the probability of its own
    answer by its score; 0 where the verdict is REVIEW or ERROR, for those a person decides anyway.
    """

    defective: st.Bools
    rejected: st.Bools
    sure: st.Floats

    @classmethod
    def of(cls, judged: Judged, threshold: float) -> "Answers":
        """From verdicts; ``threshold`` is the policy's, from which on a part is NG."""
        scores = judged.scores
        unsure = np.array(
            [i.verdict in (Verdict.REVIEW, Verdict.ERROR) for i in judged.inspections], bool
        )
        # Distance from the threshold, so that a model set away from one half is unsure at its own.
        below, above = scores / max(threshold, 1e-9), (1 - scores) / max(1 - threshold, 1e-9)
        sure = 1 - np.minimum(below, above) / 2
        rejected = scores >= threshold
        # A verdict that a rule made stands, whatever the score says.
        rejected = np.where(unsure, rejected, judged.rejected)
        return cls(judged.defective, rejected, np.where(unsure, 0.0, sure))


def find_band(answers: Answers, target: float = TARGET) -> float:
    """The least ``sure`` from which on answers are right with share ``target``, as counted.

    Returns:
        A number in [0, 1]; above 1 where no band is that good, so that nothing is automatic.
    """
    order = np.argsort(-answers.sure, kind="stable")
    sure = answers.sure[order]
    right = (answers.rejected == answers.defective)[order]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    # A band ends between different values only: equal ones go the same way.
    ends = np.append(sure[1:] < sure[:-1], True) & (sure > 0)
    good = np.flatnonzero(ends & (share >= target))
    return float(sure[good[-1]]) if len(good) else float("inf")


def with_people(
    answers: Answers, automatic: npt.NDArray[np.bool_], people: People, *, seed: int = 0
) -> dict[str, Any]:
    """Accuracy, escape and overkill where people decide what is not ``automatic``.

    Values are expectations over the people's errors; intervals are bootstrap percentiles over
    pictures and the people's answers. Every part that people get is looked at once.

    Args:
        answers: N test pictures.
        automatic: (N,) true where the model's own answer stands.
        people: their error rates.
        seed: seeds the bootstrap.
    """
    defective = answers.defective
    by_hand = np.where(defective, people.escape_rate, people.overkill_rate)
    wrong = np.where(automatic, answers.rejected != defective, by_hand)  # chance of an error
    generator = np.random.default_rng(seed)
    count = len(wrong)
    draws = []
    for _ in range(_DRAWS):
        chosen = generator.integers(0, count, count)
        errors = generator.random(count) < wrong[chosen]
        draws.append(_rates(errors.astype(float), defective[chosen]))
    spread = np.array(draws)
    values = _rates(wrong, defective)
    sizes = (count, int(defective.sum()), int((~defective).sum()))
    names = ("accuracy", "escape_rate", "overkill_rate")
    made = {}
    for index, (name, n) in enumerate(zip(names, sizes, strict=True)):
        low, high = np.nanpercentile(spread[:, index], [2.5, 97.5]) if n else (np.nan, np.nan)
        made[name] = {"value": values[index], "n": n, "low": float(low), "high": float(high)}
    sent = int((~automatic).sum())
    return {**made, "review": rate_json(st.rate(sent, count))}


def _rates(wrong: npt.NDArray[np.float64], defective: st.Bools) -> tuple[float, float, float]:
    missed = float(wrong[defective].mean()) if defective.any() else float("nan")
    false = float(wrong[~defective].mean()) if not defective.all() else float("nan")
    return 1 - float(wrong.mean()), missed, false


def automatic_share(answers: Answers, band: float) -> dict[str, Any]:
    """Share of the pictures that the model decides alone, and how often it is right on them."""
    automatic = answers.sure >= band
    right = (answers.rejected == answers.defective)[automatic]
    return {
        "band": band,
        "share": rate_json(st.rate(int(automatic.sum()), len(automatic))),
        "accuracy": rate_json(st.rate(int(right.sum()), len(right))),
    }


def curve(
    answers: Answers, people: People, shares: Sequence[float] = SHARES, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracy and escapes against the share that is sent to people, the least sure first.

    The shares are read off the test pictures themselves; the curve shows what a band could buy
    and is not a promise, see :func:`find_band` for one chosen beforehand.
    """
    order = np.argsort(answers.sure, kind="stable")
    rows = []
    for share in shares:
        automatic = np.ones(len(order), bool)
        automatic[order[: round(share * len(order))]] = False
        right = (answers.rejected == answers.defective)[automatic]
        missed = automatic & answers.defective & ~answers.rejected
        rows.append(
            {
                "review": share,
                "automatic_accuracy": rate_json(st.rate(int(right.sum()), len(right))),
                "automatic_escapes": rate_json(
                    st.rate(int(missed.sum()), int(answers.defective.sum()))
                ),
                "with_people": with_people(answers, automatic, people, seed=seed)["accuracy"],
            }
        )
    return rows


def typing_share(calibration: Judged, test: Judged, target: float = TARGET) -> dict[str, Any]:
    """The same for naming the kind of defect: the band is that of the likeliest kind's score."""
    band = find_band(_named(calibration), target)
    return automatic_share(_named(test), band)


def _named(judged: Judged) -> Answers:
    """Naming as a question with a right answer: "rejected" stands for "named wrong".

    Accepting is another question, so ``good`` takes no part: a defect that was accepted has a kind
    all the same.
    """
    wrong, sure = [], []
    for record, inspection in zip(judged.records, judged.inspections, strict=True):
        kinds = {name: s for name, s in inspection.class_scores.items() if name != GOOD}
        if record.is_defective and sum(kinds.values()) > 0:
            name = max(kinds, key=lambda kind: kinds[kind])
            wrong.append(name != record.defect_class)
            sure.append(kinds[name] / sum(kinds.values()))
    return Answers(np.zeros(len(wrong), bool), np.array(wrong, bool), np.array(sure, float))


def people_json(people: People, source: str) -> dict[str, Any]:
    """Rates of people and where they come from, as plain types."""
    return {**asdict(people), "source": source}
