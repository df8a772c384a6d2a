import importlib.util
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.datasets import archives
from twonines.datasets.checks import check_dataset
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import DEFECTIVE, SEVERAL
from twonines.datasets.registry import CARDS, READERS, dataset_names, load_dataset
from twonines.datasets.splits import make_split
from twonines.errors import DatasetError

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    name: getattr(archives, name.replace("-", "_")) for name in CARDS
}
EXPECTED = {
    "elpv": "labels.csv",
    "neu-det": "IMAGES",
    "neu-cls": "Cr_1.bmp",
    "sd-saliency-900": "Source Images",
    "x-sdd": "datas",
    "magnetic-tile": "MT_Free",
    "deep-pcb": "PCBData",
    "kolektor-sdd": "kos01",
    "kolektor-sdd2": "train",
    "mvtec-ad": "train/good",
    "btad": "train/good",
    "mpdd": "train/good",
    "visa": "split_csv/1cls.csv",
    "casting": "train/ok_front",
    "rsdds": "Type-I RSDDs dataset",
    "bsdata": "'data' and 'label'",
    "crack-forest": "'image'",
    "dagm-2007": "Class1",
    "severstal": "train.csv",
    "gc10-det": "lable",
    "mvtec": "train/good",
    "folder": "folder of pictures per class",
    "table": ".csv or .parquet",
    "coco": "a JSON with images and annotations",
    "yolo": "data.yaml",
    "voc": "Annotations",
    "labelme": "pictures with JSON files",
}
OFFICIAL = {
    "deep-pcb", "kolektor-sdd2", "mvtec-ad", "btad", "mpdd", "visa", "casting", "dagm-2007",
    "mvtec", "table", "coco", "yolo", "voc",
}  # fmt: skip


def test_every_reader_has_a_layout_and_a_card() -> None:
    assert dataset_names() == tuple(READERS) == tuple(CARDS) == tuple(EXPECTED)
    for card in CARDS.values():
        assert card.licence and card.source and card.traps and card.title and card.tasks
        # a public set says where to get it and where it lies
        assert bool(card.folder) == bool(card.download) == bool(card.classes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_read_the_layout(name: str, tmp_path: Path) -> None:
    root = LAYOUTS[name](tmp_path / "set")
    dataset = load_dataset(name, root)
    assert dataset.card.name == name
    assert dataset.root == root
    assert all(record.path.is_file() for record in dataset.records)
    assert [str(r.path) for r in dataset.records] == sorted(str(r.path) for r in dataset.records)


@pytest.mark.parametrize("name", LAYOUTS)
def test_split_and_check_the_layout(name: str, tmp_path: Path) -> None:
    dataset = load_dataset(name, LAYOUTS[name](tmp_path / "set"))
    split = make_split(dataset, calibration_fraction=0.0)
    assert split.kind == ("official" if name in OFFICIAL else "grouped")
    assert sorted(split.train + split.test, key=lambda r: str(r.path)) == list(dataset.records)
    report = check_dataset(dataset, split)
    assert report.unreadable == () and report.faults == ()
    known = {*dataset.card.classes, DEFECTIVE, SEVERAL}
    if dataset.card.folder and name not in ("mvtec-ad", "mpdd"):
        assert set(dataset.classes) <= known
    if "segment" in dataset.card.tasks and name not in ("neu-det", "table", "yolo"):
        assert all(r.mask is not None for r in dataset.records if r.is_defective)
    if "detect" in dataset.card.tasks and name != "dagm-2007":
        assert all(r.boxes for r in dataset.records if r.is_defective)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("folder", "table")])
def test_the_parent_will_do(name: str, tmp_path: Path) -> None:
    root = LAYOUTS[name](tmp_path / "set")
    (tmp_path / "other").mkdir()
    assert load_dataset(name, tmp_path) == load_dataset(name, root)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_wrong_root_is_named_with_what_was_expected(name: str, tmp_path: Path) -> None:
    root = tmp_path / "wrong"
    root.mkdir()
    (root / "notes.txt").write_text("x")
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, root)
    assert str(root) in str(caught.value)
    assert EXPECTED[name] in str(caught.value)
    assert "notes.txt" in str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_root_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent"):
        load_dataset(name, tmp_path / "absent")


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(DatasetError, match="elpv, neu-det.*'elvp'"):
        load_dataset("elvp")


def test_no_root_says_what_to_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TWONINES_DATA", raising=False)
    with pytest.raises(DatasetError, match="--root.*TWONINES_DATA"):
        load_dataset("x-sdd")
    archives.x_sdd(tmp_path / "X-SDD")
    monkeypatch.setenv("TWONINES_DATA", str(tmp_path))
    assert len(load_dataset("x-sdd").records) == 2


