"""The load generator; it runs in its own process: ``python -m twonines.benchmarks.load``.

It reads one JSON job from standard input and writes one JSON answer. Requests are built before the
clock starts and answers are barely parsed, so that it takes little of the processor under test.
"""

import json
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TIMEOUT_S = 60.0


def build_request(host: str, path: str, data: bytes) -> bytes:
    """One complete keep-alive POST with the picture's bytes as the body."""
    header = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return header.encode() + data


def read_answer(connection: socket.socket, kept: bytes) -> tuple[int, bytes]:
    """Read one answer with a Content-Length; gives its status and what came after it."""
    while (end := kept.find(b"\r\n\r\n")) < 0:
        kept += _receive(connection)
    head = kept[:end].lower()
    status = int(head.split(b" ", 2)[1])
    place = head.find(b"content-length:")
    if place < 0:
        raise ConnectionError("the service must send a Content-Length, got none")
    length = int(head[place + 15 :].split(b"\r\n", 1)[0])
    total = end + 4 + length
    while len(kept) < total:
        kept += _receive(connection)
    return status, kept[total:]


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the service closed a kept-alive connection")
    return data


@dataclass
class _Run:
    """What the client threads share."""

    address: tuple[str, int]
    requests: list[bytes]
    total: int
    next: int = 0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bytes | None:
        with self.lock:
            if self.next >= self.total:
                return None
            self.next += 1
            return self.requests[(self.next - 1) % len(self.requests)]

    def note(self, status: str, seconds: float) -> None:
        with self.lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.latencies.append(seconds)


def _client(run: _Run, barrier: threading.Barrier) -> None:
    """One client with one connection; it opens a new one only after a fault."""
    connection: socket.socket | None = None
    kept = b""
    barrier.wait()
    while (request := run.take()) is not None:
        start = time.perf_counter()
        try:
            if connection is None:
                connection = socket.create_connection(run.address, timeout=_TIMEOUT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                kept = b""
            connection.sendall(request)
            status, kept = read_answer(connection, kept)
            run.note(str(status), time.perf_counter() - start)
        except (OSError, ValueError) as exc:
            run.note(type(exc).__name__, time.perf_counter() - start)
            if connection is not None:
                connection.close()
            connection = None
    if connection is not None:
        connection.close()


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Send ``job["total"]`` requests from ``job["clients"]`` clients at once.

    Returns:
        Seconds, requests a second, latency quantiles in seconds, answers by status, and this
        process's own processor seconds.
    """
    host, port = str(job["host"]), int(job["port"])
    requests = [
        build_request(f"{host}:{port}", job["path"], Path(p).read_bytes()) for p in job["pictures"]
    ]
    run = _Run((host, port), requests, int(job["total"]))
    barrier = threading.Barrier(int(job["clients"]) + 1)
    threads = [
        threading.Thread(target=_client, args=(run, barrier)) for _ in range(int(job["clients"]))
    ]
    for thread in threads:
        thread.start()
    cpu = time.process_time()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    ordered = sorted(run.latencies)

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "seconds": seconds,
        "requests": len(ordered),
        "per_second": len(ordered) / seconds,
        "latency_s": {"p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99)},
        "statuses": run.statuses,
        "cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    json.dump(run_job(json.load(sys.stdin)), sys.stdout)
