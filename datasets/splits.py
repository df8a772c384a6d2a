"""Train, calibration and test: the publisher's split, else by group, stratified."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from twonines.datasets.content import file_digests, join
from twonines.datasets.record import Dataset, Record
from twonines.errors import SettingsError

SplitKind = Literal["official", "grouped", "random"]
SplitMethod = Literal["auto", "official", "grouped", "random"]
METHODS: tuple[SplitMethod, ...] = ("auto", "official", "grouped", "random")


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets without a common picture.

    ``dropped`` holds test pictures whose bytes also stand in training or calibration; they are
    in none of the three. ``basis`` says in a sentence what kept related pictures together.
    """

    train: tuple[Record, ...]
    calibration: tuple[Record, ...]
    test: tuple[Record, ...]
    kind: SplitKind
    seed: int
    dropped: tuple[Record, ...] = ()
    basis: str = ""


def make_split(
    dataset: Dataset,
    *,
    seed: int = 0,
    test_fraction: float = 0.25,
    calibration_fraction: float = 0.10,
    method: SplitMethod = "auto",
) -> Split:
    """Split a set; the same arguments give the same split.

    Both fractions are of the whole set. ``auto`` is ``official`` where every record has the
    publisher's side, else ``grouped``. An official test set stays as it is and calibration is
    taken from official training. ``random`` tears groups apart and serves comparison only.

    Raises:
        SettingsError: an argument is outside its range, or the set has no official split.
    """
    _check_fractions(test_fraction, calibration_fraction)
    kind = _kind(dataset, method)
    parts = _Parts(dataset.records, kind, seed)
    everything = range(len(dataset.records))
    if kind == "official":
        test = [i for i in everything if dataset.records[i].official_split == "test"]
        rest = [i for i in everything if dataset.records[i].official_split == "train"]
    else:
        shares = [1 - test_fraction - calibration_fraction, calibration_fraction, test_fraction]
        train, calibration, test = parts.deal_with_every_class(everything, shares)
        return parts.split(train, calibration, test)
    share = calibration_fraction * len(dataset.records) / max(1, len(rest))
    if share >= 1:
        raise SettingsError(
            f"calibration_fraction: must leave pictures to train on, {calibration_fraction} of "
            f"{len(dataset.records)} asks for all {len(rest)} of official training"
        )
    train, calibration = parts.deal_with_every_class(rest, [1 - share, share])
    return parts.split(train, calibration, test)


def good_only(split: Split) -> Split:
    """The split with only the good pictures of training and calibration; the test set stays."""
    return replace(
        split,
        train=tuple(record for record in split.train if not record.is_defective),
        calibration=tuple(record for record in split.calibration if not record.is_defective),
    )


def folds(
    dataset: Dataset,
    *,
    n_folds: int = 5,
    seed: int = 0,
    method: SplitMethod = "auto",
    calibration_fraction: float = 0.10,
) -> Iterator[Split]:
    """Cross-validation: every picture is in one test set; ``auto`` is ``grouped`` here.

    Raises:
        SettingsError: fewer than two folds, more folds than units that stay together, or the
            official split, which is a single one.
    """
    kind = _kind(dataset, "grouped" if method == "auto" else method)
    if kind == "official":
        raise SettingsError("method: must be auto, grouped or random for folds, got 'official'")
    if n_folds < 2:
        raise SettingsError(f"n_folds: must be 2 or more, got {n_folds}")
    _check_fractions(1 / n_folds, calibration_fraction)
    parts = _Parts(dataset.records, kind, seed)
    everything = range(len(dataset.records))
    if n_folds > len(parts.units(everything)):
        raise SettingsError(
            f"n_folds: must be at most {len(parts.units(everything))}, the parts of "
            f"{dataset.card.name} that stay together, got {n_folds}"
        )
    return _folds(parts, everything, n_folds, calibration_fraction)


def _folds(
    parts: "_Parts", everything: Sequence[int], n_folds: int, calibration_fraction: float
) -> Iterator[Split]:
    tests = parts.deal(everything, [1 / n_folds] * n_folds)
    for test in tests:
        held = set(test)
        rest = [i for i in everything if i not in held]
        share = calibration_fraction * n_folds / (n_folds - 1)
        train, calibration = parts.deal_with_every_class(rest, [1 - share, share])
        yield parts.split(train, calibration, test)


def _check_fractions(test: float, calibration: float) -> None:
    if not 0 < test < 1:
        raise SettingsError(f"test_fraction: must be between 0 and 1, got {test}")
    if not 0 <= calibration < 1 - test:
        raise SettingsError(
            f"calibration_fraction: must be at least 0 and leave some training beside a test "
            f"fraction of {test}, got {calibration}"
        )


def _kind(dataset: Dataset, method: SplitMethod) -> SplitKind:
    if method not in METHODS:
        raise SettingsError(f"method: must be one of {', '.join(METHODS)}, got {method!r}")
    sides = {record.official_split for record in dataset.records}
    official = sides == {"train", "test"}
    if method == "auto":
        return "official" if official else "grouped"
    if method == "official" and not official:
        raise SettingsError(
            f"method: official needs train or test on every picture of {dataset.card.name}, "
            f"which has {dataset.card.official_split}"
        )
    return method


