"""Two models on the same test pictures, which neither the new one's teaching nor its limits saw."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twonines.errors import ImageError, InputError
from twonines.models.inspector import Inspector, Prepared
from twonines.types import GOOD, Inspection, Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """One test picture and its true class."""

    path: Path
    defect_class: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How one model did: ``good`` and ``defective`` count verdicts of parts that are so."""

    good: Counter[Verdict]
    defective: Counter[Verdict]
    escaped: tuple[Path, ...]

    @property
    def n_good(self) -> int:
        """Good parts."""
        return self.good.total()

    @property
    def n_defective(self) -> int:
        """Defective parts."""
        return self.defective.total()


def read_cases(metrics: Path, root: Path) -> list[Case]:
    """The test split that a run has written down.

    Raises:
        InputError: the file has none, or a picture of it is gone.
    """
    try:
        listed = json.loads(metrics.read_bytes())["split"]["test"]
        cases = [Case(root / item["path"], str(item["class"])) for item in listed]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"run: {metrics} must name its test pictures ({exc!r})") from exc
    gone = [case.path.name for case in cases if not case.path.is_file()]
    if gone:
        raise InputError(f"set: must still hold the test pictures, {len(gone)} are gone: {gone[0]}")
    return cases


def judge(inspector: Inspector, cases: Sequence[Case], max_pixels: int) -> Tally:
    """Inspect every case; blocks."""

    def prepared() -> Iterator[Prepared | Inspection]:
        for case in cases:
            try:
                yield inspector.read(case.path.read_bytes(), max_pixels=max_pixels)
            except ImageError as exc:
                yield Inspection(Verdict.ERROR, error=str(exc))

    good: Counter[Verdict] = Counter()
    defective: Counter[Verdict] = Counter()
    escaped = []
    for case, found in zip(cases, inspector.inspect(prepared(), 16), strict=True):
        if case.defect_class == GOOD:
            good[found.verdict] += 1
        else:
            defective[found.verdict] += 1
            if found.verdict is Verdict.OK:
                escaped.append(case.path)
    return Tally(good, defective, tuple(escaped))
