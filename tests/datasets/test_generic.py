import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.datasets import archives
from twonines.datasets.mask_sources import MaskFile, MaskPolygons, MaskUnion
from twonines.datasets.masks import read_mask
from twonines.datasets.record import Box
from twonines.datasets.registry import CARDS, load_dataset
from twonines.errors import DatasetError


def encoded(crop: npt.NDArray[np.uint8]) -> str:
    """The mask of a labelme shape."""
    out = io.BytesIO()
    Image.fromarray(crop).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


PNG_3X3 = encoded(np.ones((3, 3), np.uint8))


def test_coco_classes_boxes_masks_and_sides(tmp_path: Path) -> None:
    dataset = load_dataset("coco", archives.coco(tmp_path))
    assert [r.defect_class for r in dataset.records] == ["good", "dent", "several"] * 2
    assert [r.official_split for r in dataset.records] == ["train"] * 3 + ["test"] * 3
    assert dataset.records[1].boxes == (Box(2, 2, 10, 10, "dent"),)
    assert isinstance(dataset.records[2].mask, MaskUnion)
    mask = read_mask(dataset.records[2], (24, 32))
    assert mask is not None and mask.sum() == 83


def test_coco_one_file_or_beside_the_pictures(tmp_path: Path) -> None:
    root = archives.coco(tmp_path / "a")
    one = load_dataset("coco", root / "annotations/instances_val.json")
    with pytest.raises(DatasetError, match="x.png must lie beside"):
        content = {"images": [{"id": 1, "file_name": "x.png"}], "annotations": []}
        (tmp_path / "c.json").write_text(json.dumps(content))
        load_dataset("coco", tmp_path / "c.json")
    assert len(one.records) == 3
    for side in ("train", "valid"):
        archives.picture(tmp_path / f"b/{side}/1.png", 1)
        content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": []}
        (tmp_path / f"b/{side}/_annotations.coco.json").write_text(json.dumps(content))
    exported = load_dataset("coco", tmp_path / "b")
    assert [r.official_split for r in exported.records] == ["train", "test"]


