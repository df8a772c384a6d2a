import json
from pathlib import Path

import pytest

from tests.benchmarks.study.conftest import small_plan
from twonines.benchmarks.study.plan import (
    Plan,
    clean_name,
    find_picture,
    make_plan,
    read_plan,
    write_plan,
)
from twonines.datasets.record import Dataset
from twonines.errors import DatasetError, InputError, SettingsError


def test_counts_and_order(parts: Dataset) -> None:
    plan = small_plan(parts, repeats=3)
    assert len(plan.pictures) == 10 and sum(p.is_defective for p in plan.pictures) == 4
    order = plan.order("Ann")
    assert len(order) == plan.looks == len(set(order)) == 30
    for turn in (1, 2, 3):
        assert {p for p, r in order[10 * turn - 10 : 10 * turn] if r == turn} == {
            p.id for p in plan.pictures
        }
    assert order == plan.order("ann") != plan.order("Bo")


def test_no_picture_comes_twice_in_a_row(parts: Dataset) -> None:
    plan = small_plan(parts, pictures=2, prevalence=0.5, repeats=20)
    for name in ("a", "b", "c"):
        pictures = [picture for picture, _ in plan.order(name)]
        assert all(x != y for x, y in zip(pictures, pictures[1:], strict=False))


def test_ids_do_not_tell_the_truth(parts: Dataset) -> None:
    kinds = [p.is_defective for p in small_plan(parts, pictures=40, prevalence=0.5).pictures]
    assert 4 < sum(x != y for x, y in zip(kinds, kinds[1:], strict=False)) < 36
    assert all(p.id.startswith("p") and p.id[1:].isdigit() for p in small_plan(parts).pictures)


def test_seed_fixes_everything_but_the_date(parts: Dataset) -> None:
    one, two = (small_plan(parts).model_dump(exclude={"created"}) for _ in range(2))
    assert one == two
    assert small_plan(parts, seed=2).pictures != small_plan(parts).pictures


def test_write_and_read(parts: Dataset, tmp_path: Path) -> None:
    plan = small_plan(parts, inspectors=["Ann", "Bo"])
    write_plan(plan, tmp_path / "s")
    back = read_plan(tmp_path / "s")
    assert back == plan and back.digest == plan.digest
    with pytest.raises(SettingsError, match="must not exist yet"):
        write_plan(plan, tmp_path / "s")


def test_a_changed_margin_changes_the_digest(study: Path) -> None:
    before = read_plan(study).digest
    path = study / "plan.json"
    path.write_text(path.read_text().replace('"margin": 0.02', '"margin": 0.2'))
    assert read_plan(study).digest != before


@pytest.mark.parametrize(
    ("changes", "error", "name"),
    [
        ({"prevalence": 0.0}, SettingsError, "prevalence"),
        ({"pictures": 1}, SettingsError, "pictures"),
        ({"pictures": 30, "prevalence": 0.9}, DatasetError, "27 defective ones are needed"),
        ({"repeats": 0}, SettingsError, "repeats"),
        ({"margin": 1.0}, SettingsError, "margin"),
        ({"break_every": 0}, SettingsError, "break_every"),
        ({"inspectors": ["Ann", "Ann"]}, SettingsError, "inspectors"),
        ({"inspectors": [" "]}, InputError, "inspector"),
    ],
)
def test_impossible_plans(
    parts: Dataset, changes: dict[str, object], error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=name):
        small_plan(parts, **changes)


def test_pool_is_respected(parts: Dataset) -> None:
    pool = [r for r in parts.records if r.path.stem in {"0", "1", "2"}]
    plan = make_plan(parts, pool, "three of each", pictures=6, prevalence=0.5)
    assert {Path(p.path).stem for p in plan.pictures} == {"0", "1", "2"}


@pytest.mark.parametrize("text", ["", "{}", '{"version": 2}', "nonsense"])
def test_broken_plans(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match="plan: .* is not valid"):
        read_plan(tmp_path)


def test_no_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a readable file"):
        read_plan(tmp_path)


def test_a_replaced_picture_is_noticed(parts: Dataset, study: Path) -> None:
    plan = read_plan(study)
    picture = plan.pictures[0]
    assert find_picture(plan, picture).is_file()
    other = picture.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DatasetError, match="must be the file that was planned"):
        find_picture(plan, other)


@pytest.mark.parametrize("name", ["", "  ", "=cmd()", "a\nb" * 30, "x" * 61, "\x00"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match="inspector: must be a name"):
        clean_name(name)


def test_names_are_cleaned() -> None:
    assert clean_name("  Ann   Lee ") == "Ann Lee"


def test_unknown_keys_are_refused(study: Path) -> None:
    path = study / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "secret": 1}))
    with pytest.raises(InputError, match="secret"):
        read_plan(study)
    assert "secret" not in Plan.model_fields
