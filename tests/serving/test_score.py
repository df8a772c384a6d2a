import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from tests.images import png
from twonines.errors import InputError, SettingsError
from twonines.serving.score import score_paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for index in range(70):
        (place / f"{index:03d}.png").write_bytes(png(250 if index % 3 else 0))
    (place / "broken.png").write_bytes(b"nonsense")
    (place / "notes.txt").write_text("not a picture")
    return place


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_one_row_for_every_file(
    tiny_model: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"table{suffix}"
    summary = score_paths(tiny_model, [str(folder)], out)
    assert (summary.total, summary.errors) == (71, 1)
    assert summary.counts == {"ERROR": 1, "NG": 46, "OK": 24}
    if suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = parquet.read_table(out).to_pylist()
    assert [Path(r["path"]).name for r in rows][-1] == "broken.png"
    assert rows[0]["verdict"] == "OK" and rows[1]["verdict"] == "NG"
    assert rows[-1]["verdict"] == "ERROR" and "must be one of" in rows[-1]["error"]
    assert not list(tmp_path.glob("*journal*"))


@pytest.mark.parametrize("kept", [0, 1, 2, 40, 71])
def test_resumes_after_any_line_even_a_torn_one(
    tiny_model: Path, folder: Path, tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "table.csv"
    score_paths(tiny_model, [str(folder)], whole)
    journal = tmp_path / "table.csv.journal.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("twonines.serving.score._write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(tiny_model, [str(folder)], out)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:kept]) + (lines[kept][:-9] if kept < len(lines) else ""))
    summary = score_paths(tiny_model, [str(folder)], out)
    assert summary.scored == 71 - max(0, kept - 1)
    assert out.read_bytes() == whole.read_bytes()


def test_killed_process_resumes_to_the_same_table(
    tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "table.csv"
    score_paths(tiny_model, [str(folder)], whole)
    code = (
        "import sys, time; from pathlib import Path; from twonines.serving import score as s\n"
        "inspect = s._inspect\n"
        "s._inspect = lambda *a: (time.sleep(0.3), inspect(*a))[1]\n"
        "s.score_paths(Path(sys.argv[1]), [sys.argv[2]], Path(sys.argv[3]), batch_size=8)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tiny_model), str(folder), str(out)])
    journal = tmp_path / "table.csv.journal.jsonl"
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if journal.exists() and len(journal.read_text().splitlines()) > 16:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    summary = score_paths(tiny_model, [str(folder)], out)
    assert 0 < summary.scored < 71
    assert out.read_bytes() == whole.read_bytes()


def test_journal_of_other_files_is_refused(tiny_model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    (tmp_path / "table.csv.journal.jsonl").write_text('{"model": "other"}\n')
    with pytest.raises(InputError, match="--fresh"):
        score_paths(tiny_model, [str(folder)], out)
    assert score_paths(tiny_model, [str(folder)], out, resume=False).total == 71


def test_bad_arguments_are_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must end in"):
        score_paths(tiny_model, ["x"], tmp_path / "t.xlsx")
    with pytest.raises(InputError, match="nothing-here"):
        score_paths(tiny_model, ["nothing-here"], tmp_path / "t.csv")
