"""The wheel, in a clean environment, with the source out of reach and no torch."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images import png
from tests.service import wait_until_ready
from twonines.benchmarks.throughput import free_port

ROOT = Path(__file__).parent.parent
LIMIT_MB = 600
BARE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, env=BARE)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = next(folder.glob("*.whl"))
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", str(wheel)],
        check=True,
        capture_output=True,
        env=BARE,
    )
    return python


def test_service_inspects_without_torch(clean: Path, tiny_model: Path, tmp_path: Path) -> None:
    torch = subprocess.run(
        [clean, "-c", "import torch"], capture_output=True, cwd=tmp_path, env=BARE
    )
    assert torch.returncode != 0
    port = free_port()
    service = subprocess.Popen(
        [clean, "-m", "twonines", "serve", "--model", str(tiny_model), "--port", str(port)],
        cwd=tmp_path,
        env=BARE,
    )
    try:
        wait_until_ready(str(port))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v1/inspect", png(250), {"Content-Type": "image/png"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["results"][0]["verdict"] == "NG"
    finally:
        service.terminate()
        service.wait(30)


def test_install_is_light(clean: Path) -> None:
    folder = clean.parent.parent / "lib"
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    assert size < LIMIT_MB, f"the base install takes {size:.0f} MB"
