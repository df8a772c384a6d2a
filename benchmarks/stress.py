"""Shows that need a real service: ``python -m twonines.benchmarks.stress SHOW --model M``.

Each show starts the service in its own process, prints one JSON object, and ends with 1 where the
service did not hold.
"""

import argparse
import json
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from twonines.benchmarks.fuzzing import GOOD_LEVELS, Said, Upload, draw, judge, picture
from twonines.benchmarks.throughput import INSPECT_PATH, METRICS_PATH, READY_PATH, free_port
from twonines.benchmarks.throughput.running import get
from twonines.benchmarks.throughput.wire import build_request, read_answer
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession

Result = tuple[bool, dict[str, Any]]
_START_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    port: int
    process: "subprocess.Popen[bytes]"

    def get(self, path: str) -> str:
        """The body at ``path``."""
        return get(self.port, path, 10)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = re.findall(rf"^twonines_{name}(?:{{[^}}]*}})? (\S+)", self.get(METRICS_PATH), re.M)
        return sum(map(float, found))

    def memory_mib(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


@contextmanager
def running(model: Path, *flags: str) -> Iterator[Service]:
    """The real service, ready; ended afterwards where it has not ended.

    A folder is served as one of models.
    """
    port = free_port()
    kind = "--model-dir" if model.is_dir() else "--model"
    command = [sys.executable, "-m", "twonines", "serve", kind, str(model), "--port", str(port)]
    if "--data-dir" not in flags:
        command.append("--no-records")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *flags], stdout=log, stderr=log)
        service = Service(port, process)
        try:
            limit = time.monotonic() + _START_LIMIT_S
            while process.poll() is None and time.monotonic() < limit:
                with suppress(OSError, urllib.error.URLError):
                    service.get(READY_PATH)
                    break
                time.sleep(0.1)
            yield service
        finally:
            process.terminate()
            process.wait(90)


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        """Connect at the first request."""
        self._port, self._kept = port, b""
        self._connection: socket.socket | None = None

    def post(self, data: bytes) -> tuple[int, float]:
        """The status, 0 where the connection broke, and the seconds."""
        start = time.perf_counter()
        try:
            if self._connection is None:
                self._connection = socket.create_connection(("127.0.0.1", self._port), 60)
                self._kept = b""
            self._connection.sendall(build_request("127.0.0.1", INSPECT_PATH, data))
            status, self._kept = read_answer(self._connection, self._kept)
        except (OSError, ValueError):
            status = 0
            self.close()
        return status, time.perf_counter() - start

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _load(
    service: Service, clients: int, seconds: float, per_second: float | None
) -> tuple[Counter[int], list[float]]:
    """Answers by status and latencies; without ``per_second`` each client sends at once again."""
    data = [picture(level) for level in GOOD_LEVELS]
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    lock, end = threading.Lock(), time.perf_counter() + seconds
    period = clients / per_second if per_second else 0.0

    def work(number: int) -> None:
        client, turn = Client(service.port), time.perf_counter() + period * number / clients
        while turn < end and time.perf_counter() < end:
            time.sleep(max(0.0, turn - time.perf_counter()))
            status, took = client.post(data[number % len(data)])
            with lock:
                statuses[status] += 1
                latencies.append(took)
            turn = max(turn + period, time.perf_counter() - period) if period else turn
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, latencies


def _refusals_within(service: Service, limit: str) -> float:
    """Share of refusals that took at most ``limit`` seconds on the server's side."""
    text = service.get(METRICS_PATH)
    count = re.findall(r"refusal_duration_seconds_count (\S+)", text)
    within = re.findall(rf'refusal_duration_seconds_bucket{{le="{limit}"}} (\S+)', text)
    return float(within[0]) / float(count[0]) if float(count[0]) else 1.0


def overload(model: Path, seconds: float, _: int) -> Result:
    """300 % of the peak: goodput, refusals, and memory over time.

    The peak is measured before and after, since the machine's pace changes meanwhile.
    """
    with running(model, "--queue-size", "64") as service:

        def peak() -> float:
            return _load(service, 32, seconds / 2, None)[0][200] / (seconds / 2)

        _load(service, 32, min(5.0, seconds), None)
        first, before = peak(), service.memory_mib()
        statuses, latencies = _load(service, 192, seconds, 3 * first)
        within, after = _refusals_within(service, "0.01"), service.memory_mib()
        peaks = [first, peak()]
        goodput = statuses[200] / seconds / statistics.mean(peaks)
        shown: dict[str, Any] = {
            "peaks_per_second": peaks,
            "offered_per_second": sum(statuses.values()) / seconds,
            "goodput_of_peak": goodput,
            "statuses": dict(statuses),
            "refused_within_10_ms": within,
            "p99_s": float(np.quantile(latencies, 0.99)),
            "memory_mib": [before, after],
        }
    return set(statuses) <= {200, 429} and goodput >= 0.9 and within >= 0.99, shown


def _swap(service: Service, version: str) -> None:
    """Let a version answer; raises where the service does not do it."""
    path = f"http://127.0.0.1:{service.port}/v1/models/part/versions/{version}/activate"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(path, b"", method="POST"), timeout=120) as answer:
        answer.read()


