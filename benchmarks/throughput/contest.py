"""One round of the comparison: all servers are up, and each load goes to one after the other.

A machine's pace moves by a third within minutes. Servers that are measured each in its own minutes
are compared with the weather; seconds apart, they see the same. Whoever does not have its turn is
suspended, for some are never idle.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from twonines.benchmarks.throughput.running import (
    Watch,
    command_of,
    free_port,
    generate_load,
    post,
    resume,
    running,
    suspend,
)
from twonines.benchmarks.throughput.task import Task
from twonines.benchmarks.throughput.variants import CompareOptions, Tell, Variant
from twonines.benchmarks.throughput.wire import build_upload, find_score
from twonines.errors import GateError

WARM_UP, AWAKENING, WARM_UP_CLIENTS = 96, 32, 32
"""Pictures that do not count: after the start, and after each rest."""
GRACE_S, OVERLOAD_GRACE_S = 10.0, 2.0
"""How long answers are waited for after the last request; in overload a queue would last long."""
COUNTS = ("sent", "answered", "refused", "errors", "unanswered", "wrong")
_FULL = 100
_FAULT_LIMIT_S = 30.0
"""A server that still answers nothing but faults so long after its start will not do better."""


@dataclass(slots=True)
class Contestant:
    """A server that is up: how a load is sent to it, and what it did under each."""

    variant: Variant
    process: psutil.Process
    job: dict[str, Any]
    ready_s: float
    end: Callable[[], None]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def capacity(self) -> float:
        """Pictures a second in its best closed loop."""
        return max((r["per_second"] for n, r in self.rows.items() if n.startswith("closed")),
                   default=0.0)  # fmt: skip

    @contextmanager
    def awake(self, pictures: int) -> Iterator[None]:
        """Let the server run, and send ``pictures`` that do not count; suspended afterwards.

        Raises:
            GateError: it ended while it waited, or the load generator failed.
        """
        resume(self.process)
        try:
            if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
                raise GateError("server: must run while others have their turn, it ended")
            generate_load(self.job | {"clients": WARM_UP_CLIENTS, "total": pictures})
            yield
        finally:
            suspend(self.process)

    def warm_up(self) -> None:
        """Stand a load that does not count.

        Raises:
            GateError: as :meth:`awake`.
        """
        with self.awake(WARM_UP):
            pass

    def take(self, load: str, given: dict[str, Any]) -> None:
        """Stand a load, and keep what came of it.

        Raises:
            GateError: as :meth:`awake`.
        """
        with self.awake(AWAKENING):
            self.rows[load] = _row(self.process, self.job | given)

    def result(self) -> dict[str, Any]:
        """What the round gave."""
        return {"ready_s": self.ready_s, "capacity": self.capacity, "rows": self.rows}


class Contest:
    """All servers of a round, while the block runs; one that fails is ended and told of."""

    def __init__(
        self,
        variants: Sequence[Variant],
        task: Task,
        options: CompareOptions,
        number: int,
        tell: Tell,
    ) -> None:
        """Round ``number``, from 0 on."""
        self._variants, self._task, self._options = variants, task, options
        self._number = number
        self._tell: Tell = lambda said: tell(f"round {number + 1}/{options.rounds}: {said}")
        self._stack = ExitStack()
        self._turns = number
        self._up: list[Contestant] = []
        self.errors: dict[str, str] = {}

    def __enter__(self) -> "Contest":
        """Start and warm up every server."""
        with ExitStack() as stack:
            for variant in self._variants:
                self._tell(f"start {variant.key}")
                own = stack.enter_context(ExitStack())
                try:
                    one = _start(variant, self._task, own)
                except GateError as exc:
                    self.errors[variant.key] = str(exc)
                    continue
                self._up.append(one)
                self._try(one, one.warm_up)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End those that are still up."""
        self._stack.close()

    def closed(self) -> None:
        """The closed loops."""
        for clients in self._options.clients:
            given = {"clients": clients, "seconds": self._options.seconds}
            for one in self._in_turn():
                self._take(one, f"closed {clients}", given)

    def open(self) -> None:
        """Poisson arrivals; each server is ended after more than it can do, with its queue."""
        for percent in (p for p in self._options.load if p <= _FULL):
            for one in self._in_turn():
                self._arrive(one, percent, GRACE_S)
        over = [percent for percent in self._options.load if percent > _FULL]
        for one in self._in_turn() if over else ():
            for percent in over:
                self._arrive(one, percent, OVERLOAD_GRACE_S)
            one.end()

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and result of each server that did not fail."""
        for one in self._up:
            if one.variant.key not in self.errors:
                yield one.variant.key, one.result()

    def _in_turn(self) -> Iterable[Contestant]:
        """Every other load backwards, so that nobody is always measured after the same one."""
        self._turns += 1
        return list(self._up) if self._turns % 2 else list(reversed(self._up))

    def _arrive(self, one: Contestant, percent: int, grace_s: float) -> None:
        if not (rate := one.capacity * percent / 100):
            return
        given = {"rate": rate, "seconds": self._options.seconds, "grace_s": grace_s,
                 "seed": self._options.seed + self._number}  # fmt: skip
        self._take(one, f"open {percent}", given)
        if row := one.rows.get(f"open {percent}"):
            row["offered"] = rate

    def _take(self, one: Contestant, load: str, given: dict[str, Any]) -> None:
        if one.variant.key not in self.errors:
            self._tell(f"{load}: {one.variant.key}")
            self._try(one, lambda: one.take(load, given))

    def _try(self, one: Contestant, work: Callable[[], object]) -> None:
        try:
            work()
        except GateError as exc:
            self.errors[one.variant.key] = str(exc)
            one.end()


def _start(variant: Variant, task: Task, stack: ExitStack) -> Contestant:
    """Start a server and wait for its first answer; ``stack`` ends it.

    Raises:
        GateError: there is none in time.
    """
    server, port = variant.server, free_port()
    assert variant.environment.python is not None
    words, environment = command_of(
        server, variant.environment.python, task.model, task.session.input_size,
        variant.asked, port,
    )  # fmt: skip
    first = build_upload(server.form, server.field, f"127.0.0.1:{port}", server.path,
                         task.pictures[0].read_bytes())  # fmt: skip
    start = time.perf_counter()

    def probe() -> bool:
        answer = post(port, first)
        if answer is None or find_score(answer[1], server.place) is not None:
            return answer is not None
        if time.perf_counter() - start > _FAULT_LIMIT_S:
            said = answer[1].decode(errors="replace")[:400]
            raise GateError(f"server: must answer a score, got {answer[0]}: {said}")
        return False

    process = stack.enter_context(running(words, environment, probe))
    job = {
        "host": "127.0.0.1", "port": port, "path": server.path, "form": server.form,
        "field": server.field, "place": list(server.place), "expected": list(task.expected),
        "pictures": [str(path) for path in task.pictures], "grace_s": GRACE_S,
        "tolerance": variant.tolerance,
    }  # fmt: skip
    return Contestant(variant, process, job, time.perf_counter() - start, stack.close)


def _row(process: psutil.Process, job: dict[str, Any]) -> dict[str, Any]:
    """One load, with what the server took meanwhile."""
    with Watch(process) as watch:
        found = generate_load(job)
    return {
        "per_second": found["per_second"],
        **{f"{name}_s": value for name, value in found["latency_s"].items()},
        "refusal_p99_s": found["refusal_s"]["p99"],
        "cpu_per_picture_s": watch.cpu_seconds / found["answered"] if found["answered"] else None,
        "memory_bytes": watch.peak_bytes,
        "generator_share": found["cpu_share"],
        "others_share": share_of_others(watch, found["process_cpu_seconds"]),
        "late_p99_s": found["late_p99_s"],
        **{name: found[name] for name in COUNTS},
    }


def share_of_others(watch: Watch, generator_seconds: float) -> float:
    """Share of all cores that neither the server nor the benchmark took, while it was watched."""
    cores = psutil.cpu_count() or 1
    others = watch.machine_seconds - watch.cpu_seconds - generator_seconds
    return max(0.0, others / watch.wall_seconds / cores)
