"""Time variants of a model in alternating rounds, and pick the fastest."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from twonines.errors import SettingsError
from twonines.models.guard import Guard
from twonines.models.inspector import Part, stack
from twonines.models.providers import (
    Precision,
    ProviderName,
    Variant,
    available_threads,
    open_runtime,
)
from twonines.models.session import SLOW_RUNS, InspectionSession
from twonines.models.tuning import TunedChoice
from twonines.types import Image

Report = Callable[[str, int, int], None]
_BATCHES = (1, 2, 4, 8, 16, 32)
_QUICK_BATCHES = (1, 8, 32)
_WORTH = 1.03
"""What is less than this faster than float32 is not worth another precision."""
_HOPELESS = 0.6
"""What gives less than this share of the fastest in the warm-up is not timed again."""
_NEAR = 0.9
"""What is slower than this share of the fastest is not even with it, whatever one round gave."""


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """``latency_ms`` bounds the median run of the session; ``minutes`` bounds the rounds."""

    latency_ms: float = 50.0
    rounds: int = 5
    minutes: float = 1.5
    pictures: int = 200
    quick: bool = False

    def __post_init__(self) -> None:
        """Refuse values outside their ranges by name."""
        for name in ("latency_ms", "minutes", "rounds", "pictures"):
            value = getattr(self, name)
            if not value > 0:
                raise SettingsError(f"{name}: must be above 0, got {value}")


@dataclass(slots=True)
class Candidate:
    """A provider and a precision: its model bytes, how far scores moved, why it is out.

    With a ``guard``, a share ``rechecked`` of pictures runs again in float32.
    """

    provider: ProviderName
    precision: Precision
    data: bytes = b""
    score_shift: float = 0.0
    out: str = ""
    guard: Guard | None = None
    rechecked: float = 0.0


@dataclass(slots=True)
class Timing:
    """One variant at one batch size, and the seconds of each round.

    ``again_s`` is what running again in float32 adds to a batch on average.
    """

    candidate: Candidate
    variant: Variant
    batch: int
    session: InspectionSession
    seconds: list[float] = field(default_factory=list)
    again_s: float = 0.0

    @property
    def rates(self) -> list[float]:
        """Pictures a second of each round."""
        return [self.variant.streams * self.batch / (one + self.again_s) for one in self.seconds]

    @property
    def per_second(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rates)

    @property
    def run_ms(self) -> float:
        """Median milliseconds of one run while all streams run."""
        return (statistics.median(self.seconds) + self.again_s) * 1e3

    def choice(self) -> TunedChoice:
        """As it is written down."""
        return TunedChoice(
            variant=self.variant,
            max_batch_size=self.batch,
            per_second=self.per_second,
            low=min(self.rates),
            high=max(self.rates),
            run_ms=self.run_ms,
            score_shift=self.candidate.score_shift,
            guard=self.candidate.guard,
            rechecked=self.candidate.rechecked,
        )

    def row(self) -> dict[str, Any]:
        """As it is shown."""
        return self.variant.model_dump() | self.choice().model_dump(exclude={"variant", "guard"})


def open_candidate(
    base: InspectionSession, candidate: Candidate, variant: Variant
) -> InspectionSession:
    """A session of the candidate's model under the card of ``base``."""
    runtime = open_runtime(candidate.data, variant)
    return InspectionSession(runtime, base.card, base.digest, variant.execution_provider, "")


