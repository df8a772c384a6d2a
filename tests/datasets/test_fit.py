"""Labels that were made for another picture than the one that the models see."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.datasets import archives
from twonines.datasets.checks import check_dataset
from twonines.datasets.mask_sources import MaskFile, MaskPolygons
from twonines.datasets.masks import read_mask
from twonines.datasets.orientation import orientation, read_upright_size, upright_size
from twonines.datasets.record import Box, Record
from twonines.datasets.registry import load_dataset
from twonines.errors import DatasetError, MaskError
from twonines.models.network import Layout
from twonines.training.finetune_labels import kind_map
from twonines.training.marks import read_marks

SIZE = (24, 32)
BOX = (Box(2, 2, 9, 9, "dent"),)
POLYGON = MaskPolygons((((2, 2), (9, 2), (9, 9)),))


def turned(path: Path, value: int, size: tuple[int, int] = SIZE) -> Path:
    """A picture of (height, width) in the file, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    with Image.open(archives.picture(path, 1, size)) as image:
        image.load()
        image.save(path, exif=exif)
    return path


def halve(path: Path) -> None:
    with Image.open(path) as image:
        small = image.resize((image.width // 2, image.height // 2))
    small.save(path)


@pytest.mark.parametrize("name", ["voc", "coco", "labelme", "neu-det", "gc10-det", "bsdata"])
def test_pictures_that_were_scaled_after_they_were_marked(name: str, tmp_path: Path) -> None:
    root = getattr(archives, name.replace("-", "_"))(tmp_path)
    dataset = load_dataset(name, root)
    marked = [record for record in dataset.records if record.boxes]
    assert {record.annotated_size for record in marked} == {SIZE}
    assert check_dataset(dataset).faults == ()
    halve(marked[0].path)
    faults = check_dataset(dataset).faults
    said = [detail for _, kind, detail in faults if kind == "annotation_size"]
    assert len(said) == 1 and marked[0].path.name in said[0]
    assert "marked at (24, 32), the picture is (12, 16) (height, width)" in said[0]


def test_both_recipes_refuse_labels_of_another_size(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.png", "dent", boxes=BOX, annotated_size=SIZE)
    for one in (record, replace(record, mask=POLYGON)):
        read_marks(one, SIZE, (6, 8), {"dent": 0})
        kind_map(one, Layout(("dent",), True), SIZE)
        with pytest.raises(MaskError, match="a.png was marked at"):
            read_marks(one, (12, 16), (6, 8), {"dent": 0})
        with pytest.raises(MaskError, match="a.png was marked at"):
            kind_map(one, Layout(("dent",), True), (12, 16))
    assert read_mask(replace(record, boxes=(), defect_class="good"), (12, 16)) is None


@pytest.mark.parametrize("name", ["voc", "coco", "labelme"])
def test_a_size_that_is_left_out_or_zero_is_not_known(name: str, tmp_path: Path) -> None:
    root = getattr(archives, name)(tmp_path)
    for path in (*root.rglob("*.xml"), *root.rglob("*.json")):
        text = path.read_text().replace("<width>32</width>", "<width>0</width>")
        text = text.replace("<height>24</height>", "")
        text = text.replace('"width": 32', '"width": null').replace('Height": 24', 'Height": 0')
        path.write_text(text)
    assert {record.annotated_size for record in load_dataset(name, root).records} == {None}


@pytest.mark.parametrize("name", ["voc", "coco", "labelme"])
def test_a_size_that_is_no_number_is_named(name: str, tmp_path: Path) -> None:
    root = getattr(archives, name)(tmp_path)
    for path in (*root.rglob("*.xml"), *root.rglob("*.json")):
        text = path.read_text().replace("<width>32<", "<width>wide<")
        path.write_text(text.replace('"width": 32', '"width": "wide"').replace('h": 32', 'h": "x"'))
    with pytest.raises(DatasetError, match=r"(xml|json)"):
        load_dataset(name, root)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("value", [1, 3, 6, 8])
def test_orientation_of_a_file(suffix: str, value: int, tmp_path: Path) -> None:
    path = turned(tmp_path / f"a.{suffix}", value)
    assert orientation(path) == value
    with Image.open(path) as image:
        assert read_upright_size(path) == upright_size(image)


@pytest.mark.parametrize("value", [3, 6])
def test_orientation_behind_the_pixels_of_a_png(value: int, tmp_path: Path) -> None:
    early = turned(tmp_path / "a.png", value)
    data = early.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    (tmp_path / "late.png").write_bytes(late)
    assert orientation(tmp_path / "late.png") == value
    assert read_upright_size(tmp_path / "late.png") == read_upright_size(early)


def test_no_orientation(tmp_path: Path) -> None:
    note = PngInfo()
    note.add_text("Software", "a tool")
    archives.picture(tmp_path / "plain.png", 1)
    with Image.open(tmp_path / "plain.png") as image:
        image.save(tmp_path / "text.png", pnginfo=note)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for name in ("plain.png", "text.png", "bad.png", "none.png"):
        assert orientation(tmp_path / name) == 1
    assert orientation(turned(tmp_path / "nine.jpg", 9)) == 1


@pytest.mark.parametrize("value", range(2, 9))
@pytest.mark.parametrize("known", [SIZE, (32, 24), None])
def test_boxes_and_outlines_of_a_turned_picture(
    value: int, known: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = turned(tmp_path / "a.jpg", value)
    upright = SIZE if value < 5 else (32, 24)
    record = Record(path, "dent", mask=POLYGON, boxes=BOX, annotated_size=known)
    if value >= 5 and known == upright:  # marked on the turned picture, as its size shows
        assert read_mask(record, upright) is not None
        return
    with pytest.raises(MaskError, match=f"a.jpg .*EXIF orientation {value}") as caught:
        read_mask(record, upright)
    wrong_size = known not in (None, upright)
    assert caught.value.kind == ("annotation_size" if wrong_size else "turned")


@pytest.mark.parametrize(
    ("value", "size", "kind"), [(6, SIZE, None), (3, SIZE, "turned"), (6, (24, 24), "turned")]
)
def test_a_mask_file_beside_a_turned_picture(
    value: int, size: tuple[int, int], kind: str | None, tmp_path: Path
) -> None:
    path = turned(tmp_path / "a.jpg", value, size)
    upright = size if value < 5 else size[::-1]
    mask = MaskFile(archives.mask(tmp_path / "m.png", size=upright))
    record = Record(path, "dent", mask=mask)
    if kind is None:
        found = read_mask(record, upright)
        assert found is not None and found[:4, :4].all()
        return
    with pytest.raises(MaskError, match="cannot be told") as caught:
        read_mask(record, upright)
    assert caught.value.kind == kind


def test_a_mask_that_is_turned_itself_is_refused(tmp_path: Path) -> None:
    mask = MaskFile(turned(tmp_path / "m.png", 3))
    record = Record(archives.picture(tmp_path / "a.png", 1), "dent", mask=mask)
    with pytest.raises(MaskError, match="m.png .*EXIF orientation 3"):
        read_mask(record, SIZE)


def test_a_turned_picture_without_marks_is_taken(tmp_path: Path) -> None:
    for value in range(2, 9):
        turned(tmp_path / f"good/{value}.jpg", value)
    pixels = np.zeros(SIZE, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "good/plain.png")
    assert check_dataset(load_dataset("folder", tmp_path)).faults == ()


def test_the_check_names_turned_pictures_of_yolo(tmp_path: Path) -> None:
    root = archives.yolo(tmp_path)
    turned(root / "images/val/1.png", 8)
    report = check_dataset(load_dataset("yolo", root))
    assert [(path, kind) for path, kind, _ in report.faults] == [("images/val/1.png", "turned")]


def test_coco_tells_the_size_of_every_picture(tmp_path: Path) -> None:
    root = archives.coco(tmp_path)
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    del content["images"][1]["width"]
    path.write_text(json.dumps(content))
    sizes = [record.annotated_size for record in load_dataset("coco", path).records]
    assert sizes == [SIZE, None, SIZE]