class _Parts:
    """Deals records by index so that what belongs together stays together."""

    def __init__(self, records: Sequence[Record], kind: SplitKind, seed: int) -> None:
        self.records, self.kind, self.seed = records, kind, seed
        self.digests = file_digests(records)
        names = sorted({_stratum(record) for record in records})
        index = {name: k for k, name in enumerate(names)}
        self.strata = np.array([index[_stratum(record)] for record in records], dtype=np.intp)

    def units(self, members: Sequence[int]) -> list[list[int]]:
        """Sets of indices that must share a side: one group, or identical bytes."""
        if self.kind == "random":
            return [[i] for i in members]
        links: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, i in enumerate(members):
            links["bytes", self.digests[i]].append(place)
            group = self.records[i].group
            if group is not None:
                links["group", group].append(place)
        return [[members[place] for place in unit] for unit in join(links.values(), len(members))]

    def deal(self, members: Sequence[int], shares: Sequence[float]) -> list[list[int]]:
        """Units to parts of the given shares, each stratum in proportion.

        Greedy, largest units first: each goes where Pearson's chi-square between counts and
        wanted counts grows least, so that all parts fill at the same pace.
        """
        units = self.units(members)
        order = np.random.default_rng(self.seed).permutation(len(units))
        # a stable sort keeps the shuffled order among units of one size
        order = order[np.argsort([-len(units[k]) for k in order], kind="stable")]
        vectors = np.stack([self._counts(unit) for unit in units]) if units else np.zeros((0, 1))
        wanted = np.asarray(shares)[:, None] * vectors.sum(axis=0)
        filled = np.zeros_like(wanted)
        parts: list[list[int]] = [[] for _ in shares]
        for k in order:
            parts_cost = _cost(filled, vectors[k], wanted)
            best = int(np.argmin(parts_cost))
            filled[best] += vectors[k]
            parts[best].extend(units[k])
        return [sorted(part) for part in parts]

    def deal_with_every_class(
        self, members: Sequence[int], shares: Sequence[float]
    ) -> list[list[int]]:
        """As :meth:`deal`, then a rare class is seated in every part that it can fill.

        In proportion, a class of four pictures leaves calibration with none, and a model that was
        never calibrated on a defect cannot say NG. Training comes first, then test, then
        calibration.
        """
        parts = self.deal(members, shares)
        seats = [0, len(parts) - 1, *range(1, len(parts) - 1)]
        seats = [seat for seat in seats if shares[seat] > 0]
        for name in sorted({self.records[i].defect_class for i in members}):
            for seat in seats:
                self._seat(parts, seat, name)
        return [sorted(part) for part in parts]

    def _seat(self, parts: list[list[int]], seat: int, name: str) -> None:
        """Move the smallest unit of a class to a part without it, from where most are."""
        held = [
            [u for u in self.units(part) if any(self.records[i].defect_class == name for i in u)]
            for part in parts
        ]
        giver = max(range(len(parts)), key=lambda k: len(held[k]))
        if held[seat] or len(held[giver]) < 2:
            return
        unit = min(held[giver], key=len)
        parts[giver] = [i for i in parts[giver] if i not in unit]
        parts[seat].extend(unit)

    def _counts(self, unit: Sequence[int]) -> npt.NDArray[np.float64]:
        """Pictures per stratum, and all of them in the last place: (S + 1,)."""
        strata = np.bincount(self.strata[list(unit)], minlength=int(self.strata.max()) + 1)
        return np.append(strata, len(unit)).astype(np.float64)

    def split(self, train: list[int], calibration: list[int], test: list[int]) -> Split:
        """The records, less test pictures whose bytes were seen in teaching."""
        seen = {self.digests[i] for i in (*train, *calibration)}
        kept = [i for i in test if self.digests[i] not in seen]
        dropped = [i for i in test if self.digests[i] in seen]
        return Split(
            train=self._pick(train),
            calibration=self._pick(calibration),
            test=self._pick(kept),
            kind=self.kind,
            seed=self.seed,
            dropped=self._pick(dropped),
            basis=self._basis(),
        )

    def _pick(self, indices: Iterable[int]) -> tuple[Record, ...]:
        return tuple(self.records[i] for i in indices)

    def _basis(self) -> str:
        if self.kind == "random":
            return "random by picture; groups are torn apart"
        grouped = sum(record.group is not None for record in self.records)
        if self.kind == "official":
            return "the publisher's test set; calibration from its training set"
        if grouped == 0:
            return "stratified by picture; the set names no groups, only copies stay together"
        if grouped < len(self.records):
            return f"stratified by group; {len(self.records) - grouped} pictures name no group"
        return "stratified by group"


def _cost(
    filled: npt.NDArray[np.float64],
    unit: npt.NDArray[np.float64],
    wanted: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Growth of chi-square for each part if it took the unit: (P, S), (S,), (P, S) -> (P,)."""
    growth = unit * (unit + 2 * (filled - wanted))
    # a share of zero must take nothing
    terms = np.divide(growth, wanted, out=np.full_like(growth, np.inf), where=wanted > 0)
    cost: npt.NDArray[np.float64] = np.where(unit > 0, terms, 0.0).sum(axis=1)
    return cost


def _stratum(record: Record) -> str:
    """Class, certainty and attributes, such as elpv's probability and cell type."""
    attributes = sorted(record.attributes.items())
    return repr((record.defect_class, round(record.certainty, 3), attributes))
