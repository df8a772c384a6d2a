"""A modelled crew of inspectors: severity, prevalence, time on task, lapses and differences.

Its figures are inputs, never measurements of ours. ``manual.Inspector`` is one average person on
defects of one kind; this is several people on defects that are harder and easier to see.

Convention: signal detection with equal variances. Good parts give evidence N(0, 1), defects of a
severity N(d', 1); a part is rejected where the evidence passes d'/2 + c, d' being that of the
middle severity. Above 0, the criterion c leans to accepting.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from twonines.benchmarks.manual import (
    DEFAULT_ACCURACY,
    DEFAULT_CRITERION,
    DEFAULT_LAPSE,
    DEFAULT_SECONDS,
    DEFAULT_SPREAD,
    Source,
)
from twonines.benchmarks.manual import SOURCES as INSPECTOR_SOURCES
from twonines.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Severity:
    """A kind of defect: its share of the defective parts, and its d' less that of the middle."""

    name: str
    share: float
    shift: float


_CAUGHT = {"slight": 0.720, "middle": 0.928, "severe": 0.990}
DEFAULT_SEVERITIES = tuple(
    Severity(name, 1 / 3, float(stats.norm.ppf(caught) - stats.norm.ppf(_CAUGHT["middle"])))
    for name, caught in _CAUGHT.items()
)
DEFAULT_PREVALENCE_SLOPE = float(
    (stats.norm.ppf(0.14) - stats.norm.ppf(0.025)) / (special.logit(0.5) - special.logit(0.02))
)
DEFAULT_CRITERION_PER_HOUR = 0.1
DEFAULT_SENSITIVITY_PER_HOUR = 0.0
DEFAULT_SD_SENSITIVITY = 0.4
DEFAULT_SD_CRITERION = 0.3
DEFAULT_SD_LOG_SECONDS = 0.3

