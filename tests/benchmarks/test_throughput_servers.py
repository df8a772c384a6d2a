"""The servers for real, where their packages are here or in the benchmark's own environments."""

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.service import is_suspended, wait_for
from twonines.benchmarks.throughput import environments
from twonines.benchmarks.throughput.environments import find_environment
from twonines.benchmarks.throughput.load import TOLERANCE, run_job
from twonines.benchmarks.throughput.running import (
    Watch,
    command_of,
    end_tree,
    free_port,
    measure_tree,
    post,
    resume,
    running,
    suspend,
)
from twonines.benchmarks.throughput.servers import SCRIPTS, SERVERS, Server
from twonines.benchmarks.throughput.variants import CompareOptions
from twonines.benchmarks.throughput.wire import build_upload, find_score
from twonines.errors import GateError
from twonines.models.image import decode, resize
from twonines.models.session import InspectionSession

HEAVY = ("ray", "pytriton")
"""Not started by tests: Ray takes half a minute, Triton does not run everywhere."""


@pytest.mark.parametrize("name", [name for name in SERVERS if name not in HEAVY])
def test_a_server_starts_gives_right_scores_and_ends(tmp_path: Path, name: str) -> None:
    server = SERVERS[name]
    install = bool(os.environ.get("TWONINES_INSTALL_PEERS"))  # .ci/run says so
    found = find_environment(server, CompareOptions().cache, install=install)
    if found.python is None:
        pytest.skip(f"{server.packages[0]}: {found.reason}")
    model = write_tiny_model(tmp_path / "tiny.onnx", tiny_card())
    session = InspectionSession.load(model, execution_provider="cpu")
    paths = [tmp_path / "dark.png", tmp_path / "bright.jpg"]
    paths[0].write_bytes(png(30, (50, 90)))
    paths[1].write_bytes(png(220, (64, 32), "JPEG"))
    images = np.stack([resize(decode(p.read_bytes()), session.input_size) for p in paths])
    expected = [float(score) for score in session.run(images).score]
    assert abs(expected[0] - expected[1]) > 10 * TOLERANCE
    port = free_port()
    words, environment = command_of(
        server, found.python, model, session.input_size, "cpu", port
    )  # fmt: skip
    first = build_upload(server.form, server.field, f"127.0.0.1:{port}", server.path,
                         paths[0].read_bytes())  # fmt: skip

    def probe() -> bool:
        answer = post(port, first)
        return answer is not None and find_score(answer[1], server.place) is not None

    with running(words, environment, probe) as process:
        job = {
            "host": "127.0.0.1", "port": port, "path": server.path, "form": server.form,
            "field": server.field, "place": list(server.place), "expected": expected,
            "pictures": [str(path) for path in paths], "clients": 8, "total": 24,
        }  # fmt: skip
        answer = run_job(job)
        family = [process, *process.children(recursive=True)]
    assert (answer["answered"], answer["wrong"], answer["errors"]) == (24, 0, 0), answer
    assert not any(one.is_running() and one.status() != "zombie" for one in family)


def test_peers_prepare_the_same_pixels() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    files = []
    for mode in ("RGB", "L"):
        for image_format in ("PNG", "JPEG"):
            out = io.BytesIO()
            Image.fromarray(noise).convert(mode).save(out, image_format)
            files.append(out.getvalue())
    code = (
        "import sys, numpy as np\n"
        "from peer_model import prepare\n"
        "data = sys.stdin.buffer.read()\n"
        f"sizes = {[len(data) for data in files]}\n"
        "for size in sizes:\n"
        "    sys.stdout.buffer.write(prepare(data[:size]).tobytes()); data = data[size:]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"".join(files), capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "PEER_SIZE": "48x40"},
    )  # fmt: skip
    assert done.stdout == b"".join(resize(decode(data), (48, 40)).tobytes() for data in files)


def test_every_peer_has_its_script() -> None:
    for server in SERVERS.values():
        assert server.script is None or server.script.is_file()
        assert bool(server.module) == bool(server.packages)


def fake_server(module: str, package: str) -> Server:
    return Server("none", "None", "", "", module=module, packages=(package,))


def test_a_missing_package_is_said(tmp_path: Path) -> None:
    found = find_environment(fake_server("no_such", "no-such>=1"), tmp_path, install=False)
    assert found.python is None and found.reason.startswith("no-such>=1 is not installed")
    assert not list(tmp_path.iterdir())


