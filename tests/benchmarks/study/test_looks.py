from pathlib import Path

import pytest

from twonines.benchmarks.study.importing import import_csv
from twonines.benchmarks.study.looks import COLUMNS, Journal, Look, read_csv, read_looks
from twonines.benchmarks.study.plan import read_plan
from twonines.errors import InputError, SettingsError

HEAD = "inspector,picture,answer,seconds\n"


def look(picture: str = "p01", repeat: int = 1, **changes: object) -> Look:
    values: dict[str, object] = {"inspector": "Ann", "picture": picture, "repeat": repeat,
                                 "answer": "OK", "seconds": 1.5}  # fmt: skip
    return Look(**{**values, **changes})  # type: ignore[arg-type]


def test_round_trip(study: Path) -> None:
    plan = read_plan(study)
    journal = Journal(study, plan)
    made = [
        look(server_seconds=2.0, x=1.5, y=2.25, time="2026-01-01T00:00:00.000+00:00"),
        look("p02", 2, answer="NG", remark="interrupted", inspector='Lee, "Al"'),
    ]
    journal.append(made)
    journal.close()
    back = read_looks(study, plan)
    assert [b.key for b in back] == [m.key for m in made]
    assert back[0].x == 1.5 and back[1].inspector == 'Lee, "Al"' and not back[1].timed
    assert {b.plan for b in back} == {plan.digest}
    assert (study / "looks.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_torn_last_line_is_cut_off(study: Path) -> None:
    plan = read_plan(study)
    journal = Journal(study, plan)
    journal.append([look(), look("p02")])
    journal.close()
    path = study / "looks.csv"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(read_looks(study, plan)) == 1
    journal = Journal(study, plan)
    journal.append([look("p03")])
    journal.close()
    assert [x.picture for x in read_looks(study, plan)] == ["p01", "p03"]


def test_one_process_at_a_time(study: Path) -> None:
    plan = read_plan(study)
    journal = Journal(study, plan)
    with pytest.raises(SettingsError, match="in use"):
        Journal(study, plan)
    journal.close()
    Journal(study, plan).close()


def test_answers_are_of_this_plan(study: Path) -> None:
    plan = read_plan(study)
    journal = Journal(study, plan)
    journal.append([look(plan=plan.digest)])
    journal.close()
    path = study / "plan.json"
    path.write_text(path.read_text().replace('"margin": 0.02', '"margin": 0.2'))
    with pytest.raises(InputError, match="line 2: plan: must be .*, this plan's digest"):
        read_looks(study, read_plan(study))


def test_import_counts_repeats_and_takes_paths(study: Path, tmp_path: Path) -> None:
    plan = read_plan(study)
    path = tmp_path / "in.csv"
    where = plan.pictures[1].path
    path.write_text(HEAD + f"Ann,p01,OK,1.5\nann,{where},ng,2\nAnn,p01,NG,3\nBo,p01,OK,1\n",
                    encoding="utf-8-sig")  # fmt: skip
    assert import_csv(path, study) == 4
    found = read_looks(study, plan)
    assert [(x.picture, x.repeat, x.answer) for x in found[:3]] == [
        ("p01", 1, "OK"), (plan.pictures[1].id, 1, "NG"), ("p01", 2, "NG")
    ]  # fmt: skip
    with pytest.raises(InputError, match="line 2: repeat: must lie in 1 to 2, got 3"):
        import_csv(path, study)
    assert len(read_looks(study, plan)) == 4


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("Ann,p01,maybe,1\n", "line 2: answer: must be OK or NG, got 'maybe'"),
        ("Ann,p01,OK,1\nAnn,p99,OK,1\n", "line 3: picture: must be an id or a path"),
        ("Ann,p01,OK,fast\n", "line 2: seconds: must be a finite number, got 'fast'"),
        ("Ann,p01,OK,nan\n", "line 2: seconds: must be a finite number"),
        ("Ann,p01,OK,0\n", "line 2: seconds: must be above 0"),
        ("Ann,p01,OK,\n", "line 2: seconds: must be above 0 and less than a day, got ''"),
        (",p01,OK,1\n", "line 2: inspector: must be a name"),
        ("Ann,p01,OK,1,9\n", "line 2: must have at most 4 columns"),
        ("Ann,p01\n", "line 2: answer"),
        ('Ann,"p01,OK,1\n', "line 2: unexpected end of data"),
    ],
)
def test_faults_are_named_by_line(study: Path, rows: str, fault: str) -> None:
    with pytest.raises(InputError, match="faults") as caught:
        read_csv((HEAD + rows).encode(), read_plan(study), "in.csv")
    assert fault in str(caught.value)


def test_the_same_look_twice(study: Path) -> None:
    text = "inspector,picture,repeat,answer,seconds\nAnn,p01,1,OK,1\nANN,p01,1,NG,2\n"
    with pytest.raises(InputError, match="line 3: ANN has looked at p01 for repeat 1 in line 2"):
        read_csv(text.encode(), read_plan(study), "in.csv")
    with pytest.raises(InputError, match="in the answers before"):
        read_csv(text[:-15].encode(), read_plan(study), "in.csv", [look()])


def test_many_faults_are_counted(study: Path) -> None:
    with pytest.raises(InputError, match="and 5 more"):
        read_csv((HEAD + "Ann,p01,X,1\n" * 15).encode(), read_plan(study), "in.csv")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"who,picture,answer,seconds\n", "missing inspector, unknown who"),
        (b"", "line 1 must name the columns"),
        ("Jürgen".encode("latin-1"), "UTF-8"),
    ],
)
def test_bad_files(study: Path, data: bytes, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read_csv(data, read_plan(study), "in.csv")


def test_a_fault_imports_nothing(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(HEAD + "Ann,p01,OK,1\nAnn,p02,X,1\n")
    with pytest.raises(InputError):
        import_csv(path, study)
    assert read_looks(study, read_plan(study)) == []
    with pytest.raises(InputError, match="must be a readable file"):
        import_csv(tmp_path / "none.csv", study)