_AUST = (
    "Aust & Pons 2022, Aerospace 9(1):18: severities S1, S2, S3 were caught in 72.0, 92.8 and "
    "99.0 % (confirmed); the difference of their normal deviates, criterion the same (calculated)."
)
SOURCES = (
    *INSPECTOR_SOURCES,
    Source("severity_shift_slight", DEFAULT_SEVERITIES[0].shift, _AUST, "confirmed"),
    Source("severity_shift_severe", DEFAULT_SEVERITIES[2].shift, _AUST, "confirmed"),
    Source(
        "severity_share", 1 / 3, "Slight, middle and severe in equal parts; an assumption.",
        "unverified",
    ),
    Source(
        "prevalence_slope", DEFAULT_PREVALENCE_SLOPE,
        "Pop-out defects were missed in 2.5 % at a prevalence of 50 % and in 14 % at 2 % "
        "(PMC3064483, JOV 2007 7(9):708; confirmed); the shift of the criterion per unit of the "
        "prevalence's logit that gives this at a constant d' (calculated).",
        "confirmed",
    ),
    Source(
        "criterion_per_hour", DEFAULT_CRITERION_PER_HOUR,
        "Hits and false alarms both fall from hour 1 (Ghylin & Drury 2007; confirmed); how much "
        "an hour is an assumption.",
        "unverified",
    ),
    Source(
        "sensitivity_per_hour", DEFAULT_SENSITIVITY_PER_HOUR,
        "Sensitivity was constant over 4 hours (Ghylin & Drury 2007; confirmed). Parasuraman 1979 "
        "has it fall at high event rates with a load on memory (secondary).",
        "confirmed",
    ),
    Source(
        "sd_sensitivity", DEFAULT_SD_SENSITIVITY,
        "Differences between inspectors in d'; an assumption. That they are large is confirmed: "
        "all 50 people agreed on 15.4 % of pictures (Aust & Pons 2022, Safety 8(2):23).",
        "unverified",
    ),
    Source(
        "sd_criterion", DEFAULT_SD_CRITERION,
        "Differences between inspectors in the criterion; an assumption.", "unverified",
    ),
    Source(
        "sd_log_seconds", DEFAULT_SD_LOG_SECONDS,
        "Differences between inspectors in the logarithm of time; an assumption.", "unverified",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Looks:
    """A simulated study: (I, P, R) answers and seconds, and what each of I inspectors was."""

    rejected: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    sensitivity: npt.NDArray[np.float64]
    criterion: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crew:
    """Inspectors who differ.

    ``accuracy`` is the mean balanced accuracy of fresh people where half of the parts are
    defective; d' follows from it. ``criterion``, ``lapse``, ``seconds`` and ``spread`` are those
    of ``manual.Inspector``. The criterion rises by ``prevalence_slope`` per unit of the logit by
    which defects are rarer than half, and by ``criterion_per_hour``; d' falls by
    ``sensitivity_per_hour``. Between people d', criterion and log seconds are normal with the
    standard deviations given.
    """

    accuracy: float = DEFAULT_ACCURACY
    criterion: float = DEFAULT_CRITERION
    lapse: float = DEFAULT_LAPSE
    seconds: float = DEFAULT_SECONDS
    spread: float = DEFAULT_SPREAD
    severities: tuple[Severity, ...] = DEFAULT_SEVERITIES
    prevalence_slope: float = DEFAULT_PREVALENCE_SLOPE
    criterion_per_hour: float = DEFAULT_CRITERION_PER_HOUR
    sensitivity_per_hour: float = DEFAULT_SENSITIVITY_PER_HOUR
    sd_sensitivity: float = DEFAULT_SD_SENSITIVITY
    sd_criterion: float = DEFAULT_SD_CRITERION
    sd_log_seconds: float = DEFAULT_SD_LOG_SECONDS

    def __post_init__(self) -> None:
        """Refuse values that no crew can have."""
        if not 0 <= self.lapse < 1:
            raise SettingsError(f"lapse: must lie in [0, 1), got {self.lapse}")
        if not 0.5 < self.accuracy < 1 - self.lapse / 2:
            raise SettingsError(
                f"accuracy: must lie in (0.5, {1 - self.lapse / 2}) at a lapse rate of "
                f"{self.lapse}, got {self.accuracy}"
            )
        if not self.severities or not np.isclose(sum(s.share for s in self.severities), 1):
            raise SettingsError("severities: the shares must add up to 1")
        if any(not s.share >= 0 for s in self.severities):
            raise SettingsError("severities: no share may be negative")
        if not self.seconds > 0:
            raise SettingsError(f"seconds: must be above 0, got {self.seconds}")
        for name in ("spread", "sd_sensitivity", "sd_criterion", "sd_log_seconds",
                     "prevalence_slope", "sensitivity_per_hour"):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name}: must not be negative, got {getattr(self, name)}")
        if self._at(0.0, self.criterion)[0] > self.accuracy:
            raise SettingsError(
                f"accuracy: must be above that of people with a d' of 0, got {self.accuracy}"
            )

    @property
    def sensitivity(self) -> float:
        """Mean d' of the middle severity, solved from the accuracy."""
        return float(
            optimize.brentq(lambda d: self._at(d, self.criterion)[0] - self.accuracy, 0.0, 60.0)
        )

    @property
    def mean_seconds(self) -> float:
        """Mean time a part over people and looks; parts an hour follow from it."""
        return float(self.seconds * np.exp((self.spread**2 + self.sd_log_seconds**2) / 2))

    def _shares(self, d: float, c: float) -> tuple[npt.NDArray[np.float64], float]:
        """Miss rate by severity, and overkill rate, over people who differ."""
        # A normal d' and criterion inside a normal integral widen it: Phi(m / sqrt(1 + v)).
        wide = np.sqrt(1 + self.sd_sensitivity**2 / 4 + self.sd_criterion**2)
        shifts = np.array([s.shift for s in self.severities])
        missed = stats.norm.cdf((c - d / 2 - shifts) / wide)
        false = float(stats.norm.cdf((-c - d / 2) / wide))
        keep, guess = 1 - self.lapse, self.lapse / 2
        return keep * missed + guess, keep * false + guess

    def _at(self, d: float, c: float) -> tuple[float, float, float]:
        """Balanced accuracy, escape rate and overkill rate."""
        missed, overkill = self._shares(d, c)
        escape = float(missed @ np.array([s.share for s in self.severities]))
        return 1 - (escape + overkill) / 2, escape, overkill

    def _criterion(self, prevalence: float, hours: npt.ArrayLike) -> npt.NDArray[np.float64]:
        rarer = -float(special.logit(prevalence))
        return np.asarray(
            self.criterion + self.prevalence_slope * rarer
            + self.criterion_per_hour * np.asarray(hours, np.float64)
        )  # fmt: skip

    def rates(self, prevalence: float = 0.5, hours: float = 0.0) -> dict[str, Any]:
        """Closed-form rates after ``hours`` of work where ``prevalence`` of the parts is defective.

        Returns:
            ``accuracy`` at that mix, ``balanced_accuracy``, ``escape_rate``, ``overkill_rate``,
            ``missed`` by severity, and the ``sensitivity`` and ``criterion`` behind them.
        """
        if not 0 < prevalence < 1:
            raise SettingsError(f"prevalence: must lie in (0, 1), got {prevalence}")
        d = max(0.0, self.sensitivity - self.sensitivity_per_hour * hours)
        c = float(self._criterion(prevalence, hours))
        balanced, escape, overkill = self._at(d, c)
        missed, _ = self._shares(d, c)
        return {
            "prevalence": prevalence,
            "hours": hours,
            "accuracy": prevalence * (1 - escape) + (1 - prevalence) * (1 - overkill),
            "balanced_accuracy": balanced,
            "escape_rate": escape,
            "overkill_rate": overkill,
            "missed": {s.name: float(m) for s, m in zip(self.severities, missed, strict=True)},
            "sensitivity": d,
            "criterion": c,
        }

    def simulate(
        self,
        severity: npt.ArrayLike,
        *,
        inspectors: int,
        repeats: int = 1,
        prevalence: float | None = None,
        seed: int = 0,
    ) -> Looks:
        """Let people look at pictures.

        Args:
            severity: (P,) int index into ``severities``, -1 for a good part.
            inspectors: how many people; at least 1.
            repeats: looks of each at each picture; at least 1.
            prevalence: what they are used to; the pictures' own where None.
            seed: seeds everything.
        """
        kind = np.asarray(severity, np.intp)
        if kind.ndim != 1 or not len(kind) or kind.min() < -1 or kind.max() >= len(self.severities):
            raise ValueError(f"severity: must be (P,) within [-1, {len(self.severities) - 1}]")
        if inspectors < 1 or repeats < 1:
            raise ValueError(f"inspectors, repeats: at least 1, got {inspectors}, {repeats}")
        used_to = float(np.mean(kind >= 0)) if prevalence is None else prevalence
        if not 0 < used_to < 1:
            raise SettingsError(f"prevalence: must lie in (0, 1), got {used_to}")
        generator = np.random.default_rng(seed)
        shape = (inspectors, repeats, len(kind))
        d = np.maximum(0, generator.normal(self.sensitivity, self.sd_sensitivity, inspectors))
        c = generator.normal(self._criterion(used_to, 0.0), self.sd_criterion, inspectors)
        pace = generator.normal(np.log(self.seconds), self.sd_log_seconds, inspectors)
        seconds = np.exp(generator.normal(pace[:, None, None], self.spread, shape))
        # Time on task before each look, rounds of repeats one after another.
        hours = (np.cumsum(seconds.reshape(inspectors, -1), 1).reshape(shape) - seconds) / 3600
        level = np.maximum(0, d[:, None, None] - self.sensitivity_per_hour * hours)
        shifts = np.append([s.shift for s in self.severities], 0.0)[kind]
        signal = np.where(kind >= 0, level + shifts, 0.0)
        bar = level / 2 + c[:, None, None] + self.criterion_per_hour * hours
        said = generator.normal(signal, 1.0) > bar
        lapsed = generator.random(shape) < self.lapse
        said = np.where(lapsed, generator.random(shape) < 0.5, said)
        turned = (0, 2, 1)  # (I, R, P) -> (I, P, R)
        return Looks(said.transpose(turned).astype(np.float64), seconds.transpose(turned), d, c)

    def summary(self, prevalence: float) -> dict[str, Any]:
        """Inputs, rates at ``prevalence``, and the sources, as plain JSON types.

        Sources are given for the values that are the defaults; other values are the caller's.
        """
        mine, default = asdict(self), asdict(Crew())
        given = sorted(name for name, value in mine.items() if value != default[name])
        names = {"severity_shift_slight": "severities", "severity_shift_severe": "severities",
                 "severity_share": "severities"}  # fmt: skip
        return {
            **mine,
            "rates": self.rates(prevalence),
            "given_by_the_user": given,
            "sources": [asdict(s) for s in SOURCES if names.get(s.parameter, s.parameter)
                        not in given],
        }  # fmt: skip


def sensitivity_table(
    crew: Crew,
    accuracies: tuple[float, ...] = (0.80, 0.85, 0.90, 0.95),
    *,
    prevalence: float = 0.5,
) -> list[dict[str, Any]]:
    """The crew's rates if manual inspection were worse or better, one row per accuracy."""
    return [
        {"manual_accuracy": a, **replace(crew, accuracy=a).rates(prevalence)} for a in accuracies
    ]
