import asyncio
import io
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.fake_server import FakeServer
from tests.images import png
from twonines.benchmarks.throughput import free_port
from twonines.benchmarks.throughput.load import Run, poisson_times, run_job
from twonines.benchmarks.throughput.wire import (
    build_request,
    build_upload,
    find_score,
    read_answer,
    split_answer,
)


def job_for(server: FakeServer, pictures: list[Path], **given: Any) -> dict[str, Any]:
    sizes = [float(path.stat().st_size) for path in pictures]
    assert len(set(sizes)) == len(sizes)
    return {
        "host": "127.0.0.1", "port": server.port, "path": "/x", "place": ["score"],
        "pictures": [str(path) for path in pictures], "expected": sizes, **given,
    }  # fmt: skip


def test_pictures_go_in_turn_and_every_answer_is_judged(
    server: FakeServer, pictures: list[Path]
) -> None:
    found = run_job(job_for(server, pictures, clients=4, total=12))
    assert (found["sent"], found["answered"], found["wrong"]) == (12, 12, 0)
    assert sorted(map(len, server.bodies)) == sorted(4 * [p.stat().st_size for p in pictures])
    assert found["errors"] == found["refused"] == found["unanswered"] == 0
    assert found["per_second"] == pytest.approx(12 / found["seconds"])
    assert found["cpu_seconds"] > 0 and found["cpu_share"] > 0


@pytest.mark.parametrize(("shift", "wrong"), [(0.0009, 0), (0.0011, 4), (float("nan"), 4)])
def test_a_score_off_by_more_than_the_tolerance_is_wrong(
    server: FakeServer, pictures: list[Path], shift: float, wrong: int
) -> None:
    job = job_for(server, pictures, clients=1, total=6)
    job["expected"][0] += shift
    job["expected"][2] -= shift
    assert run_job(job)["wrong"] == wrong


def test_refusals_errors_and_answers_are_counted_apart(
    server: FakeServer, pictures: list[Path]
) -> None:
    statuses = [200, 429, 500, 503, 200, 422]
    server.status = lambda number: statuses[number % 6]
    found = run_job(job_for(server, pictures, clients=1, total=12))
    assert found["statuses"] == {"200": 4, "429": 2, "500": 2, "503": 2, "422": 2}
    assert (found["answered"], found["refused"], found["errors"]) == (4, 4, 4)


def test_latency_is_of_answers_alone(server: FakeServer, pictures: list[Path]) -> None:
    server.status = lambda number: 429 if number % 2 else 200
    server.delay_s = lambda number: 0.0 if number % 2 else 0.1
    found = run_job(job_for(server, pictures, clients=1, total=6))
    assert found["latency_s"]["p50"] >= 0.1
    assert found["refusal_s"]["p50"] < found["latency_s"]["p50"]


def test_a_closed_loop_ends_by_the_clock_and_waits_for_what_is_under_way(
    server: FakeServer, pictures: list[Path]
) -> None:
    server.delay_s = lambda number: 0.15
    found = run_job(job_for(server, pictures, clients=2, seconds=0.2))
    assert found["sent"] == found["answered"] == 4
    assert found["unanswered"] == 0 and found["seconds"] >= 0.3


def test_what_stays_unanswered_is_counted(server: FakeServer, pictures: list[Path]) -> None:
    server.delay_s = lambda number: 2.0 if number == 1 else 0.0
    found = run_job(job_for(server, pictures, clients=1, total=3, grace_s=0.3))
    assert (found["sent"], found["answered"], found["unanswered"]) == (2, 1, 1)


def test_an_open_loop_does_not_wait_for_answers(server: FakeServer, pictures: list[Path]) -> None:
    server.delay_s = lambda number: 0.3
    arrivals = poisson_times(50, 0.4, 7)
    found = run_job(job_for(server, pictures, rate=50, seconds=0.4, seed=7))
    assert found["sent"] == found["answered"] == len(arrivals) > 10
    assert found["seconds"] >= 0.3 + arrivals[-1]
    assert found["latency_s"]["p50"] >= 0.3


