import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.fake_server import FakeServer
from twonines.benchmarks import throughput
from twonines.benchmarks.throughput import ways
from twonines.errors import GateError
from twonines.models.session import InspectionSession


def test_load_generator_in_its_own_process(server: FakeServer, pictures: list[Path]) -> None:
    answer = ways.http_round(server.port, pictures, total=40, clients=8)
    assert answer["sent"] == 40 and answer["statuses"] == {"200": 40}
    assert 0 < answer["latency_s"]["p50"] <= answer["latency_s"]["p99"] <= answer["seconds"]


def test_a_refusal_is_no_rate(server: FakeServer, pictures: list[Path]) -> None:
    server.status = lambda number: 429
    with pytest.raises(GateError, match="429"):
        ways.http_round(server.port, pictures, total=4, clients=2)


def test_batch_sizes_from_metrics() -> None:
    text = (
        "# HELP twonines_batch_size x\n"
        'twonines_batch_size_bucket{le="1.0"} 2.0\n'
        "twonines_batch_size_count 4.0\ntwonines_batch_size_sum 18.0\n"
    )
    assert ways.parse_batch_sizes(text) == (18.0, 4.0)
    assert np.isnan(ways.parse_batch_sizes("nothing 1\n")).all()


@pytest.mark.parametrize(("rate", "unreliable"), [(105.0, False), (106.0, True), (20.0, False)])
def test_a_way_that_outruns_the_session_is_unreliable(rate: float, unreliable: bool) -> None:
    row = ways.rate_row(
        [rate, rate - 1, rate + 1], {"session": 100.0, "decode_resize_session": 90.0}
    )
    assert row["ratio_to_session"] == rate / 100
    assert row["unreliable"] is unreliable


def test_rounds_in_process(tiny_model: Path, pictures: list[Path]) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    images = np.zeros((40, 32, 32, 3), np.uint8)
    assert ways.session_seconds(session, images) > 0
    assert ways.decoded_seconds(session, [p.read_bytes() for p in pictures]) > 0


def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    with (
        pytest.raises(GateError, match="server: must answer"),
        throughput.served(tmp_path / "missing.onnx"),
    ):
        pass


def test_load_generator_reads_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twonines.benchmarks.throughput.load"],
        input="{}", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "KeyError" in done.stderr
