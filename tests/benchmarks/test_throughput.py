import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.images import png
from twonines.benchmarks import throughput
from twonines.benchmarks.load import build_request, run_job
from twonines.errors import GateError
from twonines.models.session import InspectionSession

_STATUS = {"next": 200}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"bytes": len(body)}).encode()
        self.send_response(_STATUS["next"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def port() -> Iterator[int]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for index, path in enumerate(paths):
        path.write_bytes(png(index * 100))
    return paths


def test_load_generator_in_its_own_process(port: int, pictures: list[Path]) -> None:
    answer = throughput.http_round(port, pictures, total=40, clients=8)
    assert answer["requests"] == 40 and answer["statuses"] == {"200": 40}
    assert 0 < answer["latency_s"]["p50"] <= answer["latency_s"]["p99"] <= answer["seconds"]


def test_a_refusal_is_no_rate(
    port: int, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_STATUS, "next", 429)
    with pytest.raises(GateError, match="429"):
        throughput.http_round(port, pictures, total=4, clients=2)


def test_a_dead_service_is_counted_not_raised(pictures: list[Path]) -> None:
    job = {
        "host": "127.0.0.1", "port": throughput.free_port(), "path": "/",
        "pictures": [str(pictures[0])], "total": 3, "clients": 2,
    }  # fmt: skip
    assert run_job(job)["statuses"] == {"ConnectionRefusedError": 3}


def test_request_is_complete() -> None:
    request = build_request("h", "/p", b"\x00\r\n\xff")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: h\r\n")
    assert b"Content-Length: 4" in head
    assert body == b"\x00\r\n\xff"


def test_batch_sizes_from_metrics() -> None:
    text = (
        "# HELP twonines_batch_size x\n"
        'twonines_batch_size_bucket{le="1.0"} 2.0\n'
        "twonines_batch_size_count 4.0\ntwonines_batch_size_sum 18.0\n"
    )
    assert throughput.parse_batch_sizes(text) == (18.0, 4.0)
    assert np.isnan(throughput.parse_batch_sizes("nothing 1\n")).all()


@pytest.mark.parametrize(("rate", "unreliable"), [(105.0, False), (106.0, True), (20.0, False)])
def test_a_way_that_outruns_the_session_is_unreliable(rate: float, unreliable: bool) -> None:
    row = throughput._row(
        [rate, rate - 1, rate + 1], {"session": 100.0, "decode_resize_session": 90.0}
    )
    assert row["ratio_to_session"] == rate / 100
    assert row["unreliable"] is unreliable


def test_rounds_in_process(tiny_model: Path, pictures: list[Path]) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    images = np.zeros((40, 32, 32, 3), np.uint8)
    assert throughput.session_seconds(session, images) > 0
    assert throughput.decoded_seconds(session, [p.read_bytes() for p in pictures]) > 0


def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(GateError, match="service: must be ready"),
        throughput.served(tmp_path / "missing.onnx"),
    ):
        pass


def test_load_generator_reads_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twonines.benchmarks.load"], input="{}", capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "KeyError" in done.stderr
