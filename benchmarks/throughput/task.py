"""The task of the comparison: one model, some pictures, their scores, and what bounds it."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twonines.benchmarks.throughput.ways import BATCH
from twonines.errors import SettingsError
from twonines.models.image import decode_to
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession
from twonines.serving.loading import warm
from twonines.types import Image

PICTURES = 128
_ONE_RUNS = 20


@dataclass(frozen=True, slots=True)
class Task:
    """The model, the pictures and their known scores."""

    model: Path
    session: InspectionSession
    pictures: Sequence[Path]
    expected: Sequence[float]


def make_task(model: Path, session: InspectionSession, pictures: Sequence[Path]) -> Task:
    """Choose the pictures and score them on the default provider.

    Raises:
        SettingsError: there are no pictures, or the model needs references or tiles.
    """
    if not pictures:
        raise SettingsError("pictures: must hold at least one picture, got none")
    if session.card.reference:
        raise SettingsError("model: must judge single pictures, got one that compares with another")
    if session.card.tiling is not None:
        raise SettingsError("model: must take a picture whole, got one that cuts it into tiles")
    count = min(PICTURES, len(pictures))
    chosen = [pictures[index * len(pictures) // count] for index in range(count)]
    reference = InspectionSession.load(model, execution_provider="cpu")
    images = [decode_to(path.read_bytes(), session.input_size) for path in chosen]
    scores = [float(reference.run(image[None]).score[0]) for image in images]
    return Task(model, session, chosen, scores)


def measure_limits(session: InspectionSession, task: Task) -> dict[str, float]:
    """What no server can beat: pictures a second, and seconds for one picture alone.

    A session that can run several times at once is measured so, too, and the faster way counts.
    """
    data = [path.read_bytes() for path in task.pictures]
    size = session.input_size
    images = np.stack([decode_to(item, size) for item in data])
    warm(session, (BATCH,))
    with ThreadPoolExecutor(available_threads()) as decoders:

        def decode_and_run(part: slice, beside: bool) -> None:
            made = list(decoders.map(lambda item: decode_to(item, size), data[part]))
            session.run(np.stack(made), beside=beside)

        def run(part: slice, beside: bool) -> None:
            session.run(images[part], beside=beside)

        return {
            "session": _rate(run, session, len(data)),
            "decode_resize_session": _rate(decode_and_run, session, len(data)),
            "session_one_s": _median_one(
                lambda index: images[index : index + 1], session, len(data)
            ),
            "decode_resize_session_one_s": _median_one(
                lambda index: decode_to(data[index], size)[None], session, len(data)
            ),
        }


def _rate(work: Callable[[slice, bool], object], session: InspectionSession, count: int) -> float:
    """Pictures a second in batches, by the faster of one run at a time and several at once."""
    parts = [slice(first, first + BATCH) for first in range(0, count, BATCH)]

    def rate(streams: int) -> float:
        with ThreadPoolExecutor(streams) as pool:
            start = time.perf_counter()
            list(pool.map(lambda part: work(part, streams > 1), parts))
            return count / (time.perf_counter() - start)

    return max(rate(streams) for streams in {1, session.streams})


def _median_one(make: Callable[[int], Image], session: InspectionSession, count: int) -> float:
    taken = []
    for number in range(_ONE_RUNS):
        start = time.perf_counter()
        session.run(make(number % count))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
