"""Commands of twonines that run beside the service: teaching, checks, reports, studies."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from twonines.errors import ConflictError

_KEPT = 400
_GRACE_S = 10.0


@dataclass(slots=True, eq=False)
class Work:
    """One command: what it has said, and how it ended; ``code`` is None while it runs."""

    kind: str
    title: str
    process: asyncio.subprocess.Process
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))
    code: int | None = None
    _start: float = field(default_factory=time.monotonic)
    _seconds: float | None = None
    watcher: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.code is None

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        return time.monotonic() - self._start if self._seconds is None else self._seconds

    @property
    def error(self) -> str:
        """Why it failed, in its own words."""
        named = [line for line in self.lines if line.startswith("error: ")]
        return (named or list(self.lines) or [f"exit code {self.code}"])[-1]

    async def follow(self, done: Callable[["Work"], None] | None) -> None:
        """Take its lines until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip())
        self.code = await self.process.wait()
        self._seconds = time.monotonic() - self._start
        if done:
            done(self)

    def stop(self) -> None:
        """End it and what it has started."""
        if self.running:
            os.killpg(self.process.pid, signal.SIGTERM)


class Works:
    """At most one work of a kind at a time; all end with the service."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._last: dict[str, Work] = {}

    def last(self, kind: str) -> Work | None:
        """The newest work of its kind, running or ended."""
        return self._last.get(kind)

    async def start(
        self, kind: str, title: str, *arguments: str, done: Callable[[Work], None] | None = None
    ) -> Work:
        """Start ``python -m twonines ...`` at low priority: inspecting goes first.

        Raises:
            ConflictError: one of the kind runs already.
        """
        last = self.last(kind)
        if last and last.running:
            raise ConflictError(f"{kind}: must end before another begins, {last.title} still runs")
        polite = [nice, "-n", "10"] if (nice := shutil.which("nice")) else []
        process = await asyncio.create_subprocess_exec(
            *polite, sys.executable, "-m", "twonines", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True, limit=2**20,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        )  # fmt: skip
        work = self._last[kind] = Work(kind, title, process)
        work.watcher = asyncio.create_task(work.follow(done))
        return work

    async def close(self) -> None:
        """End everything that runs."""
        watchers = [work.watcher for work in self._last.values() if work.running and work.watcher]
        for work in self._last.values():
            work.stop()
        if watchers:
            _, stubborn = await asyncio.wait(watchers, timeout=_GRACE_S)
            if stubborn:
                for work in self._last.values():
                    if work.running:
                        os.killpg(work.process.pid, signal.SIGKILL)