def layouts(cores: int) -> list[tuple[int, int]]:
    """Threads of a run and runs at once that use all the cores."""
    found = {(cores, 1), (1, cores)}
    if cores >= 4:
        found.add((cores // 2, 2))
    return sorted(found, reverse=True)


def make_timings(
    base: InspectionSession, candidates: Sequence[Candidate], options: TuneOptions
) -> Iterator[Timing]:
    """Everything to time, with its sessions: candidates x layouts x batch sizes."""
    sizes = _QUICK_BATCHES if options.quick else _BATCHES
    for candidate in candidates:
        if candidate.out:
            continue
        for threads, streams in layouts(available_threads()):
            variant = Variant(
                execution_provider=candidate.provider, precision=candidate.precision,
                threads=threads, streams=streams,
            )  # fmt: skip
            session = open_candidate(base, candidate, variant)
            for batch in sizes:
                yield Timing(candidate, variant, batch, session)


def time_all(
    timings: list[Timing], parts: Sequence[Part], options: TuneOptions, tell: Report
) -> None:
    """Fill in the seconds; the warm-up drops what can win nothing, and times the hopeless once."""
    whole = stack(list(itertools.islice(itertools.cycle(parts), _BATCHES[-1])),
                  timings[0].session.card.reference)  # fmt: skip
    rounds = min(options.rounds, 3) if options.quick else options.rounds
    end = time.perf_counter() + options.minutes * 60
    with ThreadPoolExecutor(available_threads()) as pool:
        for number, one in enumerate(timings):
            tell("warm-up", number, len(timings))
            for _ in range(SLOW_RUNS):
                _run_once(one, whole, pool)
            one.seconds = [_run(one, whole, pool)]
        tell("warm-up", len(timings), len(timings))
        timings[:] = [one for one in timings if _may_serve(one, options)]
        _price_rechecks(timings)
        left = _contenders(timings, options)
        for one in left:
            one.seconds.clear()
        for number in range(rounds):
            tell("rounds", number, rounds)
            shift = number * len(left) // rounds
            for one in left[shift:] + left[:shift]:
                one.seconds.append(_run(one, whole, pool))
            if time.perf_counter() > end:
                break
        tell("rounds", rounds, rounds)
    _price_rechecks(timings)


def _price_rechecks(timings: Sequence[Timing]) -> None:
    """What running again costs a batch on average, one picture at a time.

    Whether a picture runs again depends on it, and the few that are timed are not the line's.
    """
    exact = {
        one.variant.streams: statistics.median(one.seconds)
        for one in timings
        if (one.candidate.provider, one.candidate.precision, one.batch) == ("cpu", "float32", 1)
    }
    for one in timings:
        if again := one.batch * one.candidate.rechecked:
            one.again_s = again * exact[one.variant.streams]


def _contenders(timings: Sequence[Timing], options: TuneOptions) -> list[Timing]:
    """What may still win after the warm-up; the rest keeps its one figure."""
    best = max((one.per_second for one in timings if one.run_ms <= options.latency_ms), default=0.0)
    return [one for one in timings if one.per_second >= _HOPELESS * best]


def _may_serve(one: Timing, options: TuneOptions) -> bool:
    """Whether it can be chosen at all: several at once only for what keeps the bound."""
    return one.variant.streams == 1 or one.batch == 1 or one.run_ms <= 2 * options.latency_ms


def _run(one: Timing, whole: tuple[Image, ...], pool: ThreadPoolExecutor) -> float:
    """Seconds until all streams have run one batch each, started together; median of several."""
    repeats = max(1, _BATCHES[-1] // (4 * one.batch * one.variant.streams))
    return statistics.median(_run_once(one, whole, pool) for _ in range(repeats))


def _run_once(one: Timing, whole: tuple[Image, ...], pool: ThreadPoolExecutor) -> float:
    feed = [array[: one.batch] for array in whole]
    start = time.perf_counter()
    if one.variant.streams == 1:
        one.session.run(*feed)
    else:
        jobs = [pool.submit(one.session.run, *feed) for _ in range(one.variant.streams)]
        for job in jobs:
            job.result()
    return time.perf_counter() - start


def pick(timings: Sequence[Timing]) -> Timing:
    """The fastest; float32 where another precision is not worth it."""
    best = max(timings, key=lambda one: one.per_second)
    plain = [one for one in timings if one.variant.precision == "float32"]
    fallback = max(plain, key=lambda one: one.per_second, default=best)
    return best if best.per_second > _WORTH * fallback.per_second else fallback


def pick_to_serve(timings: Sequence[Timing]) -> Timing:
    """Most runs at once among those that have reached the fastest's pace, then the shortest.

    Beside a service's decoding, threads of one run wait for each other, which runs of their own do
    not; timed alone the two are even. A picture that comes alone has all cores in either case.
    """
    best = pick(timings)

    def is_even(one: Timing) -> bool:
        mine, theirs = ((it.execution_provider, it.precision) for it in (one.variant, best.variant))
        reached = max(one.rates) >= best.per_second and one.per_second >= _NEAR * best.per_second
        return mine == theirs and reached

    even = [one for one in timings if is_even(one)]
    return min(even, key=lambda one: (-one.variant.streams, one.run_ms))
