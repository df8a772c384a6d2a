"""The README's commands, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service import wait_until_ready
from twonines.benchmarks.throughput import free_port

README = Path(__file__).parent.parent / "README.md"


def commands() -> list[str]:
    """Lines of the shell blocks under "Use it", comments cut off."""
    section = README.read_text().split("## Use it")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("pip ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    counts = {
        "parts/good": 120,
        "bottle/train/good": 120,
        "bottle/test/good": 10,
        "bottle/test/scratch": 10,
        "parts/scratch": 20,
        "incoming": 20,
    }
    for name, count in counts.items():
        (tmp_path / name).mkdir(parents=True)
        for index in range(count):
            image = rng.normal(128, 10, (64, 64)).clip(0, 255).astype(np.uint8)
            if not name.endswith("good"):
                image[20:24, 10:50] = 255
            Image.fromarray(image).save(tmp_path / name / f"{index}.png")
    Image.fromarray(image).save(tmp_path / "part.jpg")
    return tmp_path


def test_the_readme_names_every_way_of_use() -> None:
    text = " ".join(commands())
    for word in ("train", "bench", "serve", "curl", "score", "datasets check", "show"):
        assert word in text


def test_every_command_of_the_readme_works(folder: Path, cache: Path) -> None:
    port = str(free_port())
    environment = {**os.environ, "TWONINES_PORT": port, "TWONINES_CACHE": str(cache)}
    service: subprocess.Popen[bytes] | None = None
    try:
        for line in commands():
            words = shlex.split(line.replace(":8000", f":{port}").replace("/NAME/", "/folder/"))
            if "bench" in words:
                words += ["--no-throughput", "--rounds", "1"]  # speed has its own tests
            if words[0] == "twonines":
                words = [sys.executable, "-m", *words]
            if "serve" in words:
                service = subprocess.Popen(words, cwd=folder, env=environment)
                wait_until_ready(port)
                continue
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            if words[0] == "curl":
                assert re.search(r'"verdict".*"(NG|REVIEW)"', done.stdout), done.stdout
    finally:
        if service:
            service.terminate()
            service.wait(30)
    for name in ("RUN/model.onnx", "REPORT/report.html", "results.csv", "overlay.png"):
        assert (folder / name).stat().st_size > 0