def test_coco_mask_only_where_every_mark_is_outlined(tmp_path: Path) -> None:
    root = archives.coco(tmp_path)
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["segmentation"] = []
    path.write_text(json.dumps(content))
    assert load_dataset("coco", path).records[2].mask is None
    content["annotations"][2]["category_id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="instances_val.json: must be COCO"):
        load_dataset("coco", path)


def test_yolo_boxes_outlines_and_sides(tmp_path: Path) -> None:
    dataset = load_dataset("yolo", archives.yolo(tmp_path))
    assert [r.defect_class for r in dataset.records] == ["good", "dent", "stain"] * 2
    assert [r.official_split for r in dataset.records] == ["train"] * 3 + ["test"] * 3
    assert dataset.records[1].boxes == (Box(12, 6, 20, 18, "dent"),)
    assert dataset.records[2].mask == MaskPolygons((((8, 6), (16, 6), (16, 12)),))
    assert dataset.records[2].boxes == (Box(8, 6, 16, 12, "stain"),)


def test_yolo_sides_above_images_and_validation_beside_a_test_set(tmp_path: Path) -> None:
    archives.lines(tmp_path / "classes.txt", "dent")
    for k, side in enumerate(("train", "valid", "test")):
        archives.picture(tmp_path / f"{side}/images/a.png", k)
        archives.lines(tmp_path / f"{side}/labels/a.txt", "0 0.5 0.5 0.2 0.2")
    dataset = load_dataset("yolo", tmp_path)
    assert {r.path.parts[-3]: r.official_split for r in dataset.records} == {
        "train": "train",
        "valid": "train",
        "test": "test",
    }
    assert dataset.counts == {"dent": 3}


@pytest.mark.parametrize("labels", ["annotations", "Labels", "images"])
def test_yolo_without_any_label_file_is_refused(labels: str, tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    for side in ("train", "val"):
        (root / labels).mkdir(exist_ok=True)
        for path in sorted((root / f"labels/{side}").iterdir()):
            path.rename(root / labels / f"{side}{path.name}")
    with pytest.raises(DatasetError, match="labels/train/0.txt.* none for 6 pictures"):
        load_dataset("yolo", root)


def test_yolo_counts_pictures_without_a_label_file(tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    archives.lines(root / "labels/val/0.txt", "")
    traps = load_dataset("yolo", root).card.traps
    assert traps.startswith("1 of 6 pictures have no label file and are taken as good. ")
    archives.lines(root / "labels/train/0.txt", "")
    assert load_dataset("yolo", root).card == CARDS["yolo"]


@pytest.mark.parametrize("text", ["names: [dent, stain]", "names: {0: dent, 1: stain}"])
def test_yolo_names(text: str, tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    archives.lines(root / "data.yaml", text)
    assert load_dataset("yolo", root).classes == ("good", "dent", "stain")


@pytest.mark.parametrize("text", ["nc: 2", "names: {1: dent}", "names: [", "- a"])
def test_yolo_bad_names(text: str, tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    archives.lines(root / "data.yaml", text)
    with pytest.raises(DatasetError, match="data.yaml"):
        load_dataset("yolo", root)


@pytest.mark.parametrize(
    "line", ["2 0.5 0.5 0.2 0.2", "-1 0.5 0.5 0.2 0.2", "0 0.5 0.5", "0 a b c d", "0 0 0 1 1 0 1 1"]
)
def test_yolo_bad_line(line: str, tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    archives.lines(root / "labels/val/1.txt", line)
    with pytest.raises(DatasetError, match="1.txt line 1"):
        load_dataset("yolo", root)


def test_voc_sides_and_pictures_without_xml(tmp_path: Path) -> None:
    root = archives.voc(tmp_path)
    archives.picture(root / "JPEGImages/9.jpg", 9)
    dataset = load_dataset("voc", root)
    assert [r.official_split for r in dataset.records] == ["train", "train", "test", "test"]
    assert dataset.card.traps.startswith("1 pictures without an XML file were left out")


def test_voc_flat(tmp_path: Path) -> None:
    for k in range(2):
        archives.picture(tmp_path / f"{k}.jpg", k)
        archives.voc_xml(tmp_path / f"{k}.xml", "dent")
    (tmp_path / "1.xml").write_text("<annotation/>")
    dataset = load_dataset("voc", tmp_path)
    assert [r.defect_class for r in dataset.records] == ["dent", "good"]
    assert dataset.records[0].official_split is None


def test_labelme_shapes(tmp_path: Path) -> None:
    root = archives.labelme(tmp_path)
    shapes: list[dict[str, Any]] = [
        {"label": "dent", "points": [[1, 1], [4, 6]], "shape_type": "rectangle"},
        {"label": "stain", "points": [[15, 12], [15, 17]], "shape_type": "circle"},
    ]
    archives.labelme_json(root / "2.json", *shapes)
    archives.picture(root / "3.png", 3)
    dataset = load_dataset("labelme", root)
    assert [r.defect_class for r in dataset.records] == ["good", "dent", "several"]
    assert "without a JSON file" in dataset.card.traps
    record = dataset.records[2]
    assert record.boxes[0] == Box(1, 1, 4, 6, "dent")
    mask = read_mask(record, (24, 32))
    assert mask is not None
    assert mask[:, :8].sum() == 24  # both edges count
    assert mask[:, 8:].sum() == pytest.approx(math.pi * 5.5**2, rel=0.1)


def test_labelme_shapes_of_old_and_new_versions(tmp_path: Path) -> None:
    root = archives.labelme(tmp_path)
    crop = np.random.default_rng(0).integers(0, 2, (5, 7), dtype=np.uint8)
    painted = {
        "label": "dent", "points": [[10, 4], [16, 8]], "shape_type": "mask",
        "mask": encoded(crop),
    }  # fmt: skip
    archives.labelme_json(root / "1.json", archives.polygon("dent") | {"shape_type": None})
    archives.labelme_json(root / "2.json", painted, archives.polygon("dent", 4))
    records = load_dataset("labelme", root).records
    assert records[1].mask == MaskPolygons((((2, 2), (10, 2), (10, 10), (2, 10)),))
    assert records[2].boxes == (Box(10, 4, 17, 9, "dent"), Box(2, 2, 6, 6, "dent"))
    mask = read_mask(records[2], (24, 32))
    assert mask is not None and (mask[4:9, 10:17] == (crop > 0)).all()
    assert mask.sum() == crop.sum() + 25


def test_labelme_shapes_without_an_area_tell_the_class_alone(tmp_path: Path) -> None:
    root = archives.labelme(tmp_path)
    line = {"label": "scratch", "points": [[1, 1], [2, 2]], "shape_type": "linestrip"}
    point = {"label": "dent", "points": [[1, 1]], "shape_type": "point"}
    archives.labelme_json(root / "1.json", archives.polygon("dent"), line)
    archives.labelme_json(root / "2.json", point)
    dataset = load_dataset("labelme", root)
    assert [r.defect_class for r in dataset.records] == ["good", "several", "dent"]
    # places that are not outlined must not be taught as good
    assert {(r.mask, r.boxes) for r in dataset.records} == {(None, ())}
    assert dataset.card.traps.startswith("2 pictures hold a point or line")


@pytest.mark.parametrize(
    "shape",
    [
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "AAAA"},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": None},
        {"label": "a", "points": [[30, 1], [2, 2]], "shape_type": "mask", "mask": PNG_3X3},
        {"label": "a", "points": [[-1, 1], [2, 2]], "shape_type": "mask", "mask": PNG_3X3},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "spline"},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "polygon"},
        {"label": "a", "points": [1, 2], "shape_type": "polygon"},
        {"points": [[1, 1]]},
    ],
)
def test_labelme_bad_shape(shape: dict[str, Any], tmp_path: Path) -> None:
    root = archives.labelme(tmp_path)
    archives.labelme_json(root / "2.json", shape)
    with pytest.raises(DatasetError, match="2.json"):
        load_dataset("labelme", root)


@pytest.mark.parametrize("name", ["table", "mvtec"])
def test_masks_of_ones_own_may_hold_class_numbers(name: str, tmp_path: Path) -> None:
    root = getattr(archives, name)(tmp_path)
    record = next(r for r in load_dataset(name, root).records if r.mask is not None)
    assert isinstance(record.mask, MaskFile)
    archives.mask(record.mask.path, 4, value=1)
    first = read_mask(record, (24, 32))
    archives.palette_mask(record.mask.path, 2)  # dark in its palette, as VOC tools write them
    second = read_mask(record, (24, 32))
    assert first is not None and second is not None
    assert first.sum() == second.sum() == 16


def test_published_masks_keep_their_soft_edges_out(tmp_path: Path) -> None:
    root = archives.mvtec_ad(tmp_path)
    masks = [r.mask for r in load_dataset("mvtec-ad", root).records if r.mask is not None]
    assert masks and all(isinstance(m, MaskFile) and m.rule == "above_127" for m in masks)