def test_what_pip_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def refuse(python: Path, folder: Path, wanted: list[str]) -> str:
        calls.append(wanted)
        return "ERROR: No matching distribution"

    monkeypatch.setattr(environments, "_install", refuse)
    told: list[str] = []
    found = find_environment(
        fake_server("no_such", "no-such>=1"), tmp_path, install=True, tell=told.append
    )
    assert found.python is None
    assert found.reason == "pip cannot install no-such>=1: ERROR: No matching distribution"
    assert "None" in told[0] and str(tmp_path) in told[0]
    # First with the versions of this environment, then with those that pip finds.
    assert any("==" in word for word in calls[0])
    assert not any("==" in word for word in calls[1])


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def install(python: Path, folder: Path, wanted: list[str]) -> str:
        folder.mkdir()
        made.append(folder)
        return ""

    monkeypatch.setattr(environments, "_install", install)
    monkeypatch.setattr(environments, "_versions", lambda python: {"no-such": "1.2"})
    server = fake_server("no_such", "no-such>=1")
    for may_install in (True, True, False):
        found = find_environment(server, tmp_path, install=may_install)
        assert found.versions == {"no-such": "1.2"}
        assert found.python is not None and found.python.is_relative_to(tmp_path / "none")
    assert made == [tmp_path / "none"]
    newer = fake_server("no_such", "no-such>=2")
    assert find_environment(newer, tmp_path, install=False).python is None


def test_an_index_that_never_answers_ends_the_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(words: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(words, timeout)

    monkeypatch.setattr(subprocess, "run", silent)
    python = tmp_path / "python"
    python.touch()
    assert environments._install(python, tmp_path, ["mosec"]) == "not done after 300 s"


def test_a_package_that_is_here_needs_no_environment(tmp_path: Path) -> None:
    found = find_environment(fake_server("numpy", "numpy>=1"), tmp_path, install=False)
    assert found.python == Path(sys.executable)
    assert found.versions["numpy"] == np.__version__


def test_packages_of_this_environment_stay_out_of_a_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/here")
    size = (8, 9)
    _, own = command_of(SERVERS["plain"], Path(sys.executable), Path("m"), size, "cpu", 1)
    _, other = command_of(SERVERS["mosec"], Path("/v/bin/python"), Path("m"), size, "cpu", 1)
    assert own["PYTHONPATH"] == f"{SCRIPTS}{os.pathsep}/here"
    assert other["PYTHONPATH"] == str(SCRIPTS)
    assert other["PEER_SIZE"] == "8x9" and other["PATH"].startswith("/v/bin")


SPAWN = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
    "time.sleep(60)\n"
)


def test_a_tree_is_measured_and_ended_whole() -> None:
    busy = "b = bytearray(80 * 2**20)\nb[:] = bytes(1) * len(b)\nwhile True: pass"
    root = psutil.Popen([sys.executable, "-c", SPAWN, busy], process_group=0)
    try:
        limit = time.monotonic() + 60
        while measure_tree(root).memory_bytes < 80 * 2**20 and time.monotonic() < limit:
            time.sleep(0.05)
        with Watch(root) as watch:
            time.sleep(0.6)
        assert watch.cpu_seconds > 0
        assert watch.peak_bytes > 80 * 2**20 > root.memory_info().rss
        children = root.children(recursive=True)
        assert len(children) == 1
        suspend(root)
        for process in (root, *children):
            wait_for(partial(is_suspended, process))
        at_rest = measure_tree(root).cpu_seconds
        time.sleep(0.3)
        assert measure_tree(root).cpu_seconds == at_rest
        resume(root)
        time.sleep(0.3)
        assert measure_tree(root).cpu_seconds > at_rest
        suspend(root)
    finally:
        end_tree(root)
    assert root.returncode == -signal.SIGTERM  # in its own way, though it was suspended
    assert not root.is_running() and not children[0].is_running()


def test_a_server_that_ends_is_told_with_its_last_words() -> None:
    words = [sys.executable, "-c", "print('no model here'); raise SystemExit(3)"]
    with (
        pytest.raises(GateError, match="got exit code 3: no model here"),
        running(words, dict(os.environ), lambda: False),
    ):
        pass
