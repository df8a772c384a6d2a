import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.datasets import archives
from tests.images import png
from twonines import __version__
from twonines.benchmarks import teaching
from twonines.cli.app import app
from twonines.errors import GateError
from twonines.serving.model_files import STATE_FILE


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twonines", *arguments], capture_output=True, text=True, check=False
    )


def test_version_and_help() -> None:
    assert run("--version").stdout.strip() == __version__
    assert "train" in run("--help").stdout


def test_help_cuts_no_name_in_a_narrow_terminal() -> None:
    commands = [[], ["serve"], ["certify"], ["score"], ["records", "export"], ["bench"]]
    for command in commands:
        told = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "80"}).output
        assert "…" not in told
        assert not [line for line in told.splitlines()[1:] if line.endswith("...")]
    told = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "80"}).output
    assert "--max-inflight-bytes" in told and "TWONINES_MAX_INFLIGHT_BYTES" in told


def test_a_place_that_cannot_be_written_is_named(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file" / "x")  # also root cannot write there
    for arguments in (
        ["export", str(tiny_model), "--triton", inside],
        ["score", str(tiny_model), str(tmp_path / "a.png"), "--out", f"{inside}/r.csv"],
        ["users", "add", "bob", "--role", "admin", "--data-dir", inside],
    ):
        done = run(*arguments)
        assert "Traceback" not in done.stderr and str(tmp_path / "file") in done.stderr, arguments
        assert done.stderr.startswith("error: ") and done.returncode == 2, arguments


def test_models_that_cannot_be_served_end_with_two(tiny_model: Path, tmp_path: Path) -> None:
    place = tmp_path / "tiny" / "1"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(tiny_model.read_bytes())
    folder = ["serve", "--no-records", "--model-dir", str(tmp_path)]
    done = run(*folder, "--default-model", "zz")
    assert done.returncode == 2 and "default_model: must be one of tiny" in done.stderr
    (tmp_path / STATE_FILE).write_text('{"a":')
    done = run(*folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr and STATE_FILE in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "nope", "--out", "x"], "nope"),
        (["train", "--dataset", "elpv", "--out", "x", "--input-size", "8"], "input_size"),
        (["train", "--dataset", "elpv", "--out", "x", "--input-size", "64x"], "64x"),
        (["train", "--dataset", "elpv", "--out", "x", "--task", "guess"], "anomaly"),
        (["train", "--dataset", "elpv", "--out", "x", "--overkill-aim", "2"], "overkill_aim"),
        (["serve", "--model", "missing.onnx"], "missing.onnx"),
        (["serve"], "TWONINES_MODEL"),
        (["serve", "--model", "x", "--max-batch-size", "0"], "max_batch_size"),
        (["serve", "--model", "x", "--model-dir", "y"], "got both"),
        (["serve", "--model-dir", "missing"], "missing"),
        (["serve", "--model", "x", "--watch-state", "missing"], "watch_state: must be a folder"),
        (["serve", "--model", "x", "--no-records", "--data-dir", "d"], "no_records: must stand"),
        (["tune", "missing.onnx", "--calibration", "nope"], "calibration: 'nope' must be"),
        (["serve", "--model-dir", "."], "model_dir: must hold <name>"),
        (["export", "missing.onnx", "--triton", "x"], "missing.onnx"),
        (["score", "missing.onnx", "x", "--out", "t.csv"], "missing.onnx"),
        (["datasets", "check", "folder", "--root", "missing"], "missing"),
        (["datasets", "show", "nope"], "nope"),
        (["datasets", "fetch", "gc10-det", "--root", "d"], "by hand"),
    ],
)
def test_bad_input_exits_with_two_and_names_it(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_an_error_is_told_before_what_takes_seconds_is_loaded() -> None:
    done = python("""
import sys
from twonines.cli.app import app
from twonines.errors import TwoninesError
try:
    app(["train", "--dataset", "nope", "--out", "x"], standalone_mode=False)
except TwoninesError as exc:
    assert "nope" in str(exc)
else:
    raise AssertionError("nothing was refused")
assert "torch" not in sys.modules
""")
    assert done.returncode == 0, done.stderr


def test_a_service_does_not_load_what_it_does_not_need() -> None:
    done = python("""
import sys
import twonines.serving.server
assert not {"scipy.stats", "torch"} & set(sys.modules)
""")
    assert done.returncode == 0, done.stderr


def test_without_torch_train_names_the_extra() -> None:
    done = python("""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
from twonines.cli import main
sys.argv = ["twonines", "train", "--dataset", "elpv", "--out", "x"]
main()
""")
    assert done.returncode == 2, done.stderr
    assert "pip install 'twonines[train]'" in done.stderr


def test_list_needs_no_data() -> None:
    done = run("datasets", "list")
    assert done.returncode == 0, done.stderr
    for name in ("elpv", "neu-det", "kolektor-sdd2", "visa", "severstal", "coco", "yolo"):
        assert name in done.stdout


def test_show_tells_licence_tasks_traps_and_results() -> None:
    done = run("datasets", "show", "kolektor-sdd")
    assert done.returncode == 0, done.stderr
    for word in ("CC BY-NC-SA", "segment", "kos26", "twonines datasets fetch", "Tabernik"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("name", "trap"),
    [
        ("voc", "1 pictures without an XML file were left out."),
        ("magnetic-tile", "There is no groups.csv: a split WILL leak between shots of one tile."),
        ("x-sdd", ""),
    ],
)
def test_train_says_first_what_the_reader_met(
    name: str, trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def teach(*_: Any, **__: Any) -> None:
        raise GateError("stopped here")

    monkeypatch.setattr(teaching, "teach_and_measure", teach)
    root = getattr(archives, name.replace("-", "_"))(tmp_path / "set")
    archives.picture(root / "JPEGImages/9.jpg", 9)
    (root / "groups.csv").unlink(missing_ok=True)
    done = CliRunner().invoke(
        app, ["train", "--dataset", name, "--root", str(root), "--out", str(tmp_path / "out")]
    )
    assert isinstance(done.exception, GateError)
    assert done.stderr == (f"{trap}\n" if trap else "") and done.stdout == ""


def test_an_overlay_that_cannot_be_written_is_named(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    place = str(tmp_path / "missing/over.png")
    done = run("show", str(tiny_model), str(tmp_path / "a.png"), "--out", place)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"out: {place} must be writable (No such file or directory)" in done.stderr


def test_a_long_path_in_an_error_stays_on_one_line() -> None:
    path = "/".join(["a-long-name"] * 20) + "/model.onnx"
    done = run("score", path, "x", "--out", "t.csv")
    assert done.returncode == 2
    assert path in done.stderr


def test_score_says_what_it_left_out_and_prints_no_empty_lines(
    tiny_model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "p"
    place.mkdir()
    (place / "a.png").write_bytes(png(0))
    (place / "notes.txt").write_text("x")
    done = run("score", str(tiny_model), str(place), "--out", str(tmp_path / "t.csv"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "pictures ...",
        "left out: 1 files that are no pictures by name",
        "not tuned for this machine: `twonines tune` may make it faster",
    ]
    arguments = ["score", str(tiny_model), str(place), "--out", str(tmp_path / "t.csv")]
    done = run(*arguments, "--max-bytes", "10")
    assert done.returncode == 1 and "1 ERROR" in done.stdout


def test_check_reads_a_set_from_the_folder_of_its_archive(tmp_path: Path) -> None:
    done = run("datasets", "check", "x-sdd", "--root", str(archives.x_sdd(tmp_path / "X-SDD")))
    assert done.returncode == 0, done.stderr
    assert "red iron" in done.stdout


def test_check_exits_with_one_where_a_set_is_unsound(tmp_path: Path) -> None:
    root = tmp_path / "set"
    archives.folder(root)
    written = tmp_path / "check.json"
    arguments = ["datasets", "check", "folder", "--root", str(root), "--json", str(written)]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "every picture can be read" in done.stdout
    assert not json.loads(written.read_text())["unreadable"]
    broken = archives.picture(root / "OK/a0.png", 5)
    broken.write_bytes(broken.read_bytes()[:-20])
    done = run(*arguments)
    assert done.returncode == 1, done.stderr
    assert "unreadable: 1" in done.stdout
    assert "damaged" in json.loads(written.read_text())["unreadable"][0]["why"]


def test_export_writes_a_repository_and_never_over_one(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "repository"
    wanted = ["export", str(tiny_model), "--triton", str(out), "--max-batch-size", "5"]
    done = run(*wanted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["model:", str(out / "tiny")]
    assert (out / "tiny" / "1" / "model.onnx").read_bytes() == tiny_model.read_bytes()
    assert "max_batch_size: 5" in (out / "tiny" / "config.pbtxt").read_text()
    again = run(*wanted)
    assert again.returncode == 2 and "must not hold the model yet" in again.stderr
