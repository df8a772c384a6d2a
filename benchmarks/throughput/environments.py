"""A virtual environment for each peer, where its package is not installed here."""

import importlib.util
import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from twonines.benchmarks.throughput.servers import Server
from twonines.models.tuning import installed_versions

MODEL_NEEDS = ("numpy", "pillow", "simplejpeg", "onnxruntime", "onnxruntime-ep-openvino")
"""What a peer runs the model with; the versions are those installed here."""
_REASON_LETTERS = 400
INSTALL_SECONDS = 300
"""Longer than any peer takes on a slow line; an index that never answers must end too."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a server runs; without ``python`` it cannot, and ``reason`` says why."""

    python: Path | None
    reason: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def find_environment(
    server: Server, cache: Path, *, install: bool, tell: Callable[[str], None] = lambda _: None
) -> Environment:
    """This environment where it has the server's package, else the server's own.

    Args:
        server: which one.
        cache: folder above the virtual environments.
        install: make the environment where it is missing; without it nothing is downloaded.
        tell: told of what takes long.
    """
    here = Path(sys.executable)
    if not server.module or importlib.util.find_spec(server.module) is not None:
        return Environment(here, versions=installed_versions(_names(server)))
    folder = cache / server.name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    mark = folder / "installed.json"
    wanted = [*_pins(), *server.packages]
    try:
        kept = json.loads(mark.read_text())
        if kept["wanted"] == wanted:
            return Environment(python, versions=kept["versions"])
    except (OSError, ValueError, KeyError):
        pass
    if not install:
        return Environment(None, f"{server.packages[0]} is not installed; --peers installs it")
    tell(f"installing {server.title} into {folder}")
    reason = _install(python, folder, wanted)
    if reason:
        # Versions that the peer cannot live with: it gets those that pip finds.
        wanted_anyhow = [*(name.split("==")[0] for name in _pins()), *server.packages]
        reason = _install(python, folder, wanted_anyhow)
    if reason:
        return Environment(None, f"pip cannot install {' '.join(server.packages)}: {reason}")
    versions = _versions(python)
    mark.write_text(json.dumps({"wanted": wanted, "versions": versions}, indent=1))
    return Environment(python, versions=versions)


def _pins() -> list[str]:
    return [f"{name}=={version}" for name, version in installed_versions(MODEL_NEEDS).items()]


def _names(server: Server) -> tuple[str, ...]:
    """Packages whose versions a report should name."""
    own = [package.split(">")[0].split("[")[0] for package in server.packages]
    return (*own, "fastapi", "uvicorn", *MODEL_NEEDS)


def _install(python: Path, folder: Path, wanted: list[str]) -> str:
    """Install; empty where it went well, else pip's last words."""
    if not python.exists():
        venv.create(folder, with_pip=True)
    try:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
            capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done after {INSTALL_SECONDS} s"
    if not done.returncode:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return " ".join(errors or done.stderr.splitlines()[-3:])[:_REASON_LETTERS] or "no reason given"


def _versions(python: Path) -> dict[str, str]:
    done = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}
