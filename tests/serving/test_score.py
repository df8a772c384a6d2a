import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from tests.images import png
from twonines.errors import InputError, SettingsError, TooLargeError
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.serving.files import find_pictures, read_bounded
from twonines.serving.score import score_paths
from twonines.serving.tables import write_table
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
        patch.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
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
        "run = s.Inspector.run\n"
        "s.Inspector.run = lambda *a: (time.sleep(0.3), run(*a))[1]\n"
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
        patch.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
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
        patch.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(tiny_model, [str(folder)], out, batch_size=10)
    journal = tmp_path / "t.csv.journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:26]))
    sizes: list[int] = []
    run = InspectionSession.run

    def counted(self: InspectionSession, images: Image, *rest: Any, **how: Any) -> Outputs:
        sizes.append(len(images))
        return run(self, images, *rest, **how)

    monkeypatch.setattr(InspectionSession, "run", counted)
    summary = score_paths(tiny_model, [str(folder)], out, execution_provider="cpu", batch_size=32)
    assert summary.scored == 51
    assert sizes == [10] * 5


def test_a_picture_that_fails_the_session_costs_only_its_own_row(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "000.png").write_bytes(png(13))
    run = InspectionSession.run

    def poisoned(self: InspectionSession, images: Image, *rest: Any, **how: Any) -> Outputs:
        if (images[:, 0, 0, 0] == 13).any():
            raise RuntimeError("poison")
        return run(self, images, *rest, **how)

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


def interrupted(model: Path, place: Path, out: Path, patch: pytest.MonkeyPatch) -> Path:
    """Score, but die before the table is written; gives the journal."""
    with patch.context() as inner:
        inner.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(model, [str(place)], out)
    return out.with_name(out.name + ".journal.jsonl")


def read_csv(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(out.read_text().splitlines()))


@pytest.mark.parametrize("same", ["size", "time"])
def test_a_replaced_picture_never_gets_the_old_verdict(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: str
) -> None:
    place, out = tmp_path / "p", tmp_path / "t.csv"
    place.mkdir()
    picture = place / "a.bmp"
    picture.write_bytes(png(0, image_format="BMP"))
    was = picture.stat()
    interrupted(tiny_model, place, out, monkeypatch)
    if same == "size":
        picture.write_bytes(png(250, image_format="BMP"))
        assert picture.stat().st_size == was.st_size
        os.utime(picture, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    else:
        picture.write_bytes(png(250, size=(41, 60), image_format="BMP"))
        os.utime(picture, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(InputError, match="other files .*--fresh"):
        score_paths(tiny_model, [str(place)], out)
    assert score_paths(tiny_model, [str(place)], out, resume=False).counts == {"NG": 1}


@pytest.mark.parametrize(
    "damage",
    ["more", "list", "key", "path", "verdict", "score", "regions", "class", "deep", "bytes"],
)
def test_a_damaged_row_is_refused(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    out = tmp_path / "t.parquet"
    journal = interrupted(tiny_model, folder, out, monkeypatch)
    head, *rows = journal.read_text().splitlines()
    row = json.loads(rows[5])
    bad: dict[str, str] = {
        "list": "[1]",
        "key": json.dumps({k: v for k, v in row.items() if k != "error"}),
        "path": json.dumps({**row, "path": "other.png"}),
        "verdict": json.dumps({**row, "verdict": "FINE"}),
        "score": json.dumps({**row, "score": "high"}),
        "regions": json.dumps({**row, "regions": None}),
        "class": json.dumps({**row, "class": 3}),
        "deep": "[" * 100_000,
    }
    if damage == "more":
        rows.append(rows[-1])
    else:
        rows[5] = bad.get(damage, rows[5])
    journal.write_text("\n".join([head, *rows]) + "\n")
    if damage == "bytes":
        data = journal.read_bytes()
        journal.write_bytes(data.replace(b'"OK"', b'"\xff\xfe"', 1))
    with pytest.raises(InputError, match="--fresh"):
        score_paths(tiny_model, [str(folder)], out)
    assert score_paths(tiny_model, [str(folder)], out, resume=False).total == 71


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "32", None, [1]])
def test_a_batch_size_that_no_run_writes_is_refused(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: object
) -> None:
    out = tmp_path / "t.csv"
    journal = interrupted(tiny_model, folder, out, monkeypatch)
    head, *rows = journal.read_text().splitlines()
    header = {**json.loads(head), "batch_size": size}
    journal.write_text("\n".join([json.dumps(header), *rows]) + "\n")
    with pytest.raises(InputError, match="batch_size.*--fresh"):
        score_paths(tiny_model, [str(folder)], out)


def test_a_journal_that_cannot_be_read_is_named(
    tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv.journal.jsonl").mkdir()
    with pytest.raises(InputError, match="readable journal"):
        score_paths(tiny_model, [str(folder)], tmp_path / "t.csv")
    with pytest.raises(SettingsError, match="must be writable"):
        score_paths(tiny_model, [str(folder)], tmp_path / "t.csv", resume=False)
    (tmp_path / "u.csv").mkdir()
    with pytest.raises(SettingsError, match="must be a file"):
        score_paths(tiny_model, [str(folder)], tmp_path / "u.csv")


def test_what_only_has_a_pictures_name_gets_an_error_row(tiny_model: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "p", tmp_path / "t.csv"
    place.mkdir()
    (place / "a.png").write_bytes(png(0))
    (place / "b.png").symlink_to(place / "nowhere.png")
    os.mkfifo(place / "c.png")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(place / "d.png"))
        summary = score_paths(tiny_model, [str(place)], out)
    assert summary.counts == {"ERROR": 3, "OK": 1}
    rows = read_csv(out)
    assert "cannot be read" in rows[1]["error"]
    assert all("must be a regular file" in row["error"] for row in rows[2:])
    for name in ("b.png", "c.png"):  # named one by one, and by a glob
        assert find_pictures([str(place / name)]).paths == (place / name,)
    assert len(find_pictures([str(place / "*.png")]).paths) == 4
    odd = place / "[e].png"  # as a glob it would name something else
    odd.symlink_to(place / "nowhere.png")
    assert find_pictures([str(odd)]).paths == (odd,)


def test_more_suffixes_and_a_count_of_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "in/linked").symlink_to(tmp_path / "away")
    for name in ("a.jfif", "b.JPE", "c.txt", "d.raw", "e"):
        (tmp_path / "in" / name).write_bytes(b"")
    found = find_pictures([str(tmp_path / "in")])
    assert [path.name for path in found.paths] == ["a.jfif", "b.JPE"]
    assert (found.left_out, found.linked) == (3, 1)
    # a file that is also named is not left out
    assert find_pictures([str(tmp_path / "in"), str(tmp_path / "in/c.txt")]).left_out == 2


def test_one_file_by_two_names_is_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "p" / name).write_bytes(png(0))
    (tmp_path / "p/link.png").symlink_to(tmp_path / "p/a.png")
    inputs = ["p/a.png", str(tmp_path / "p"), "p/../p/b.png", "./p/*.png"]
    paths = find_pictures(inputs).paths
    assert set(paths) == {Path("p/a.png"), tmp_path / "p/b.png", tmp_path / "p/link.png"}


