"""A modelled inspector to compare with. Its figures are inputs, never measurements of ours."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import optimize, stats

from twonines.errors import SettingsError

Status = Literal["confirmed", "secondary", "unverified"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a default comes from: ``confirmed`` was read in the paper itself."""

    parameter: str
    value: float
    citation: str
    status: Status


DEFAULT_ACCURACY = 0.90
DEFAULT_SECONDS = 12.0
DEFAULT_LAPSE = 0.015
DEFAULT_CRITERION = 0.0
DEFAULT_SPREAD = 0.4

SOURCES = (
    Source(
        "accuracy",
        DEFAULT_ACCURACY,
        "The manual figure of the claim under test. It is generous: Schoonard, Gould & Miller "
        "1973 give a balanced accuracy of 87.5 % (23 % of bad accepted, 2 % of good rejected; "
        "confirmed); Aust & Pons 2022, Aerospace 9(1):18 give 63.8-82.6 % (confirmed).",
        "unverified",
    ),
    Source(
        "seconds",
        DEFAULT_SECONDS,
        "The short end of 12-18 s a part (200-300 parts an hour) that vendors name (use only as "
        "a range). It lies between 10 s a vial (USP <1790>) and 14.4 s an X-ray picture "
        "(Ghylin & Drury 2007), both confirmed.",
        "secondary",
    ),
    Source(
        "lapse",
        DEFAULT_LAPSE,
        "Middle of a lapse rate of 1-2 % that inspector models take; an assumption.",
        "unverified",
    ),
    Source(
        "criterion",
        DEFAULT_CRITERION,
        "No leaning to either side; an assumption. Schoonard, Gould & Miller 1973 give +0.66 "
        "(leaning to accept; calculated from their confirmed rates).",
        "unverified",
    ),
    Source(
        "spread",
        DEFAULT_SPREAD,
        "Log-normal decision times, sigma of the logarithm; an assumption.",
        "unverified",
    ),
)


@dataclass(frozen=True, slots=True)
class Inspector:
    """An inspector by equal-variance signal detection.

    ``accuracy`` holds where half of the parts are defective. ``criterion`` above 0 leans to
    accepting. On a share ``lapse`` of the parts the answer is a coin's. ``seconds`` is the median
    of the log-normal time a part, ``spread`` the sigma of its logarithm.
    """

    accuracy: float = DEFAULT_ACCURACY
    seconds: float = DEFAULT_SECONDS
    lapse: float = DEFAULT_LAPSE
    criterion: float = DEFAULT_CRITERION
    spread: float = DEFAULT_SPREAD

    def __post_init__(self) -> None:
        """Refuse values that no inspector can have."""
        if not 0 <= self.lapse < 1:
            raise SettingsError(f"lapse: must lie in [0, 1), got {self.lapse}")
        if not 0.5 < self.accuracy < 1 - self.lapse / 2:
            raise SettingsError(
                f"manual_accuracy: must lie in (0.5, {1 - self.lapse / 2}) at a lapse rate of "
                f"{self.lapse}, got {self.accuracy}"
            )
        if not self.seconds > 0:
            raise SettingsError(f"manual_seconds: must be above 0, got {self.seconds}")
        if not self.spread >= 0:
            raise SettingsError(f"spread: must not be negative, got {self.spread}")
        if not abs(self.criterion) <= 3:
            raise SettingsError(f"criterion: must lie in [-3, 3], got {self.criterion}")

    @property
    def sensitivity(self) -> float:
        """d', solved from the balanced accuracy, the criterion and the lapse rate."""
        alert = (self.accuracy - self.lapse / 2) / (1 - self.lapse)

        def gap(d: float) -> float:
            shares = stats.norm.cdf([d / 2 - self.criterion, d / 2 + self.criterion])
            return float(np.mean(shares)) - alert

        return float(optimize.brentq(gap, 0.0, 40.0))

    def _with_lapse(self, share: float) -> float:
        return (1 - self.lapse) * share + self.lapse / 2

    @property
    def escape_rate(self) -> float:
        """Share of the defective parts that are accepted."""
        return self._with_lapse(float(stats.norm.cdf(self.criterion - self.sensitivity / 2)))

    @property
    def overkill_rate(self) -> float:
        """Share of the good parts that are rejected."""
        return self._with_lapse(float(stats.norm.cdf(-self.criterion - self.sensitivity / 2)))

    def accuracy_at(self, prevalence: float) -> float:
        """Accuracy where a share ``prevalence`` of the parts is defective."""
        return prevalence * (1 - self.escape_rate) + (1 - prevalence) * (1 - self.overkill_rate)

    @property
    def mean_seconds(self) -> float:
        """Mean time a part; above the median, for the long answers."""
        return float(self.seconds * np.exp(self.spread**2 / 2))

    def draw_seconds(self, n: int, seed: int) -> list[float]:
        """``n`` times a part, drawn from the log-normal."""
        generator = np.random.default_rng(seed)
        return [float(s) for s in generator.lognormal(np.log(self.seconds), self.spread, n)]

    def summary(self, prevalence: float) -> dict[str, Any]:
        """Inputs, what follows at ``prevalence``, and the sources, as plain JSON types.

        A value that the caller gave is named as the caller's: the default's citation would not
        stand behind it.
        """
        values = asdict(self)
        sources = []
        for source in SOURCES:
            if values[source.parameter] == source.value:
                sources.append(asdict(source))
                continue
            sources.append(
                {
                    "parameter": source.parameter,
                    "value": values[source.parameter],
                    "citation": "Given by the user of this report.",
                    "status": "unverified",
                }
            )
        return {
            **values,
            "sensitivity": self.sensitivity,
            "prevalence": prevalence,
            "accuracy_at_prevalence": self.accuracy_at(prevalence),
            "escape_rate": self.escape_rate,
            "overkill_rate": self.overkill_rate,
            "mean_seconds": self.mean_seconds,
            "sources": sources,
        }
