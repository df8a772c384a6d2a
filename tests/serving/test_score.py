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
from twonines.models.session import InspectionSession, Outputs
from twonines.serving.score import score_paths
from twonines.types import Image


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
    rows = max(0, kept - 1)
    assert summary.scored == 71 - rows // 32 * 32  # whole batches are kept
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
    journal = tmp_path / "table.csv.journal.jsonl"
    header = {"model": "other", "files": "", "count": 1, "batch_size": 32}
    for text in ("not json\n", "[]\n", '{"a": 1}\n', json.dumps(header) + "\n"):
        journal.write_text(text)
        with pytest.raises(InputError, match="--fresh"):
            score_paths(tiny_model, [str(folder)], out)
    assert score_paths(tiny_model, [str(folder)], out, resume=False).total == 71


def test_bad_arguments_are_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must end in"):
        score_paths(tiny_model, ["x"], tmp_path / "t.xlsx")
    with pytest.raises(InputError, match="nothing-here"):
        score_paths(tiny_model, ["nothing-here"], tmp_path / "t.csv")
    (tmp_path / "a.png").write_bytes(png(0))
    with pytest.raises(SettingsError, match="must be a folder"):
        score_paths(tiny_model, [str(tmp_path)], tmp_path / "a.png" / "t.csv")
    with pytest.raises(SettingsError, match="batch_size"):
        score_paths(tiny_model, [str(tmp_path)], tmp_path / "t.csv", batch_size=0)


def test_names_with_odd_line_ends_resume(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, out = tmp_path / "p", tmp_path / "t.jsonl"
    place.mkdir()
    for name in ("a\u2028b.png", "a\x85b.png", "a\nb.png", "c.png"):
        (place / name).write_bytes(png(0))
    with monkeypatch.context() as patch:
        patch.setattr("twonines.serving.score._write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(tiny_model, [str(place)], out)
    summary = score_paths(tiny_model, [str(place)], out)
    assert (summary.scored, summary.counts) == (0, {"OK": 4})
    assert len(out.read_text().rstrip("\n").split("\n")) == 4


def test_resume_keeps_the_batches_of_the_first_run(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "t.csv"
    with monkeypatch.context() as patch:
        patch.setattr("twonines.serving.score._write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(tiny_model, [str(folder)], out, batch_size=10)
    journal = tmp_path / "t.csv.journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:26]))
    sizes: list[int] = []
    run = InspectionSession.run

    def counted(self: InspectionSession, images: Image) -> Outputs:
        sizes.append(len(images))
        return run(self, images)

    monkeypatch.setattr(InspectionSession, "run", counted)
    summary = score_paths(tiny_model, [str(folder)], out, execution_provider="cpu", batch_size=32)
    assert summary.scored == 51
    assert sizes == [10] * 5


def test_a_picture_that_fails_the_session_costs_only_its_own_row(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "000.png").write_bytes(png(13))
    run = InspectionSession.run

    def poisoned(self: InspectionSession, images: Image) -> Outputs:
        if (images[:, 0, 0, 0] == 13).any():
            raise RuntimeError("poison")
        return run(self, images)

    monkeypatch.setattr(InspectionSession, "run", poisoned)
    out = tmp_path / "t.csv"
    summary = score_paths(tiny_model, [str(folder)], out, execution_provider="cpu")
    assert summary.counts == {"ERROR": 2, "NG": 46, "OK": 23}
    assert "could not be inspected" in out.read_text().splitlines()[1]


def test_parquet_columns_have_types_even_when_empty(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    score_paths(tiny_model, [str(tmp_path / "bad.png")], tmp_path / "t.parquet")
    schema = parquet.read_schema(tmp_path / "t.parquet")
    assert str(schema.field("score").type) == "double"
