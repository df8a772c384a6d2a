import json
from pathlib import Path

import pytest

from tests.datasets import archives
from twonines.datasets.checks import check_dataset
from twonines.datasets.mask_sources import MaskFile, MaskRuns
from twonines.datasets.masks import read_mask
from twonines.datasets.record import Box, Dataset
from twonines.datasets.registry import load_dataset
from twonines.errors import DatasetError, MaskError


def marked(dataset: Dataset) -> list[int]:
    """Marked pixels of each picture; -1 where it has no mask."""
    masks = [read_mask(record, (24, 32)) for record in dataset.records]
    return [-1 if mask is None else int(mask.sum()) for mask in masks]


def test_neu_cls_names_as_neu_det(tmp_path: Path) -> None:
    dataset = load_dataset("neu-cls", archives.neu_cls(tmp_path))
    assert dataset.counts["rolled-in_scale"] == 2 and len(dataset.classes) == 6


def test_sd_saliency_odd_name(tmp_path: Path) -> None:
    archives.sd_saliency_900(tmp_path)
    archives.picture(tmp_path / "Source Images/Xx_1.bmp", 1)
    with pytest.raises(DatasetError, match="Xx_1.bmp"):
        load_dataset("sd-saliency-900", tmp_path)


def test_deep_pcb_pairs_boxes_groups_and_sides(tmp_path: Path) -> None:
    dataset = load_dataset("deep-pcb", archives.deep_pcb(tmp_path))
    assert [r.official_split for r in dataset.records] == ["train", "test"] * 2
    assert [r.group for r in dataset.records] == ["group00041"] * 2 + ["group12000"] * 2
    first, last = dataset.records[0], dataset.records[-1]
    assert first.reference == first.path.with_name("00041000_temp.jpg")
    assert first.boxes == (Box(1, 2, 10, 12, "open"), Box(3, 4, 12, 14, "pin-hole"))
    assert last.boxes == first.boxes  # commas


def test_deep_pcb_templates_are_checked(tmp_path: Path) -> None:
    dataset = load_dataset("deep-pcb", archives.deep_pcb(tmp_path))
    places = [r.reference for r in dataset.records]
    assert places[0] and places[1]
    archives.picture(places[0], 1, (10, 10))
    places[1].write_bytes(b"x")
    kinds = {kind for _, kind, _ in check_dataset(dataset).faults}
    assert kinds == {"reference_size", "reference_unreadable"}


@pytest.mark.parametrize("line", ["1 2 3 4", "1 2 3 4 7", "a 2 3 4 1"])
def test_deep_pcb_bad_line(line: str, tmp_path: Path) -> None:
    archives.deep_pcb(tmp_path)
    archives.lines(tmp_path / "PCBData/group00041/00041_not/00041000.txt", line)
    with pytest.raises(DatasetError, match="00041000.txt line 1"):
        load_dataset("deep-pcb", tmp_path)


def test_kolektor_palettes_and_repeated_parts(tmp_path: Path) -> None:
    dataset = load_dataset("kolektor-sdd", archives.kolektor_sdd(tmp_path))
    assert dataset.counts == {"good": 5, "defective": 5}
    groups = {r.path.parent.name: r.group for r in dataset.records}
    assert groups["kos01"] == groups["kos26"] != groups["kos02"]
    assert groups["kos27"] == groups["kos34"]
    assert sorted(marked(dataset)) == [0] * 5 + [16] * 5


@pytest.mark.parametrize(
    ("name", "missing"),
    [("kolektor-sdd", "kos02/Part1_label.bmp"), ("kolektor-sdd2", "train/10001_GT.png")],
)
def test_kolektor_without_a_mask_is_not_good(name: str, missing: str, tmp_path: Path) -> None:
    root = getattr(archives, name.replace("-", "_"))(tmp_path)
    (root / missing).unlink()
    with pytest.raises(MaskError, match=f"{Path(missing).name} is no file"):
        load_dataset(name, root)


def test_kolektor2_passes_over_stray_copies(tmp_path: Path) -> None:
    dataset = load_dataset("kolektor-sdd2", archives.kolektor_sdd2(tmp_path))
    assert len(dataset.records) == 8 and dataset.counts == {"good": 4, "defective": 4}


def test_categories_are_chosen_by_name(tmp_path: Path) -> None:
    root = archives.mvtec_ad(tmp_path / "mvtec_anomaly_detection")
    one = load_dataset("mvtec-ad:cable", tmp_path)
    assert one.card.name == "mvtec-ad:cable"
    assert {r.attributes["category"] for r in one.records} == {"cable"}
    assert load_dataset("mvtec-ad", root / "cable").records == one.records
    assert {r.attributes["category"] for r in load_dataset("mvtec-ad", root).records} == {
        "bottle",
        "cable",
    }


def test_several_copies_of_a_set_are_refused(tmp_path: Path) -> None:
    archives.mvtec_ad(tmp_path / "a")
    archives.mvtec_ad(tmp_path / "b")
    with pytest.raises(DatasetError, match="holds several"):
        load_dataset("mvtec-ad", tmp_path)