def test_elpv_grades(tmp_path: Path) -> None:
    records = load_dataset("elpv", archives.elpv(tmp_path)).records
    assert [r.defect_class for r in records[:4]] == ["good", "good", "defective", "defective"]
    assert [r.certainty for r in records[:4]] == [1.0, 2 / 3, 2 / 3, 1.0]
    assert records[1].attributes == {"probability": "0.33", "type": "mono"}
    assert records[4].attributes["type"] == "poly"


@pytest.mark.parametrize(
    "line", ["images/a.png 0.5 mono", "images/a.png 1.0", "a x mono", "a nan b"]
)
def test_elpv_bad_line_is_numbered(line: str, tmp_path: Path) -> None:
    archives.elpv(tmp_path)
    with (tmp_path / "labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match="line 9"):
        load_dataset("elpv", tmp_path)


def test_neu_det_boxes_and_masks(tmp_path: Path) -> None:
    dataset = load_dataset("neu-det", archives.neu_det(tmp_path))
    assert dataset.classes == ("crazing", "rolled-in_scale", "scratches")
    assert not dataset.has_good
    box = dataset.records[0].boxes[0]
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == (0, 0, 10, 12)
    assert [r.mask is not None for r in dataset.records] == [False, False, True]


def test_neu_det_kaggle_copy(tmp_path: Path) -> None:
    root = archives.neu_det_kaggle(tmp_path / "NEU-DET")
    archives.mask(tmp_path / "MASKS-SD-saliency-900/crazing_0.png")
    dataset = load_dataset("neu-det", tmp_path)
    assert dataset.root == root
    assert dataset.classes == ("crazing", "rolled-in_scale")
    assert [r.official_split for r in dataset.records] == ["train", "train", "test", "test"]
    assert all(len(r.boxes) == 1 for r in dataset.records)
    assert [r.mask is not None for r in dataset.records] == [True, False, False, False]


def test_bad_annotation_is_named(tmp_path: Path) -> None:
    archives.neu_det(tmp_path)
    (tmp_path / "ANNOTATIONS/crazing_1.xml").write_text("<annotation>")
    with pytest.raises(DatasetError, match="crazing_1.xml must be Pascal VOC"):
        load_dataset("neu-det", tmp_path)


def test_magnetic_tile_groups(tmp_path: Path) -> None:
    dataset = load_dataset("magnetic-tile", archives.magnetic_tile(tmp_path))
    assert dataset.classes == ("good", "Blowhole", "Crack")
    assert len(dataset.records) == 6
    assert {r.path.name: r.group for r in dataset.records}["exp4_num_4.jpg"] == "1"
    assert "WILL leak" not in dataset.card.traps


def test_magnetic_tile_without_groups_warns(tmp_path: Path) -> None:
    dataset = load_dataset("magnetic-tile", archives.magnetic_tile(tmp_path, groups=False))
    assert {r.group for r in dataset.records} == {None}
    assert dataset.card.traps.startswith("There is no groups.csv: a split WILL leak")


def test_magnetic_tile_with_a_short_groups_file_warns(tmp_path: Path) -> None:
    root = archives.magnetic_tile(tmp_path)
    archives.picture(root / "MT_Free/Imgs/exp9_num_9.jpg", 9)
    assert load_dataset("magnetic-tile", root).card.traps.startswith("1 pictures are not in")


def test_casting_in_kaggles_two_folders(tmp_path: Path) -> None:
    archives.casting(tmp_path / "casting_data" / "casting_data")
    dataset = load_dataset("casting", tmp_path)
    assert dataset.classes == ("good", "defective")
    assert [r.official_split for r in dataset.records].count("train") == 8


def test_mvtec_masks_and_categories(tmp_path: Path) -> None:
    dataset = load_dataset("mvtec", archives.mvtec(tmp_path / "bottle"))
    masks = {r.defect_class: r.mask for r in dataset.records}
    assert masks["good"] is None and masks["scratch"] is not None
    assert {r.attributes["category"] for r in dataset.records} == {"bottle"}
    archives.mvtec(tmp_path / "cable")
    both = load_dataset("mvtec", tmp_path)
    assert len(both.records) == 2 * len(dataset.records) and both.root == tmp_path
    assert load_dataset("mvtec:bottle", tmp_path).records == dataset.records
    with pytest.raises(DatasetError, match="among bottle, cable; got bottle, pill"):
        load_dataset("mvtec:bottle,pill", tmp_path)
    with pytest.raises(DatasetError, match="it has no categories"):
        load_dataset("x-sdd:a", archives.x_sdd(tmp_path / "x"))


@pytest.mark.parametrize("good", ["normal", "OK", "defect-free"])
def test_mvtec_knows_good_by_every_usual_name(good: str, tmp_path: Path) -> None:
    archives.mvtec(tmp_path / "bottle")
    archives.mvtec(tmp_path / "cable")
    for side in ("train", "test"):
        (tmp_path / f"cable/{side}/good").rename(tmp_path / f"cable/{side}/{good}")
    dataset = load_dataset("mvtec", tmp_path)
    assert {r.attributes["category"] for r in dataset.records} == {"bottle", "cable"}
    assert dataset.counts == {"good": 10, "scratch": 2} and dataset.card == CARDS["mvtec"]


def test_mvtec_names_categories_without_good_parts(tmp_path: Path) -> None:
    for name in ("bottle", "cable", "pill"):
        archives.mvtec(tmp_path / name)
    (tmp_path / "cable/train/good").rename(tmp_path / "cable/train/gut")
    (tmp_path / "pill/train").rename(tmp_path / "pill/other")  # no category at all
    dataset = load_dataset("mvtec", tmp_path)
    assert {r.attributes["category"] for r in dataset.records} == {"bottle"}
    assert dataset.card.traps.startswith("1 categories without train/good (cable) were left out.")


def test_a_set_of_your_own_without_a_good_part_says_so(tmp_path: Path) -> None:
    archives.picture(tmp_path / "p/0/a.png", 1)
    archives.picture(tmp_path / "p/1/a.png", 2)
    archives.lines(tmp_path / "parts.csv", "path,label", "p/0/a.png,0", "p/1/a.png,1")
    said = "No class is named good, ok or normal, but 0, 1: every part counts as defective."
    assert load_dataset("table", tmp_path).card.traps.startswith(said)
    assert load_dataset("folder", tmp_path / "p").card.traps.startswith(said)


def test_folder_knows_good(tmp_path: Path) -> None:
    dataset = load_dataset("folder", archives.folder(tmp_path))
    assert dataset.counts == {"good": 3, "dent": 3}


def test_table_names_references(tmp_path: Path) -> None:
    archives.picture(tmp_path / "p/a.png", 1)
    golden = archives.picture(tmp_path / "golden/a.png", 2)
    rows = ("path,label,reference", "p/a.png,dent,golden/a.png", "p/a.png,good,")
    archives.lines(tmp_path / "parts.csv", *rows)
    dataset = load_dataset("table", tmp_path)
    assert [record.reference for record in dataset.records] == [golden, None]
    assert check_dataset(dataset).faults == ()
    golden.unlink()
    kinds = [kind for _, kind, _ in check_dataset(dataset).faults]
    assert kinds == ["reference_unreadable"]


def test_table_csv_and_parquet_agree(tmp_path: Path) -> None:
    root = archives.table(tmp_path)
    first = load_dataset("table", root / "parts.csv")
    lines = (root / "parts.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    parquet.write_table(pa.Table.from_pylist(rows), root / "parts.parquet")
    assert load_dataset("table", root / "parts.parquet").records == first.records
    assert first.records[1].mask == MaskFile(root / "m/1.png", "palette")
    assert [r.group for r in first.records] == ["part0", "part0", "part1", "part1"]
    with pytest.raises(DatasetError, match="2 tables"):
        load_dataset("table", root)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,label\na.png,good\n", "row 1: must have path and label"),
        ("path,label\na.png,\n", "row 1: must have path and label"),
        ("path,label,split\na.png,good,val\n", "split must be train or test: 'val'"),
        ("path,label\n", "must hold pictures"),
    ],
)
def test_table_faults(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=match):
        load_dataset("table", tmp_path / "t.csv")


def test_table_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(DatasetError, match="must be a Parquet file"):
        load_dataset("table", tmp_path / "t.parquet")


@pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is None, reason="elpv-dataset is not installed"
)
def test_the_real_elpv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWONINES_DATA", raising=False)
    dataset = load_dataset("elpv")
    assert dataset.counts == {"good": 1803, "defective": 821}
    assert len(dataset.records) == 2624
    assert dataset.card.turns == 4


def test_groups_file_with_other_columns(tmp_path: Path) -> None:
    root = archives.magnetic_tile(tmp_path)
    (root / "groups.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="must have image, tile_group"):
        load_dataset("magnetic-tile", root)


def test_an_archive_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "datas").mkdir()
    with pytest.raises(DatasetError, match="x-sdd must hold pictures"):
        load_dataset("x-sdd", tmp_path)


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\nü.png,good\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="must be a CSV in UTF-8"):
        load_dataset("table", tmp_path / "t.csv")
