from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.datasets import archives
from twonines.datasets.coco_runs import read_runs
from twonines.datasets.mask_sources import (
    MaskFile,
    MaskMat,
    MaskPolygons,
    MaskRule,
    MaskRuns,
    MaskSource,
    MaskUnion,
)
from twonines.datasets.masks import Mask, read_mask
from twonines.datasets.record import Record
from twonines.errors import MaskError

SIZE = (24, 32)


def read(source: MaskSource | None, size: tuple[int, int] = SIZE) -> Mask:
    mask = read_mask(Record(Path("a.png"), "dent", mask=source), size)
    assert mask is not None and mask.shape == size and mask.dtype == bool
    return mask


def test_no_mask() -> None:
    assert read_mask(Record(Path("a.png"), "good"), SIZE) is None


@pytest.mark.parametrize(
    ("rule", "value", "marked"),
    [
        ("above_127", 127, 0),
        ("above_127", 128, 16),
        ("nonzero", 1, 16),
        ("nonzero", 255, 16),
        ("palette", 1, 16),
        ("palette", 2, 0),
        ("palette", 127, 0),
        ("palette", 255, 16),
    ],
)
def test_rules_on_grey(rule: MaskRule, value: int, marked: int, tmp_path: Path) -> None:
    path = archives.mask(tmp_path / "m.png", 4, value=value)
    assert read(MaskFile(path, rule)).sum() == marked


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize("suffix", ["bmp", "png"])
def test_a_palette_marks_by_index_not_colour(index: int, suffix: str, tmp_path: Path) -> None:
    path = archives.palette_mask(tmp_path / f"m.{suffix}", index)
    assert read(MaskFile(path, "palette")).sum() == 16
    assert read(MaskFile(path, "nonzero")).sum() == 16
    # index 2 is dark in its palette
    assert read(MaskFile(path)).sum() == (16 if index == 1 else 0)


def test_a_bitmap_of_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.eye(24, 32) > 0).save(tmp_path / "m.png")
    rules: tuple[MaskRule, ...] = ("above_127", "nonzero", "palette")
    for rule in rules:
        assert read(MaskFile(tmp_path / "m.png", rule)).sum() == 24


@pytest.mark.parametrize(
    ("value", "marked"), [(200, 0), (32767, 0), (32768, 16), (65535, 16), (1, 16)]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled(value: int, marked: int, suffix: str, tmp_path: Path) -> None:
    pixels = np.zeros(SIZE, np.uint16)
    pixels[:4, :4] = value
    Image.fromarray(pixels).save(tmp_path / f"m.{suffix}")
    assert read(MaskFile(tmp_path / f"m.{suffix}", "palette")).sum() == marked
    assert read(MaskFile(tmp_path / f"m.{suffix}")).sum() == (marked if value > 1 else 0)
    assert read(MaskFile(tmp_path / f"m.{suffix}", "nonzero")).sum() == 16


def test_values_of_no_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 0.7, np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full(SIZE, 70000, np.int32)).save(tmp_path / "long.tif")
    for name in ("float.tif", "long.tif"):
        with pytest.raises(MaskError, match=f"{name} must be .*8 or 16 bits") as caught:
            read(MaskFile(tmp_path / name))
        assert caught.value.kind == "mask_unreadable"


def test_polygons() -> None:
    mask = read(MaskPolygons((((2, 3), (5, 3), (5, 8), (2, 8)),)))
    assert mask[3:9, 2:6].all() and mask.sum() == 24
    with pytest.raises(MaskError, match="3 points"):
        read(MaskPolygons((((2, 3), (5, 3)),)))


def test_runs_go_down_the_columns() -> None:
    mask = read(MaskRuns(((0, 2), (24, 3))))
    slow = np.zeros(SIZE, bool)
    for start, length in ((0, 2), (24, 3)):
        for at in range(start, start + length):
            slow[at % 24, at // 24] = True
    assert (mask == slow).all() and mask.sum() == 5


@pytest.mark.parametrize(
    "source", [MaskRuns(((760, 9),)), MaskRuns(((-1, 2),)), MaskRuns((), (32, 24))]
)
def test_runs_of_another_size(source: MaskRuns) -> None:
    with pytest.raises(MaskError) as caught:
        read(source)
    assert caught.value.kind == "mask_size"


def test_mat(tmp_path: Path) -> None:
    values = np.ones(SIZE, np.uint8)
    values[0, :3] = 2, 3, 4
    savemat(tmp_path / "a.mat", {"groundTruth": {"Segmentation": values}})
    assert read(MaskMat(tmp_path / "a.mat", "groundTruth", "Segmentation", 2)).sum() == 3
    with pytest.raises(MaskError, match="must be readable"):
        read(MaskMat(tmp_path / "a.mat", "other", "Segmentation", 2))


def test_union() -> None:
    union = MaskUnion((MaskRuns(((0, 2),)), MaskRuns(((1, 2),))))
    assert read(union).sum() == 3


def test_faults_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    small = archives.mask(tmp_path / "small.png", size=(3, 3))
    for path, kind in (
        (tmp_path / "none.png", "mask_missing"),
        (tmp_path / "bad.png", "mask_unreadable"),
        (small, "mask_size"),
    ):
        with pytest.raises(MaskError, match=path.name) as caught:
            read(MaskFile(path))
        assert caught.value.kind == kind


def pack(counts: list[int]) -> str:
    """The packing of COCO's run lengths, straight from its description."""
    text = ""
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        more = True
        while more:
            code = value & 0x1F
            value >>= 5
            more = value != -1 if code & 0x10 else value != 0
            text += chr((code | 0x20 if more else code) + 48)
    return text


@pytest.mark.parametrize("counts", [[768], [1, 2, 765], [0, 5, 100, 7, 3, 500, 153], [0, 768]])
def test_coco_runs_plain_and_packed(counts: list[int]) -> None:
    plain = read_runs({"size": [24, 32], "counts": counts})
    assert plain == read_runs({"size": [24, 32], "counts": pack(counts)})
    assert read(plain).sum() == sum(counts[1::2])


@pytest.mark.parametrize("counts", [[1, 2], [], "p", [-1, 769]])
def test_coco_runs_that_do_not_fill_the_size(counts: object) -> None:
    with pytest.raises(ValueError):
        read_runs({"size": [24, 32], "counts": counts})
