"""Sessions that are warm before traffic, and fresh ones of the same file."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np

from twonines.errors import ModelFileError
from twonines.models.session import InspectionSession, Provider


def warm(session: InspectionSession, counts: Iterable[int]) -> None:
    """Run the session once with each of these batch sizes: the first run of a size is slow."""
    for count in counts:
        images = np.zeros((count, *session.input_size, 3), np.uint8)
        for beside in {False, session.streams > 1}:
            session.run(images, images if session.card.reference else None, beside=beside)


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
