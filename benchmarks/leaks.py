"""Whether a test set holds what was taught: figures from such a split are too good."""

from dataclasses import dataclass
from typing import Literal

from twonines.datasets.checks import CheckReport
from twonines.datasets.content import relative
from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """How a split keeps related pictures apart.

    ``kind`` is ``random`` also where the set names no groups to keep together. ``leaks`` says in
    sentences what makes figures too good; empty where nothing was found.
    """

    kind: Literal["official", "grouped", "random"]
    basis: str
    train: int
    calibration: int
    test: int
    dropped: int
    leaks: tuple[str, ...]


def judge_split(report: CheckReport, dataset: Dataset, split: Split) -> SplitFacts:
    """The facts of a split, by a check of its whole set.

    Args:
        report: what ``check_dataset`` found in the set: copies and pictures that look alike.
        dataset: the set.
        split: a split of it.
    """
    named = any(record.group is not None for record in dataset.records)
    kind = split.kind if named or split.kind == "official" else "random"
    return SplitFacts(
        kind=kind,
        basis=split.basis,
        train=len(split.train),
        calibration=len(split.calibration),
        test=len(split.test),
        dropped=len(split.dropped),
        leaks=tuple(_leaks(report, dataset, split, kind)),
    )


def _leaks(report: CheckReport, dataset: Dataset, split: Split, kind: str) -> list[str]:
    taught = (*split.train, *split.calibration)
    groups = {record.group for record in taught} - {None}
    torn = sum(record.group in groups for record in split.test)
    seen = {relative(record.path, dataset.root) for record in taught}
    tested = {relative(record.path, dataset.root) for record in split.test}
    alike: set[str] = set()
    for cluster in (*report.exact_duplicates, *report.near_duplicates):
        if not seen.isdisjoint(cluster):
            alike |= tested.intersection(cluster)
    found = []
    if torn:
        found.append(
            f"{torn} of {len(tested)} test pictures are of a part that stands in training too"
        )
    if alike:
        found.append(f"{len(alike)} of {len(tested)} test pictures look like one that was taught")
    if kind == "random" and "leak" in dataset.card.traps.lower():
        found.append(f"the set's card warns: {dataset.card.traps}")
    return found
