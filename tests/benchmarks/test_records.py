"""The shows of the records, small."""

import json
from pathlib import Path

import pytest

from twonines.benchmarks.postgres import find_programs
from twonines.benchmarks.records import main
from twonines.errors import SettingsError


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = main(words)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_acknowledged_is_lost_in_a_kill(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], database: str
) -> None:
    if database == "postgresql":
        try:
            find_programs()
        except SettingsError as exc:
            pytest.skip(str(exc))
    code, found = run(
        capsys, "kill", "--model", str(tiny_model), "--times", "2", "--database", database
    )
    assert found["faults"] == [] and code == 0
    assert found["acknowledged"] and found["pictures"] and found["unrecorded"] == 0


def test_search(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = run(capsys, "search", "--count", "3000", "--repeats", "3")
    assert found["records"] == 3000
    asked = found["asked"]
    assert isinstance(asked, dict) and {"part", "time and verdict", "live page"} <= asked.keys()