def test_a_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(InputError, match=f"{tmp_path} must be a folder that can be listed"):
        find_pictures([str(tmp_path)])


def test_a_huge_file_is_not_read(tiny_model: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "p", tmp_path / "t.csv"
    place.mkdir()
    (place / "a.png").write_bytes(png(0))
    with (place / "b.png").open("wb") as file:
        file.truncate(12 << 30)  # a hole: takes no space
    assert score_paths(tiny_model, [str(place)], out).counts == {"ERROR": 1, "OK": 1}
    error = read_csv(out)[1]["error"]
    assert str(256 << 20) in error and str(12 << 30) in error
    size = (place / "a.png").stat().st_size
    (place / "b.png").unlink()
    for limit, verdict in ((size, "OK"), (size - 1, "ERROR")):
        assert score_paths(tiny_model, [str(place)], out, max_bytes=limit).counts == {verdict: 1}
    with pytest.raises(SettingsError, match="max_bytes"):
        score_paths(tiny_model, [str(place)], out, max_bytes=0)


def no_memory(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_picture_without_memory_costs_only_its_own_row(
    tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("twonines.models.inspector.resize", no_memory)
        summary = score_paths(tiny_model, [str(folder / "000.png")], tmp_path / "t.jsonl")
    assert summary.counts == {"ERROR": 1}
    monkeypatch.setattr(Path, "open", no_memory)
    with pytest.raises(TooLargeError, match="fit into memory"):
        read_bounded(folder / "000.png", 1 << 20)


def test_text_in_csv_is_no_formula_and_scores_stay(tmp_path: Path) -> None:
    row = {"path": "=cmd()", "verdict": "OK", "score": -0.5, "class": "@x", "error": "plain"}
    rows = [row, {**row, "path": "-a", "class": "+b"}, {**row, "path": "\tc", "class": "\rd"}]
    write_table(rows, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [r["path"] for r in found] == ["'=cmd()", "'-a", "'\tc"]
    assert [r["class"] for r in found] == ["'@x", "'+b", "'\rd"]
    assert {(r["score"], r["verdict"], r["error"]) for r in found} == {("-0.5", "OK", "plain")}
    write_table(rows, tmp_path / "t.jsonl")
    assert json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0]) == row
