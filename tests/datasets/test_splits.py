import importlib.util
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import archives
from twonines.datasets.content import join
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.datasets.registry import CARDS, load_dataset
from twonines.datasets.splits import Split, folds, make_split
from twonines.errors import SettingsError

CARD = DatasetCard("made", "made", "CC0", "made", "none", "none")


def made(root: Path, groups: int = 30, each: int = 4, **changes: Any) -> Dataset:
    """Groups of one class each; a third of them is defective."""
    records = []
    for group in range(groups):
        for k in range(each):
            path = root / f"{group:02}_{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{group} {k}".encode())
            name = "good" if group % 3 else "dent"
            records.append(Record(path, name, group=f"g{group}", **changes))
    return Dataset(CARD, root, tuple(records))


def groups_of(records: tuple[Record, ...]) -> set[str | None]:
    return {record.group for record in records}


def assert_apart(split: Split) -> None:
    taught = groups_of(split.train) | groups_of(split.calibration)
    assert not taught & groups_of(split.test)
    assert not groups_of(split.train) & groups_of(split.calibration)


def test_grouped_keeps_groups_apart_and_classes_in_proportion(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    split = make_split(dataset)
    assert split.kind == "grouped" and split.basis == "stratified by group"
    assert_apart(split)
    assert [len(split.train), len(split.calibration), len(split.test)] == pytest.approx(
        [78, 12, 30], abs=4
    )
    for part in (split.train, split.calibration, split.test):
        share = sum(r.is_defective for r in part) / len(part)
        assert share == pytest.approx(1 / 3, abs=0.1)
    assert sorted(r.path for r in split.train + split.calibration + split.test) == [
        r.path for r in dataset.records
    ]


@pytest.mark.parametrize("method", ["grouped", "random"])
def test_the_seed_decides(method: Any, tmp_path: Path) -> None:
    dataset = made(tmp_path)
    assert make_split(dataset, seed=5, method=method) == make_split(dataset, seed=5, method=method)
    first, second = (make_split(dataset, seed=seed, method=method) for seed in (5, 6))
    assert first.test != second.test


def test_random_tears_groups_apart_and_says_so(tmp_path: Path) -> None:
    split = make_split(made(tmp_path), method="random")
    assert split.kind == "random" and "torn apart" in split.basis
    assert groups_of(split.train) & groups_of(split.test)


def test_grouped_keeps_copies_together(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    # one file of each odd group is a copy of one in the group before
    for group in range(1, 30, 2):
        shutil.copy(tmp_path / f"{group - 1:02}_0.png", tmp_path / f"{group:02}_0.png")
    split = make_split(dataset)
    assert_apart(split)
    assert split.dropped == ()
    tested = {record.path.name[:2] for record in split.test}
    assert all(f"{int(g) ^ 1:02}" in tested for g in tested)


def test_random_drops_copies_from_test(tmp_path: Path) -> None:
    dataset = made(tmp_path, groups=20, each=1)
    for record in dataset.records[1::2]:
        record.path.write_bytes(b"the same")
    split = make_split(dataset, method="random")
    assert split.dropped
    assert all(r.path.read_bytes() != b"the same" for r in split.test)
    assert not {r.path for r in split.dropped} & {r.path for r in split.test}


@pytest.mark.parametrize("side", ["train", "calibration"])
def test_copies_of_every_taught_side_are_dropped_from_test(side: str, tmp_path: Path) -> None:
    dataset = made(tmp_path, groups=40, each=1)
    before = make_split(dataset, method="random")
    taught = (before.train if side == "train" else before.calibration)[0]
    before.test[0].path.write_bytes(taught.path.read_bytes())
    after = make_split(dataset, method="random")
    assert taught in after.train + after.calibration
    assert after.dropped == (before.test[0],) and after.test == before.test[1:]


def test_official_takes_calibration_from_training_and_drops_copies(tmp_path: Path) -> None:
    archives.casting(tmp_path)
    shutil.copy(
        tmp_path / "train/ok_front/cast_ok_front_0.jpeg",
        tmp_path / "test/ok_front/cast_ok_front_1.jpeg",
    )
    split = make_split(load_dataset("casting", tmp_path), calibration_fraction=0.2)
    assert split.kind == "official"
    assert [r.path.name for r in split.dropped] == ["cast_ok_front_1.jpeg"]
    assert len(split.test) == 3 and len(split.calibration) == 2 and len(split.train) == 6
    assert {r.official_split for r in split.train + split.calibration} == {"train"}
    assert Counter(r.defect_class for r in split.calibration) == {"good": 1, "defective": 1}


def test_mvtec_trains_on_good_parts_only(tmp_path: Path) -> None:
    split = make_split(load_dataset("mvtec", archives.mvtec(tmp_path)))
    assert split.kind == "official"
    assert not any(r.is_defective for r in split.train + split.calibration)


def test_graded_labels_are_stratified(tmp_path: Path) -> None:
    records = []
    for k in range(80):
        path = tmp_path / f"{k}.png"
        path.write_bytes(str(k).encode())
        attributes = {"probability": ("0.00", "0.33")[k % 2], "type": ("mono", "poly")[k // 40]}
        records.append(Record(path, "good", certainty=1 - (k % 2) / 3, attributes=attributes))
    split = make_split(Dataset(CARD, tmp_path, tuple(records)))
    found = Counter((r.attributes["probability"], r.attributes["type"]) for r in split.test)
    assert set(found.values()) == {5}
    assert "no groups" in split.basis


def test_folds_test_every_picture_once(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    splits = list(folds(dataset, n_folds=4, seed=1))
    assert splits == list(folds(dataset, n_folds=4, seed=1))
    tested = sorted(record.path for split in splits for record in split.test)
    assert tested == [record.path for record in dataset.records]
    for split in splits:
        assert_apart(split)
        assert len(split.test) == pytest.approx(30, abs=4)
        assert len(split.calibration) == pytest.approx(12, abs=4)


def test_a_missing_file_does_not_stop_the_split(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    dataset.records[0].path.unlink()
    dataset.records[1].path.unlink()
    split = make_split(dataset)
    assert len(split.train + split.calibration + split.test) == 120


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"test_fraction": 0.0}, "test_fraction: .* got 0.0"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"calibration_fraction": 0.75}, "calibration_fraction: .* got 0.75"),
        ({"calibration_fraction": -0.1}, "calibration_fraction"),
        ({"method": "official"}, "method: official needs"),
        ({"method": "bogus"}, "method: must be one of"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=match):
        make_split(made(tmp_path), **changes)


def test_bad_folds(tmp_path: Path) -> None:
    dataset = made(tmp_path, groups=6)
    for changes in ({"n_folds": 1}, {"n_folds": 7}, {"n_folds": 3, "method": "official"}):
        with pytest.raises(SettingsError):
            folds(dataset, **changes)
    archive = load_dataset("casting", archives.casting(tmp_path / "casting_data"))
    with pytest.raises(SettingsError, match="official"):
        folds(archive, n_folds=2, method="official")


def test_calibration_may_be_empty(tmp_path: Path) -> None:
    split = make_split(made(tmp_path), calibration_fraction=0.0)
    assert split.calibration == ()


def test_join() -> None:
    assert join([[0, 3], [3, 4], [1]], 6) == [[0, 3, 4], [1], [2], [5]]
    assert join([], 0) == []


@pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is None, reason="elpv-dataset is not installed"
)
def test_the_real_elpv_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWONINES_DATA", raising=False)
    split = make_split(load_dataset("elpv"))
    assert len(split.test) == pytest.approx(656, abs=4)
    assert sum(r.is_defective for r in split.test) == pytest.approx(205, abs=2)


def test_the_real_magnetic_tile_split() -> None:
    if "TWONINES_DATA" not in os.environ:
        pytest.skip("TWONINES_DATA is unset: the folder of the published sets")
    split = make_split(load_dataset("magnetic-tile"))
    assert_apart(split)
    assert {r.defect_class for r in split.test} == {r.defect_class for r in split.train}


def test_official_training_too_small_for_calibration(tmp_path: Path) -> None:
    dataset = load_dataset("casting", archives.casting(tmp_path))
    with pytest.raises(SettingsError, match="all 8 of official training"):
        make_split(dataset, calibration_fraction=0.7)


@pytest.mark.parametrize(("rare", "parts_with_it"), [(1, 1), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_a_rare_class_is_seated_in_every_part_it_can_fill(
    tmp_path: Path, rare: int, parts_with_it: int, seed: int
) -> None:
    records = []
    for index in range(100 + rare):
        path = tmp_path / f"{index}.png"
        path.write_bytes(str(index).encode())
        records.append(Record(path, "good" if index < 100 else "crack"))
    dataset = Dataset(CARDS["folder"], tmp_path, tuple(records))
    split = make_split(dataset, seed=seed)
    parts = (split.train, split.calibration, split.test)
    holds = [any(r.defect_class == "crack" for r in part) for part in parts]
    assert sum(holds) == parts_with_it
    assert holds[0]
    assert sum(len(part) for part in parts) == 100 + rare
