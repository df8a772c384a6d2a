"""Sessions that are warm before traffic, and fresh ones of the same file."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np

from twonines.errors import ModelFileError
from twonines.models.session import SLOW_RUNS, InspectionSession, Provider


def warm(session: InspectionSession, counts: Iterable[int]) -> dict[int, float]:
    """Run the session with each of these batch sizes, until it is as fast as it will be.

    Returns:
        Seconds of a warm run of each, shared among the runs that may go on at once.
    """
    seconds = {}
    for count in counts:
        images = np.zeros((count, *session.input_size, 3), np.uint8)
        references = images if session.card.reference else None
        beside = session.streams > 1
        for way in {False, beside}:  # a picture that comes alone runs in a session of its own
            for _ in range(SLOW_RUNS):
                session.run(images, references, beside=way)
        start = time.perf_counter()
        session.run(images, references, beside=beside)
        seconds[count] = (time.perf_counter() - start) / session.streams
    return seconds


def reload_same(
    session: InspectionSession, path: Path, threads: int | None, *, other_files: bool = True
) -> InspectionSession:
    """A fresh, warm session in place of one that is broken, on the same provider.

    One that ran as it was tuned is loaded as it is tuned now, by :meth:`InspectionSession.load`.

    Raises:
        ModelFileError: the file cannot be loaded, or is not that of ``session`` any more: another
            model must never answer unasked.
    """
    provider = "auto" if session.tuned else cast(Provider, session.execution_provider)
    fresh = InspectionSession.load(
        path, execution_provider=provider, threads=threads, other_files=other_files, beside=True
    )
    if fresh.digest != session.digest:
        raise ModelFileError(
            f"model: {path} must be the file that was served, {session.digest}, got {fresh.digest}"
        )
    warm(fresh, (1,))
    return fresh
