"""Throughput of the whole cell: the model, and the people who look again at what it sends them."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twonines.benchmarks.claims import SPEED_TARGET, judge
from twonines.benchmarks.statistics import Estimate, percentile_estimate
from twonines.errors import SettingsError

_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Cell:
    """One model and the people beside it.

    ``manual_s`` is the mean time a part by hand (the mean, for parts an hour follow from sums),
    ``model_s`` the model's, ``review_s`` a person's time for a part that was sent to review
    (``manual_s`` where None). ``inspectors`` share the reviews of one model.
    """

    manual_s: float
    model_s: float
    review_rate: float
    review_s: float | None = None
    inspectors: int = 1

    def __post_init__(self) -> None:
        """Refuse what no cell can have."""
        for name in ("manual_s", "model_s"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name}: must be above 0, got {getattr(self, name)}")
        if self.review_s is not None and not self.review_s > 0:
            raise SettingsError(f"review_s: must be above 0, got {self.review_s}")
        if not 0 <= self.review_rate <= 1:
            raise SettingsError(f"review_rate: must lie in [0, 1], got {self.review_rate}")
        if self.inspectors < 1:
            raise SettingsError(f"inspectors: must be at least 1, got {self.inspectors}")

    @property
    def people_s(self) -> float:
        """A person's time per part of the line, reviews spread over all parts."""
        return self.review_rate * (self.manual_s if self.review_s is None else self.review_s)

    @property
    def serial_s(self) -> float:
        """Time a part where model and one person work in turn."""
        return self.model_s + self.people_s

    @property
    def pipelined_s(self) -> float:
        """Time a part where all work at once: the slower of the model and the people."""
        return max(self.model_s, self.people_s / self.inspectors)

    @property
    def bottleneck(self) -> Literal["model", "people"]:
        """Who sets the pace of the pipelined cell."""
        return "people" if self.people_s / self.inspectors > self.model_s else "model"

    @property
    def serial_gain(self) -> float:
        """t_manual / (t_ai + review_rate * t_manual): one person with the model, and without."""
        return self.manual_s / self.serial_s

    @property
    def pipelined_gain(self) -> float:
        """Parts an hour over those of the same people by hand."""
        return self.manual_s / self.inspectors / self.pipelined_s

    def figures(self) -> dict[str, float]:
        """Every figure by name."""
        pipelined = 3600 / self.pipelined_s
        return {
            "serial_gain": self.serial_gain,
            "pipelined_gain": self.pipelined_gain,
            "manual_parts_per_hour_per_inspector": 3600 / self.manual_s,
            "serial_parts_per_hour": 3600 / self.serial_s,
            "pipelined_parts_per_hour": pipelined,
            "pipelined_parts_per_hour_per_inspector": pipelined / self.inspectors,
        }


def measure_cell(
    manual_seconds: npt.ArrayLike,
    model_seconds: npt.ArrayLike,
    reviews: tuple[int, int],
    *,
    review_seconds: npt.ArrayLike | None = None,
    inspectors: int = 1,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The cell's figures with intervals from what was measured, as plain types.

    Times are drawn with replacement, the review rate from its posterior under Jeffreys' prior.

    Args:
        manual_seconds: (N,) a look each.
        model_seconds: (M,) seconds a part, one per measured round.
        reviews: pictures sent to a person, and all pictures.
        review_seconds: (K,) a look at such a part each; as by hand where None.
        inspectors: people who share the reviews of one model.
        groups: (N,) who looked; people are then drawn first, and their looks after.
        seed: seeds the draws.

    Returns:
        Each figure of :meth:`Cell.figures` with ``value``, ``n``, ``low`` and ``high``;
        ``inputs``, ``bottleneck``, and ``answers`` to "at least three times as fast".
    """
    manual, model = _times(manual_seconds, "manual_seconds"), _times(model_seconds, "model_seconds")
    review = None if review_seconds is None else _times(review_seconds, "review_seconds")
    k, n = reviews
    if not 0 <= k <= n or n < 1:
        raise SettingsError(f"reviews: must be a count of a count of at least 1, got {k} of {n}")
    cell = Cell(_mean(manual), _mean(model), k / n, None if review is None else _mean(review),
                inspectors)  # fmt: skip
    who = np.zeros(len(manual)) if groups is None else np.asarray(groups)
    people = [manual[who == name] for name in np.unique(who)]
    generator = np.random.default_rng(seed)

    def again(values: npt.NDArray[np.float64]) -> float:
        return _mean(generator.choice(values, len(values)))

    drawn = []
    for share in generator.beta(k + 0.5, n - k + 0.5, _DRAWS):
        looks = [people[i] for i in generator.integers(0, len(people), len(people))]
        by_hand = float(np.average([again(x) for x in looks], weights=[len(x) for x in looks]))
        reviewed = None if review is None else again(review)
        drawn.append(Cell(by_hand, again(model), float(share), reviewed, inspectors).figures())
    values = cell.figures()
    made: dict[str, Estimate] = {
        name: percentile_estimate(value, np.array([d[name] for d in drawn]), n)
        for name, value in values.items()
    }
    return {
        **{name: asdict(estimate) for name, estimate in made.items()},
        "inputs": asdict(cell) | {"reviews": k, "pictures": n, "looks": len(manual)},
        "bottleneck": cell.bottleneck,
        "target": SPEED_TARGET,
        "answers": {
            name: judge(made[name].low, made[name].high, SPEED_TARGET)
            for name in ("serial_gain", "pipelined_gain")
        },
    }


def _times(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    times = np.asarray(values, np.float64)
    if times.ndim != 1 or not len(times) or not (np.isfinite(times) & (times > 0)).all():
        raise SettingsError(f"{name}: must be at least one finite time above 0")
    return times


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.mean(values))