def test_latency_counts_from_when_a_request_was_due(server: FakeServer) -> None:
    run = Run(("127.0.0.1", server.port), [build_request("h", "/x", b"abc")])

    async def send_late() -> bool:
        answered = await run.send(time.perf_counter() - 0.5)
        await run.close()
        return answered

    assert asyncio.run(send_late())
    assert run.samples[0].late >= 0.5 and run.samples[0].seconds >= 0.5


def test_poisson_arrivals() -> None:
    times = poisson_times(200, 50, 3)
    assert times == poisson_times(200, 50, 3) != poisson_times(200, 50, 4)
    assert times == sorted(times) and 0 < times[0] and times[-1] < 50
    assert abs(len(times) - 10_000) < 400  # four standard deviations
    gaps = np.diff(times)
    # Exponential: the standard deviation is the mean, and 1/e of the gaps exceed it.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert float((gaps > gaps.mean()).mean()) == pytest.approx(np.exp(-1), abs=0.02)


def test_a_dead_service_is_counted_not_raised(pictures: list[Path]) -> None:
    job = {"host": "127.0.0.1", "port": free_port(), "path": "/",
           "pictures": [str(pictures[0])], "total": 3, "clients": 2}  # fmt: skip
    found = run_job(job)
    assert found["statuses"] == {"ConnectionRefusedError": 3}
    assert found["errors"] == 3 and found["per_second"] == 0
    assert found["latency_s"]["p50"] is None


def test_chunked_answers_are_understood(server: FakeServer, pictures: list[Path]) -> None:
    server.chunked = True
    found = run_job(job_for(server, pictures, clients=2, total=8))
    assert (found["answered"], found["wrong"]) == (8, 0)


def test_request_is_complete() -> None:
    head, _, body = build_request("h", "/p", b"\x00\r\n\xff").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: h\r\n")
    assert b"Content-Length: 4" in head
    assert body == b"\x00\r\n\xff"


def test_an_open_inference_request_holds_the_bytes_behind_its_header() -> None:
    head, _, body = build_upload("oip", "file", "h", "/p", b"abc").partition(b"\r\n\r\n")
    size = int(head.split(b"Inference-Header-Content-Length: ")[1].split(b"\r\n")[0])
    assert body[size:] == b"\x03\x00\x00\x00abc"
    assert b'"binary_data_size": 7' in body[:size] and b'"shape": [1, 1]' in body[:size]


@pytest.mark.parametrize("end", range(1, 60))
def test_an_answer_counts_when_it_is_whole(end: int) -> None:
    whole = b"HTTP/1.1 201 Created\r\nX: y\r\nContent-length: 5\r\n\r\nhello"
    found = split_answer((whole + b"next")[:end])
    assert found == (None if end < len(whole) else (201, b"hello", b"next"[: end - len(whole)]))


def test_an_answer_without_length_is_refused() -> None:
    with pytest.raises(ConnectionError, match="Content-Length"):
        split_answer(b"HTTP/1.1 200 OK\r\n\r\nhello")


def test_a_blocking_connection_reads_one_answer() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"HTTP/1.1 429 X\r\nContent-Length: 2\r\n\r\nabHTT")
        assert read_answer(here, b"") == (429, b"HTT")
        there.close()
        with pytest.raises(ConnectionError):
            read_answer(here, b"HTT")


def test_scores_are_found_where_the_server_puts_them() -> None:
    assert find_score(b'{"results": [{"score": 0.5}]}', ("results", 0, "score")) == 0.5
    for body in (b"", b"[]", b'{"results": []}', b'{"results": [{"score": null}]}'):
        assert find_score(body, ("results", 0, "score")) is None


def test_a_multipart_upload_is_one(tmp_path: Path) -> None:
    from fastapi import FastAPI, UploadFile
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.post("/p")
    def take(file: UploadFile) -> dict[str, int]:
        return dict(zip(("w", "h"), Image.open(io.BytesIO(file.file.read())).size, strict=True))

    head, _, body = build_upload("multipart", "file", "h", "/p", png(7)).partition(b"\r\n\r\n")
    kind = head.split(b"Content-Type: ")[1].split(b"\r\n")[0].decode()
    answer = TestClient(app).post("/p", content=body, headers={"Content-Type": kind})
    assert answer.json() == {"w": 60, "h": 40}