def test_btad_folders_and_masks(tmp_path: Path) -> None:
    dataset = load_dataset("btad", archives.btad(tmp_path))
    assert dataset.classes == ("good", "ko")
    assert sorted(marked(dataset)) == [-1] * 10 + [16, 16]


def test_visa_reads_its_csv(tmp_path: Path) -> None:
    dataset = load_dataset("visa:pcb1", archives.visa(tmp_path))
    assert dataset.counts == {"good": 3, "anomaly": 1}
    assert sorted(marked(dataset)) == [-1, -1, -1, 16]
    archives.lines(tmp_path / "split_csv/1cls.csv", "object,split,label,image,mask", "a,val,b,c,")
    with pytest.raises(DatasetError, match="line 2"):
        load_dataset("visa", tmp_path)
    archives.lines(tmp_path / "split_csv/1cls.csv", "object,image")
    with pytest.raises(DatasetError, match="must have object, split"):
        load_dataset("visa", tmp_path)


def test_rsdds_types(tmp_path: Path) -> None:
    root = archives.rsdds(tmp_path)
    assert len(load_dataset("rsdds", root).records) == 4
    dataset = load_dataset("rsdds:Type-II", root)
    assert len(dataset.records) == 2 and dataset.records[0].mask == MaskFile(
        root / "Type-II RSDDs dataset/GroundTruth/rail_1.jpg"
    )


def test_bsdata_outlines_places_and_sides(tmp_path: Path) -> None:
    dataset = load_dataset("bsdata", archives.bsdata(tmp_path))
    assert dataset.counts == {"Pitting": 5, "good": 1}
    assert [r.group for r in dataset.records[:3]] == ["585000_090", "585000_090", "585001_090"]
    assert [r.official_split for r in dataset.records[-2:]] == ["train", None]
    assert marked(dataset) == [81] * 5 + [-1]
    (tmp_path / "image_data.json").write_text('{"images": [{}]}')
    with pytest.raises(DatasetError, match="train_test_split"):
        load_dataset("bsdata", tmp_path)


def test_bsdata_of_official_pictures_only_has_the_official_split(tmp_path: Path) -> None:
    root = archives.bsdata(tmp_path)
    next(iter(sorted(root.glob("data/*_585002_090_crop_2.jpg"), reverse=True))).unlink()
    sides = {r.official_split for r in load_dataset("bsdata", root).records}
    assert sides == {"train", "test"}


def test_crack_forest_mat_and_png(tmp_path: Path) -> None:
    root = archives.crack_forest(tmp_path)
    dataset = load_dataset("crack-forest", root)
    assert marked(dataset) == [21, 21]
    assert dataset.card.traps.startswith("1 pictures without ground truth were left out")
    archives.mask(root / "Masks/003_label.PNG")
    assert marked(load_dataset("crack-forest", root)) == [21, 21, 16]


def test_dagm_masks_that_the_table_names(tmp_path: Path) -> None:
    root = archives.dagm_2007(tmp_path)
    dataset = load_dataset("dagm-2007:Class1", root)
    assert dataset.counts == {"good": 6, "defective": 2}
    (root / "Class1/Train/Label/0003_label.PNG").unlink()
    again = load_dataset("dagm-2007:Class1", root)
    assert again.counts == dataset.counts
    assert [kind for _, kind, _ in check_dataset(again).faults] == ["mask_missing"]


@pytest.mark.parametrize("old", [False, True])
def test_severstal_files_old_and_new(old: bool, tmp_path: Path) -> None:
    dataset = load_dataset("severstal", archives.severstal(tmp_path, old=old))
    assert [r.defect_class for r in dataset.records] == ["good", "defect-3", "several", "good"]
    assert marked(dataset) == [-1, 5, 5, -1]
    assert dataset.records[1].mask == MaskRuns(((0, 2), (24, 3)))


@pytest.mark.parametrize("rest", ["1.jpg,1,1 2 3", "1.jpg,,1 2", "1.jpg,1,a b"])
def test_severstal_bad_row(rest: str, tmp_path: Path) -> None:
    archives.severstal(tmp_path)
    archives.lines(tmp_path / "train.csv", "ImageId,ClassId,EncodedPixels", rest)
    with pytest.raises(DatasetError, match="line 2"):
        load_dataset("severstal", tmp_path)


def test_gc10_names_coils_and_boxes(tmp_path: Path) -> None:
    dataset = load_dataset("gc10-det", archives.gc10_det(tmp_path))
    assert dataset.counts == {"punching_hole": 2, "waist_folding": 2}
    assert len({r.group for r in dataset.records}) == 2
    assert {b.defect_class for r in dataset.records for b in r.boxes} == set(dataset.classes)
    archives.voc_xml(tmp_path / "lable/img_01_42500551_00000.xml", "dent")
    with pytest.raises(DatasetError, match="'dent'"):
        load_dataset("gc10-det", tmp_path)


def test_image_data_that_is_no_json(tmp_path: Path) -> None:
    archives.bsdata(tmp_path)
    for text, match in (("{", "must be JSON"), (json.dumps([1]), "must be a JSON object")):
        (tmp_path / "image_data.json").write_text(text)
        with pytest.raises(DatasetError, match=match):
            load_dataset("bsdata", tmp_path)
