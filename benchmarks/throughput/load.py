"""The load generator, run as ``python -m twonines.benchmarks.throughput.load``.

In its own process it reads one JSON job from standard input and writes one JSON answer. One event
loop holds all connections; requests are built before the clock starts and answers are judged after
it stopped, so that it takes little of the processors under test.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twonines.benchmarks.throughput.wire import build_upload, find_score, split_answer

TOLERANCE = 1e-3
"""Largest difference to the known score; providers of one model differ by less."""
REFUSED = ("429", "503")
_PAUSE_S = 0.01
_GRACE_S = 60.0


def poisson_times(per_second: float, seconds: float, seed: int) -> list[float]:
    """Arrivals of a Poisson process in [0, seconds), rising, in seconds."""
    rng = random.Random(seed)
    times: list[float] = []
    now = rng.expovariate(per_second)
    while now < seconds:
        times.append(now)
        now += rng.expovariate(per_second)
    return times


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        """Not connected yet."""
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._kept = b""

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Wake who asked as soon as the answer is whole."""
        self._kept += data
        try:
            answer = split_answer(self._kept)
        except (OSError, ValueError) as exc:
            self.connection_lost(exc)
            return
        if answer is not None and self._waiter is not None and not self._waiter.done():
            self._kept = answer[2]
            self._waiter.set_result(answer[:2])

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; gives status and body."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Close without waiting."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of one request; ``late`` is how long after its time it was sent."""

    picture: int
    status: str
    seconds: float
    end: float
    late: float
    body: bytes


@dataclass
class Run:
    """One job under way."""

    address: tuple[str, int]
    requests: Sequence[bytes]
    samples: list[Sample] = field(default_factory=list)
    sent: int = 0
    start: float = 0.0
    span: float = 0.0
    """Seconds in which an open loop sends."""
    _idle: list[Connection] = field(default_factory=list)

    async def send(self, due: float) -> bool:
        """Send the next picture; the clock runs from ``due``, when it should have been sent."""
        number = self.sent % len(self.requests)
        self.sent += 1
        late = time.perf_counter() - due
        status, body, connection = "", b"", None
        try:
            connection = await self._take()
            code, body = await connection.ask(self.requests[number])
            status = str(code)
            self._idle.append(connection)
        except (OSError, ValueError) as exc:
            status = type(exc).__name__
        finally:
            if not status.isdigit() and connection is not None:
                connection.close()
        now = time.perf_counter()
        self.samples.append(Sample(number, status, now - due, now, late, body))
        return status.isdigit()

    async def _take(self) -> Connection:
        while self._idle:
            kept = self._idle.pop()
            if kept.usable:
                return kept
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, *self.address))[1]

    async def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)  # in which the loop closes the sockets


async def _closed(run: Run, job: dict[str, Any]) -> None:
    """So many clients, each with one request at a time."""
    end = run.start + job.get("seconds", float("inf"))
    total = job.get("total", float("inf"))

    async def client() -> None:
        while run.sent < total and (now := time.perf_counter()) < end:
            if not await run.send(now):
                await asyncio.sleep(_PAUSE_S)  # a dead server must not be hammered

    tasks = [asyncio.create_task(client()) for _ in range(int(job["clients"]))]
    await _finish(tasks, job.get("seconds", 0.0) + job.get("grace_s", _GRACE_S))


async def _open(run: Run, job: dict[str, Any]) -> None:
    """Requests at the times of a Poisson process, whatever is still under way."""
    tasks = []
    run.span = float(job["seconds"])
    for moment in poisson_times(float(job["rate"]), run.span, int(job["seed"])):
        due = run.start + moment
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(run.send(due)))
    await _finish(tasks, job.get("grace_s", _GRACE_S))


async def _finish(tasks: Sequence["asyncio.Task[Any]"], seconds: float) -> None:
    """Wait for what is under way; what takes longer stays unanswered."""
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def _drive(run: Run, job: dict[str, Any]) -> float:
    """Run the job; gives this process's own processor seconds."""
    cpu = time.process_time()
    run.start = time.perf_counter()
    await (_open if "rate" in job else _closed)(run, job)
    cpu = time.process_time() - cpu
    await run.close()
    return cpu


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Send pictures in turn, from ``clients`` at once or at a ``rate``, and judge the answers.

    Args:
        job: ``host``, ``port``, ``path``, ``pictures`` (paths); optional ``form``, ``field``;
            ``clients`` with ``seconds`` or ``total``, or ``rate`` with ``seconds`` and ``seed``;
            optional ``grace_s`` for what is under way at the end; optional ``expected`` scores
            of the pictures with ``place``, where an answer holds its score, and ``tolerance``.

    Returns:
        Answers a second, latency quantiles of answers with 200, in seconds from when a request
        was due; counts of ``sent``, ``answered``, ``refused``, ``errors``, ``unanswered`` and
        ``wrong``; and what the generator itself took, while it sent and in all.
    """
    host, port = str(job["host"]), int(job["port"])
    requests = [
        build_upload(
            job.get("form", "raw"), job.get("field", ""), f"{host}:{port}", job["path"],
            Path(path).read_bytes(),
        )
        for path in job["pictures"]
    ]  # fmt: skip
    run = Run((host, port), requests)
    _allow_connections()
    gc.disable()  # a collection would delay whatever is due meanwhile
    try:
        cpu = asyncio.run(_drive(run, job))
    finally:
        gc.enable()
    return _summary(run, job, cpu)


def _allow_connections() -> None:
    """As many open connections as the system lets this process have."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _summary(run: Run, job: dict[str, Any], cpu: float) -> dict[str, Any]:
    good = [sample for sample in run.samples if sample.status == "200"]
    statuses = Counter(sample.status for sample in run.samples)
    refused = sum(statuses[status] for status in REFUSED)
    last = max((sample.end for sample in good), default=run.start) - run.start
    seconds = max(run.span, last)
    seen = max((sample.end for sample in run.samples), default=run.start) - run.start
    wall = max(run.span, seen) or float("nan")
    return {
        "seconds": seconds,
        "per_second": len(good) / seconds if good else 0.0,
        "latency_s": _quantiles([sample.seconds for sample in good]),
        "refusal_s": _quantiles([s.seconds for s in run.samples if s.status in REFUSED]),
        "late_p99_s": _quantiles([sample.late for sample in run.samples])["p99"],
        "statuses": dict(statuses),
        "sent": run.sent,
        "answered": len(good),
        "refused": refused,
        "errors": len(run.samples) - len(good) - refused,
        "unanswered": run.sent - len(run.samples),
        "wrong": sum(_judge(good, job)),
        "cpu_seconds": cpu,
        "process_cpu_seconds": time.process_time(),
        "cpu_share": cpu / wall,
    }


def _judge(samples: Sequence[Sample], job: dict[str, Any]) -> Iterator[bool]:
    """Whether each answer is wrong."""
    if "expected" not in job:
        return
    place, tolerance = tuple(job["place"]), job.get("tolerance", TOLERANCE)
    for sample in samples:
        score = find_score(sample.body, place)
        wanted = job["expected"][sample.picture]
        yield score is None or not abs(score - wanted) <= tolerance


def _quantiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """Smallest values that so many of all do not exceed; None without values."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
        for name, share in shares.items()
    }


if __name__ == "__main__":
    json.dump(run_job(json.load(sys.stdin)), sys.stdout)
