"""How fast it inspects: the bare session, with pictures decoded, over HTTP, and in a batch."""

import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from twonines.benchmarks.throughput.running import (
    INSPECT_PATH,
    METRICS_PATH,
    generate_load,
    get,
    served,
)
from twonines.errors import GateError
from twonines.models.image import decode_to
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession

Progress = Callable[[str], None]
BATCH = 32
CLIENTS = 64
RELIABLE_RATIO = 1.05
"""Nothing outruns the bare session; a ratio above this says that the machine was busy."""
ROWS = ("session", "decode_resize_session", "http", "batch")


def _batches(count: int) -> Iterator[slice]:
    return (slice(first, first + BATCH) for first in range(0, count, BATCH))


def session_seconds(
    session: InspectionSession,
    images: np.ndarray[Any, np.dtype[np.uint8]],
) -> float:
    """Seconds of the bare session over decoded pictures: nothing can be faster."""
    start = time.perf_counter()
    for part in _batches(len(images)):
        session.run(images[part])
    return time.perf_counter() - start


def decoded_seconds(session: InspectionSession, pictures: Sequence[bytes]) -> float:
    """Seconds with decode and resize, on as many threads as there are cores."""
    size = session.input_size
    start = time.perf_counter()
    with ThreadPoolExecutor(available_threads()) as pool:
        for part in _batches(len(pictures)):
            images = list(pool.map(lambda data: decode_to(data, size), pictures[part]))
            session.run(np.stack(images))
    return time.perf_counter() - start


def http_round(port: int, pictures: Sequence[Path], total: int, clients: int) -> dict[str, Any]:
    """One round of the load generator, in its own process.

    Raises:
        GateError: an answer was not 200, for a rate over failures says nothing.
    """
    job = {
        "host": "127.0.0.1", "port": port, "path": INSPECT_PATH,
        "pictures": [str(p) for p in pictures], "total": total, "clients": clients,
    }  # fmt: skip
    answer = generate_load(job)
    if set(answer["statuses"]) != {"200"}:
        raise GateError(f"service: must answer 200 to every picture, got {answer['statuses']}")
    return answer


def batch_size_counts(port: int) -> tuple[float, float]:
    """Sum and count of the service's histogram of batch sizes; NaN where it has none."""
    return parse_batch_sizes(get(port, METRICS_PATH, 10))


def parse_batch_sizes(text: str) -> tuple[float, float]:
    """Sum and count of the histogram of batch sizes, whatever its prefix."""
    values = []
    for end in ("sum", "count"):
        found = re.findall(rf"^\w*batch_size\w*_{end}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)
        values.append(sum(map(float, found)) if found else float("nan"))
    return values[0], values[1]


def batch_seconds(model: Path, pictures: Sequence[Path]) -> float:
    """Seconds of the batch scorer for so many pictures, model loading included.

    It may score a repeated path once: the time is scaled to the pictures that it did score.
    """
    from twonines.serving.score import score_paths

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        summary = score_paths(
            model, [str(p) for p in pictures], Path(folder) / "scores.csv", resume=False
        )
        seconds = time.perf_counter() - start
    return seconds * len(pictures) / int(summary.total)


def rate_row(rates: Sequence[float], reference: dict[str, float]) -> dict[str, Any]:
    """Median and range over rounds, and both ratios to the medians in ``reference``."""
    median = statistics.median(rates)
    return {
        "per_second": median,
        "low": min(rates),
        "high": max(rates),
        "rounds": list(rates),
        "seconds_per_part": 1 / median,
        "ratio_to_session": median / reference["session"],
        "ratio_to_decode_resize_session": median / reference["decode_resize_session"],
        "unreliable": median / reference["session"] > RELIABLE_RATIO,
    }


def measure(
    model: Path,
    pictures: Sequence[Path],
    *,
    rounds: int = 3,
    clients: int = CLIENTS,
    per_round: int = 512,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure every way to inspect over the same pictures, rounds alternating.

    Args:
        model: the model file.
        pictures: files; they are repeated in order up to ``per_round``.
        rounds: measured rounds, after one that warms up and is thrown away.
        clients: clients at once over HTTP, each with one kept-alive connection.
        per_round: pictures in a round of each way.
        progress: told what is measured.

    Returns:
        ``rows`` by name with the median, the range over rounds, both ratios and whether the rate
        is unreliable, since it exceeds the bare session's; and ``http`` with latency, mean batch
        size and the load generator's processor seconds.
    """
    tell = progress or (lambda _: None)
    chosen = [pictures[index % len(pictures)] for index in range(per_round)]
    data = [path.read_bytes() for path in chosen]
    session = InspectionSession.load(model)
    images = np.stack([decode_to(item, session.input_size) for item in data])
    seconds: dict[str, list[float]] = {name: [] for name in ROWS}
    answers: list[dict[str, Any]] = []
    with served(model) as port:
        before = (0.0, 0.0)
        for number in range(rounds + 1):
            tell("throughput: warm-up" if number == 0 else f"throughput: round {number}/{rounds}")
            if number == 1:
                before = batch_size_counts(port)
            seconds["session"].append(session_seconds(session, images))
            seconds["decode_resize_session"].append(decoded_seconds(session, data))
            answer = http_round(port, chosen[: len(pictures)], per_round, clients)
            answers.append(answer)
            seconds["http"].append(answer["seconds"])
            seconds["batch"].append(batch_seconds(model, chosen))
        after = batch_size_counts(port)
    rates = {name: [per_round / s for s in values[1:]] for name, values in seconds.items()}
    return {
        "rows": {
            name: rate_row(values, {n: statistics.median(r) for n, r in rates.items()})
            for name, values in rates.items()
        },
        "http": _http_details(answers[1:], before, after),
        "pictures": len(set(chosen)),
        "per_round": per_round,
        "rounds": rounds,
        "clients": clients,
        "threads": available_threads(),
        "execution_provider": session.execution_provider,
        "choice": session.choice,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _http_details(
    answers: Sequence[dict[str, Any]], before: tuple[float, float], after: tuple[float, float]
) -> dict[str, Any]:
    batches = after[1] - before[1]
    return {
        "latency_s": {
            key: statistics.median(a["latency_s"][key] for a in answers)
            for key in ("p50", "p95", "p99")
        },
        "mean_batch_size": (after[0] - before[0]) / batches if batches > 0 else None,
        "load_generator_cpu_seconds": sum(a["cpu_seconds"] for a in answers),
        "wall_seconds": sum(a["seconds"] for a in answers),
    }
