import json
from pathlib import Path

import pytest

from tests.images import png
from twonines.errors import InputError
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession
from twonines.serving.console.comparing import judge, read_cases
from twonines.types import Verdict


def write_run(folder: Path, pictures: dict[str, tuple[bytes, str]]) -> Path:
    for name, (data, _) in pictures.items():
        (folder / name).write_bytes(data)
    listed = [{"path": name, "class": kind} for name, (_, kind) in pictures.items()]
    path = folder / "metrics.json"
    path.write_text(json.dumps({"split": {"test": listed}}))
    return path


def test_verdicts_are_counted_by_what_the_part_is(tiny_model: Path, tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        {
            "a.png": (png(0), "good"), "b.png": (png(250), "good"),
            "c.png": (png(250), "scratch"), "d.png": (png(0), "scratch"),
            "e.png": (png(5), "scratch"), "f.png": (b"no picture", "scratch"),
        },
    )  # fmt: skip
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    found = judge(Inspector(session), read_cases(run, tmp_path), 10_000)
    assert (found.n_good, found.n_defective) == (2, 4)
    assert found.good == {Verdict.OK: 1, Verdict.NG: 1}
    assert found.defective == {Verdict.NG: 1, Verdict.OK: 2, Verdict.ERROR: 1}
    assert [path.name for path in found.escaped] == ["d.png", "e.png"]


def test_a_run_without_its_test_pictures_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"a.png": (png(0), "good")})
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match="1 are gone: a.png"):
        read_cases(run, tmp_path)
    run.write_text('{"split": {}}')
    with pytest.raises(InputError, match="must name its test pictures"):
        read_cases(run, tmp_path)
