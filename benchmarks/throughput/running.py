"""Start a server, watch what it takes, and end it with all its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil

from twonines.benchmarks.throughput.servers import SCRIPTS, Server
from twonines.errors import GateError

INSPECT_PATH = "/v1/inspect"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"
_START_LIMIT_S = 180.0
_STOP_LIMIT_S = 5.0
_SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds so far of a tree of processes, and its resident bytes."""

    cpu_seconds: float
    memory_bytes: int


def measure_tree(root: psutil.Process) -> Usage:
    """Sum over a process and all its descendants; shared pages count in each of them."""
    cpu, memory = 0.0, 0
    for process in _family(root):
        with suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system
            memory += process.memory_info().rss
    return Usage(cpu, memory)


def machine_cpu_seconds() -> float:
    """Processor seconds that the whole machine has worked so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


class Watch:
    """What a tree of processes takes while the block runs, and what the machine works at all."""

    def __init__(self, root: psutil.Process) -> None:
        """Watch nothing yet."""
        self._root, self._stop = root, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._first = Usage(0.0, 0)
        self._machine, self._start = 0.0, 0.0
        self.cpu_seconds, self.peak_bytes = 0.0, 0
        self.machine_seconds, self.wall_seconds = 0.0, 0.0

    def __enter__(self) -> "Watch":
        """Start to sample."""
        self._first = measure_tree(self._root)
        self.peak_bytes = self._first.memory_bytes
        self._machine, self._start = machine_cpu_seconds(), time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the last sample."""
        self._stop.set()
        self._thread.join()
        last = measure_tree(self._root)
        self.machine_seconds = machine_cpu_seconds() - self._machine
        self.wall_seconds = time.perf_counter() - self._start
        self.cpu_seconds = last.cpu_seconds - self._first.cpu_seconds
        self.peak_bytes = max(self.peak_bytes, last.memory_bytes)

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, measure_tree(self._root).memory_bytes)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def twonines_command(
    model: Path, execution_provider: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """What starts the service, and its environment."""
    words = [
        sys.executable, "-m", "twonines", "serve", "--model", str(model.resolve()),
        "--host", "127.0.0.1", "--port", str(port), "--execution-provider", execution_provider,
        "--no-records", "--no-console",
    ]  # fmt: skip
    return words, dict(os.environ)


def command_of(
    server: Server, python: Path, model: Path, size: tuple[int, int], provider: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """What starts a server, and the environment that it starts in."""
    if server.script is None:
        return twonines_command(model, provider, port)
    environment = dict(os.environ)
    if python != Path(sys.executable):
        environment.pop("PYTHONPATH", None)  # packages of this environment are not for that one
    paths = [str(SCRIPTS), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {
        "PYTHONPATH": os.pathsep.join(paths), "PEER_MODEL": str(model.resolve()),
        "PEER_SIZE": f"{size[0]}x{size[1]}", "PEER_PROVIDER": provider, "PEER_PORT": str(port),
        "PATH": os.pathsep.join([str(python.parent), environment.get("PATH", "")]),
        # PyTriton's stub looks for the Python library of this very interpreter.
        "LD_LIBRARY_PATH": os.pathsep.join(
            filter(None, [sysconfig.get_config_var("LIBDIR"), environment.get("LD_LIBRARY_PATH")])
        ),
        # None of them may send figures about this run anywhere.
        "BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    return [str(python), str(server.script)], environment


@contextmanager
def running(
    words: Sequence[str], environment: dict[str, str], probe: Callable[[], bool]
) -> Iterator[psutil.Process]:
    """Run a server in a folder of its own until the block ends.

    Args:
        words: the command.
        environment: its environment.
        probe: whether it answers already.

    Raises:
        GateError: it ended or did not answer in time; the message ends with what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="twonines-bench-") as folder, \
            tempfile.TemporaryFile("w+", errors="replace") as log:  # fmt: skip
        started = psutil.Popen(
            list(words), env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        try:
            limit = time.monotonic() + _START_LIMIT_S
            while not probe():
                if started.poll() is not None or time.monotonic() > limit:
                    log.seek(0)
                    raise GateError(
                        f"server: must answer within {_START_LIMIT_S:.0f} s, got exit code "
                        f"{started.poll()}: {log.read()[-2000:].strip()}"
                    )
                time.sleep(0.1)
            yield started
        finally:
            end_tree(started)


def suspend(root: psutil.Process) -> None:
    """Let a process and all its descendants rest: they take no processor time."""
    resting: set[psutil.Process] = set()
    while found := [one for one in _family(root) if one not in resting]:
        for process in found:  # one of them may have had a child meanwhile
            resting.add(process)
            with suppress(psutil.Error):
                process.suspend()


def resume(root: psutil.Process) -> None:
    """Let them go on, children before those who look after them."""
    for process in reversed(_family(root)):
        with suppress(psutil.Error):
            process.resume()


def _family(root: psutil.Process) -> list[psutil.Process]:
    family = [root]
    with suppress(psutil.Error):
        family += root.children(recursive=True)
    return family


def end_tree(root: psutil.Popen) -> None:
    """End a process and its descendants, kindly first; also those that are suspended."""
    family = _family(root)
    resume(root)
    with suppress(OSError):
        os.killpg(root.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=_STOP_LIMIT_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_STOP_LIMIT_S)
    root.poll()


def _open(url: urllib.request.Request | str, timeout_s: float) -> Any:
    """A proxy of the environment is not for this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=timeout_s)


def get(port: int, path: str, timeout_s: float) -> str:
    """The answer's text."""
    with _open(f"http://127.0.0.1:{port}{path}", timeout_s) as answer:
        text: str = answer.read().decode()
    return text


def post(port: int, request: bytes, timeout_s: float = 30.0) -> tuple[int, bytes] | None:
    """Post one whole request; status and body, or None where nobody answers."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    url = f"http://127.0.0.1:{port}{first.split(' ')[1]}"
    try:
        with _open(urllib.request.Request(url, body, headers), timeout_s) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read()
    except (OSError, ValueError, HTTPException):
        return None


@contextmanager
def served(model: Path) -> Iterator[int]:
    """Run the real service in its own process; gives its port.

    Raises:
        GateError: the service does not start; the message ends with what it wrote.
    """
    port = free_port()
    words, environment = twonines_command(model, "auto", port)
    # All clients wait for their answers, however slow the machine is: none may be refused.
    words += ["--max-predicted-s", "120", "--request-timeout-s", "120"]

    def ready() -> bool:
        try:
            get(port, READY_PATH, 2)
        except (urllib.error.URLError, OSError):
            return False
        return True

    with running(words, environment, ready):
        yield port


def generate_load(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job of the load generator in its own process.

    Raises:
        GateError: the generator failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "twonines.benchmarks.throughput.load"],
        input=json.dumps(job), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise GateError(f"load generator: must end well, got {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