def swaps(model: Path, _: float, count: int) -> Result:
    """Versions swapped under load: no request fails, and memory comes back to the start.

    Memory is compared after as many swaps as warm the allocator up, without load in between.
    """
    statuses: Counter[int] = Counter()
    stop, lock = threading.Event(), threading.Lock()
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for version in ("1", "2"):
            place = Path(folder, "part", version)
            place.mkdir(parents=True)
            shutil.copy(model, place / "model.onnx")
        with running(Path(folder)) as service:

            def work(number: int) -> None:
                client, data = Client(service.port), picture(GOOD_LEVELS[number], 96)
                while not stop.is_set():
                    status = client.post(data)[0]
                    with lock:
                        statuses[status] += 1
                client.close()

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            failed = 0
            try:
                for number in range(count):
                    try:
                        _swap(service, "21"[number % 2])
                    except OSError:
                        failed += 1
                    memory.append(service.memory_mib())
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            time.sleep(2)
            memory.append(service.memory_mib())
    start = statistics.median(memory[: max(1, count // 10)])
    end = statistics.median(memory[-max(1, count // 10) :])
    shown = {
        "swaps": count,
        "failed_swaps": failed,
        "statuses": dict(statuses),
        "memory_mib": {"start": start, "end": end, "last": memory[-1], "highest": max(memory)},
    }
    held = set(statuses) == {200} and not failed and memory[-1] <= 1.1 * start
    return held, shown


def fuzz(model: Path, _: float, count: int) -> Result:
    """Mixed uploads, a tenth malformed, by themselves and in forms beside good ones.

    A good picture must be answered as a direct inspection does, a malformed one by 4xx or, in a
    form, by an ERROR of its own. One that was changed by a flipped bit and still decodes is a
    picture: it must be answered as the direct inspection of the same bytes is.
    """
    rng = random.Random(0)
    wrong: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    inspector = Inspector(InspectionSession.load(model))
    with (
        running(model) as service,
        httpx.Client(
            base_url=f"http://127.0.0.1:{service.port}", timeout=60, trust_env=False
        ) as client,
    ):
        left = count
        while left > 0:
            uploads = [draw(rng) for _ in range(1 if rng.random() < 0.5 else rng.randrange(2, 9))]
            left -= len(uploads)
            for upload, said in zip(uploads, _ask(client, uploads), strict=True):
                seen[f"{upload.kind} {said.status}"] += 1
                if reason := judge(inspector, upload, said):
                    wrong[f"{upload.kind}: {reason}"] += 1
    return not wrong, {"answers": dict(sorted(seen.items())), "wrong": dict(wrong)}


def _ask(client: httpx.Client, uploads: Sequence[Upload]) -> list[Said]:
    """One request, a raw body or a form; what it says of each file."""
    if len(uploads) == 1:
        kind = {"Content-Type": "application/octet-stream"}
        answer = client.post(INSPECT_PATH, content=uploads[0].data, headers=kind)
    else:
        files = [("files", (f"{n}", one.data)) for n, one in enumerate(uploads)]
        answer = client.post(INSPECT_PATH, files=files)
    body = answer.json()
    if "results" not in body:  # refused as a whole
        return [Said(answer.status_code, "", None) for _ in uploads]
    return [
        Said(one["error"]["status"] if one["error"] else 200, one["verdict"], one["score"])
        for one in body["results"]
    ]


def disconnects(model: Path, seconds: float, _: int) -> Result:
    """Clients that go away at random: nothing stays in flight, and memory is flat."""
    data = build_request("127.0.0.1", INSPECT_PATH, picture(120))
    memory: list[float] = []
    with running(model) as service:
        rng, end, sent = random.Random(0), time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", service.port)) as one:
                one.sendall(data[: rng.choice([len(data), rng.randrange(1, len(data))])])
                time.sleep(rng.random() * 0.01)
            sent += 1
            if sent % 100 == 0:
                memory.append(service.memory_mib())
        time.sleep(1)
        pending = service.metric("pending_pictures") + service.metric("pending_requests")
        status = Client(service.port).post(picture(120))[0]
    half = len(memory) // 2
    growth = max(memory[half:]) - statistics.median(memory[:half]) if half else 0.0
    shown = {"sent": sent, "pending": pending, "growth_mib": growth, "status_afterwards": status}
    return pending == 0 and status == 200 and growth < 64, shown


def drain(model: Path, seconds: float, _: int) -> Result:
    """SIGTERM under load: no request that was sent on an open connection goes unanswered."""
    with running(model, "--drain-delay-s", "1") as service:
        found: list[Counter[int]] = []
        thread = threading.Thread(target=lambda: found.append(_until_gone(service)))
        thread.start()
        time.sleep(seconds)
        service.process.send_signal(signal.SIGTERM)
        thread.join()
        code = service.process.wait(90)
    statuses = found[0]
    shown = {"statuses": dict(statuses), "exit_code": code}
    return set(statuses) == {200} and code in (0, -signal.SIGTERM), shown


def _until_gone(service: Service, clients: int = 32) -> Counter[int]:
    """Load from clients that connect anew each time, until no connection is taken any more."""
    statuses: Counter[int] = Counter()
    data, lock = build_request("127.0.0.1", INSPECT_PATH, picture(120)), threading.Lock()

    def work() -> None:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", service.port), 60)
            except OSError:
                return
            try:
                with connection:
                    connection.sendall(data)
                    status = read_answer(connection, b"")[0]
            except (OSError, ValueError):
                status = 0
            with lock:
                statuses[status] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


SHOWS: dict[str, Callable[[Path, float, int], Result]] = {
    "overload": overload,
    "fuzz": fuzz,
    "swaps": swaps,
    "disconnects": disconnects,
    "drain": drain,
}


def main() -> None:
    """Run one show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("show", choices=SHOWS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, help="default: 10000 uploads, 200 swaps")
    given = parser.parse_args()
    count = given.count or (200 if given.show == "swaps" else 10_000)
    held, shown = SHOWS[given.show](given.model, given.seconds, count)
    print(json.dumps({"show": given.show, "held": held, **shown}, indent=2))
    sys.exit(not held)


if __name__ == "__main__":
    main()
