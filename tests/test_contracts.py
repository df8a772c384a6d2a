"""Rules of the house that no linter holds."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import twonines

ROOT = Path(__file__).parent.parent
FOLDERS = ("models", "training", "serving", "datasets", "benchmarks")


def test_exported_members() -> None:
    assert twonines.__all__ == ["__version__"]
    for folder in FOLDERS:
        package = importlib.import_module(f"twonines.{folder}")
        text = Path(str(package.__file__)).read_text()
        assert text.strip().startswith('"""') and text.strip().endswith('"""')


def test_changelog_names_the_version() -> None:
    assert f"## {twonines.__version__} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("folder", [*FOLDERS, "src/twonines", "tests"])
def test_no_module_over_400_lines(folder: str) -> None:
    for path in (ROOT / folder).glob("**/*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_serving_imports_no_torch() -> None:
    code = "import sys, twonines.serving.app, twonines.serving.score; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"
