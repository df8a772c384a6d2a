"""Check a set before teaching from it: files, labels, masks, copies and leaks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from twonines.datasets.content import (
    WORKERS,
    content_digest,
    file_digest,
    file_digests,
    join,
    relative,
)
from twonines.datasets.duplicates import Bits, Thumb, near_pairs
from twonines.datasets.pictures import Decoder, Fault, Look, look
from twonines.datasets.record import Dataset, DatasetCard
from twonines.datasets.splits import Split

__all__ = [
    "CheckReport",
    "check_dataset",
    "content_digest",
    "file_digest",
]

Progress = Callable[[int, int], None]
Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What stands on both sides of a split; each entry is one cluster of relative paths."""

    kind: str
    basis: str
    counts: dict[str, int]
    exact: tuple[Paths, ...]
    near: tuple[Paths, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found; paths are relative to the set's root.

    ``defective_share`` is of all pictures; ``imbalance`` is the largest class over the smallest.
    ``sizes`` counts pictures per "HEIGHTxWIDTH". Near-duplicate clusters hold at least two
    different files. ``conflicts`` are the exact duplicates whose labels differ.
    """

    card: DatasetCard
    pictures: int
    counts: dict[str, int]
    defective_share: float
    imbalance: float
    uncertain: int
    grouped: int
    groups: int
    sizes: dict[str, int]
    modes: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    faults: tuple[tuple[str, str, str], ...]
    exact_duplicates: tuple[Paths, ...]
    conflicts: tuple[Paths, ...]
    near_duplicates: tuple[Paths, ...]
    split: SplitCheck | None = None

    @property
    def leaks(self) -> bool:
        """True where a file or group stands on both sides of the split."""
        return self.split is not None and bool(self.split.exact or self.split.groups)

    @property
    def sound(self) -> bool:
        """True where every picture can be read and nothing leaks."""
        return not self.unreadable and not self.leaks

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "dataset": self.card.name,
            "licence": self.card.licence,
            "traps": self.card.traps,
            "pictures": self.pictures,
            "counts": self.counts,
            "defective_share": round(self.defective_share, 4),
            "imbalance": round(self.imbalance, 2),
            "uncertain": self.uncertain,
            "grouped": self.grouped,
            "groups": self.groups,
            "sizes": self.sizes,
            "modes": self.modes,
            "unreadable": [{"path": p, "why": why} for p, why in self.unreadable],
            "fault_counts": dict(Counter(kind for _, kind, _ in self.faults)),
            "faults": [{"path": p, "kind": k, "detail": d} for p, k, d in self.faults],
            "exact_duplicates": [list(paths) for paths in self.exact_duplicates],
            "conflicts": [list(paths) for paths in self.conflicts],
            "near_duplicates": [list(paths) for paths in self.near_duplicates],
            "split": None if self.split is None else _split_dict(self.split),
            "leaks": self.leaks,
        }


def _split_dict(split: SplitCheck) -> dict[str, Any]:
    return {
        "kind": split.kind,
        "basis": split.basis,
        "counts": split.counts,
        "exact_across": [list(paths) for paths in split.exact],
        "near_across": [list(paths) for paths in split.near],
        "groups_across": list(split.groups),
    }


def check_dataset(
    dataset: Dataset,
    split: Split | None = None,
    *,
    decode: Decoder | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Decode every picture and mask, compare them all, and look across the split.

    Args:
        dataset: the set.
        split: looked across for copies and groups on both sides.
        decode: the models' decoder: what it refuses is unreadable. Default is Pillow's.
        progress: called with pictures done and all, after each.
    """
    looks = _look_at_all(dataset, decode, progress)
    digests = file_digests(dataset.records)
    copies = _copies(digests)
    near = _near_clusters(looks, digests)
    names = [relative(record.path, dataset.root) for record in dataset.records]
    labels = [record.defect_class for record in dataset.records]
    faults = [fault for one in looks for fault in one.faults]
    counts = dict(sorted(dataset.counts.items()))
    return CheckReport(
        card=dataset.card,
        pictures=len(names),
        counts=counts,
        defective_share=sum(r.is_defective for r in dataset.records) / max(1, len(names)),
        imbalance=max(counts.values(), default=1) / min(counts.values(), default=1),
        uncertain=sum(record.certainty < 1 for record in dataset.records),
        grouped=sum(record.group is not None for record in dataset.records),
        groups=len({r.group for r in dataset.records if r.group is not None}),
        sizes=_tally(f"{one.size[0]}x{one.size[1]}" for one in looks if one.size),
        modes=_tally(one.mode for one in looks if one.size),
        unreadable=tuple(
            (relative(f.path, dataset.root), f.detail) for f in faults if f.kind == "unreadable"
        ),
        faults=_named(faults, dataset),
        exact_duplicates=_paths(copies, names),
        conflicts=_paths([c for c in copies if len({labels[i] for i in c}) > 1], names),
        near_duplicates=_paths(near, names),
        split=None if split is None else _check_split(dataset, split, copies, near, names),
    )


def _look_at_all(dataset: Dataset, decode: Decoder | None, progress: Progress | None) -> list[Look]:
    looks = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for one in pool.map(lambda record: look(record, decode), dataset.records):
            looks.append(one)
            if progress:
                progress(len(looks), len(dataset.records))
    return looks


def _copies(digests: Sequence[str]) -> list[list[int]]:
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        places.setdefault(digest, []).append(place)
    return [found for found in places.values() if len(found) > 1]


def _near_clusters(looks: Sequence[Look], digests: Sequence[str]) -> list[list[int]]:
    """Clusters that look alike, less those of one file and its exact copies."""
    places: list[int] = []
    bits: list[Bits] = []
    thumbs: list[Thumb] = []
    for place, one in enumerate(looks):
        if one.bits is not None and one.thumb is not None:
            places.append(place)
            bits.append(one.bits)
            thumbs.append(one.thumb)
    clusters = join(near_pairs(bits, thumbs), len(places))
    named = [[places[k] for k in cluster] for cluster in clusters if len(cluster) > 1]
    return [c for c in named if len({digests[place] for place in c}) > 1]


def _check_split(
    dataset: Dataset,
    split: Split,
    copies: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
    names: Sequence[str],
) -> SplitCheck:
    taught = {record.path for record in (*split.train, *split.calibration)}
    tested = {record.path for record in split.test}
    paths = [record.path for record in dataset.records]

    def across(clusters: Sequence[Sequence[int]]) -> tuple[Paths, ...]:
        both = [
            [i for i in cluster if paths[i] in taught or paths[i] in tested]
            for cluster in clusters
            if any(paths[i] in taught for i in cluster) and any(paths[i] in tested for i in cluster)
        ]
        return _paths(both, names)

    taught_groups = {r.group for r in (*split.train, *split.calibration) if r.group is not None}
    tested_groups = {r.group for r in split.test if r.group is not None}
    return SplitCheck(
        kind=split.kind,
        basis=split.basis,
        counts={
            "train": len(split.train),
            "calibration": len(split.calibration),
            "test": len(split.test),
            "dropped": len(split.dropped),
        },
        exact=across(copies),
        near=across(near),
        groups=tuple(sorted(taught_groups & tested_groups)),
    )


def _paths(clusters: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[Paths, ...]:
    return tuple(tuple(names[i] for i in cluster) for cluster in clusters)


def _named(faults: Sequence[Fault], dataset: Dataset) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (relative(f.path, dataset.root), f.kind, f.detail) for f in faults if f.kind != "unreadable"
    )


def _tally(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
