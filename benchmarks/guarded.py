"""Does the guard of a tuned model hold on pictures that it was neither taught nor tuned with?

``python -m twonines.benchmarks.guarded MODEL --dataset SET`` inspects the test split of the model's
own training three times: in float32, in the reduced precision that `twonines tune` chose here, and
in that precision guarded. It prints one JSON object, and ends with 1 where the guard missed one.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twonines.benchmarks.evaluate import prepare_record, rebuild_split
from twonines.benchmarks.statistics import rate
from twonines.benchmarks.tune import inspect_anew
from twonines.datasets.record import Record
from twonines.datasets.registry import load_dataset
from twonines.errors import SettingsError
from twonines.models.inspector import Inspector, Prepared
from twonines.models.providers import FILE_PRECISIONS, open_runtime, read_model
from twonines.models.session import InspectionSession
from twonines.models.tuning import find_reduced, find_tuned
from twonines.types import Inspection

_CHUNK = 64


def open_bare(model: Path, tuned: InspectionSession) -> InspectionSession:
    """The reduced precision alone, as nobody may serve it.

    Raises:
        SettingsError: the model is not tuned to a reduced precision with a guard on this machine.
    """
    found, choice = find_tuned(model, tuned.digest), tuned.tuned
    if found is None or choice is None or choice.guard is None:
        raise SettingsError(
            f"model: {model} must be tuned to a guarded precision on this machine, "
            f"got {tuned.choice}"
        )
    variant = choice.variant.alone
    reduced = variant.precision in FILE_PRECISIONS
    data = find_reduced(found, model, variant.precision) if reduced else read_model(model)
    runtime = open_runtime(data, variant)
    return InspectionSession(runtime, tuned.card, tuned.digest, variant.execution_provider, "")


def compare(model: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Verdicts and kinds that differ from float32, alone and guarded, with exact 95 % intervals.

    Raises:
        SettingsError: as :func:`open_bare`, or there are no pictures.
    """
    if not records:
        raise SettingsError("dataset: must leave pictures to test with, got none")
    exact = InspectionSession.load(model, execution_provider="cpu")
    guarded = InspectionSession.load(model)
    sessions = (exact, open_bare(model, guarded), guarded)
    answers: list[list[Inspection]] = [[], [], []]
    for prepared in _prepare(Inspector(exact), records):
        for session, given in zip(sessions, answers, strict=True):
            given += inspect_anew(session, prepared)
    assert guarded.tuned is not None and guarded.tuned.guard is not None
    told = {"alone": answers[1], "guarded": answers[2]}
    return {
        "choice": guarded.tuned.text,
        "guard": guarded.tuned.guard.model_dump(),
        "again_in_float32": _rate(guarded.rechecked, len(records)),
    } | {
        f"{name}_{what}": _rate(
            sum(getattr(a, what) != getattr(b, what)
                for a, b in zip(answers[0], found, strict=True)),
            len(records),
        )
        for name, found in told.items()
        for what in ("verdict", "defect_class")
    }  # fmt: skip


def _prepare(inspector: Inspector, records: Sequence[Record]) -> Iterator[list[Prepared]]:
    for first in range(0, len(records), _CHUNK):
        yield [prepare_record(inspector, one) for one in records[first : first + _CHUNK]]


def _rate(k: int, n: int) -> dict[str, float]:
    found = rate(k, n)
    return asdict(found) | {"value": found.value}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    card = InspectionSession.load(given.model, execution_provider="cpu").card
    split = rebuild_split(card, load_dataset(given.dataset, given.root))
    found = compare(given.model, split.test)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["guarded_verdict"]["k"] else 0)


if __name__ == "__main__":
    main()
