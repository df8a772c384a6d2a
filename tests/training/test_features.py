"""The cache of features, with a backbone whose features are the means of columns."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from twonines.datasets.record import Record
from twonines.errors import ImageError
from twonines.training.features import FeatureExtractor
from twonines.types import FloatArray

SIDE = 8


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    axes = numpy_helper.from_array(np.array([1, 3], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "columns",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", SIDE])],
        [axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "backbone.onnx")
    return tmp_path / "backbone.onnx"


@pytest.fixture
def record(tmp_path: Path) -> Record:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(path)
    return Record(path, "good")


def columns(record: Record) -> FloatArray:
    with Image.open(record.path) as image:
        means: FloatArray = np.asarray(image, np.float32).mean(axis=(0, 2))
    return means


def test_every_view_has_its_own_features(backbone: Path, record: Record, tmp_path: Path) -> None:
    extract = FeatureExtractor(backbone, (SIDE, SIDE), tmp_path / "cache")
    expected = columns(record)
    for _ in range(2):  # the second time from the cache
        assert np.allclose(extract([record], view=0), expected)
        assert np.allclose(extract([record], view=4), expected[::-1])
        assert np.allclose(extract([record], view=2), expected[::-1])
        assert not np.allclose(extract([record], view=1), expected)


@pytest.mark.parametrize(
    "damage", ["empty", "torn", "noise", "zip", "wide", "flat", "nan", "double", "object"]
)
def test_a_bad_file_in_the_cache_is_computed_again(
    backbone: Path, record: Record, tmp_path: Path, damage: str
) -> None:
    cache = tmp_path / "cache"
    extract = FeatureExtractor(backbone, (SIDE, SIDE), cache)
    extract([record])
    (kept,) = cache.rglob("*.npy")
    row = np.full(SIDE, 7, np.float32)
    if damage in ("empty", "torn", "noise"):
        data = {"empty": b"", "torn": kept.read_bytes()[:-5], "noise": b"\x93NUMPY" + b"\xff" * 99}
        kept.write_bytes(data[damage])
    elif damage == "zip":
        with kept.open("wb") as file:
            np.savez(file, row)
    else:
        bad: dict[str, npt.NDArray[Any]] = {
            "wide": np.full(SIDE + 1, 7, np.float32),
            "flat": row[None],
            "nan": np.where(np.arange(SIDE) == 3, np.nan, row).astype(np.float32),
            "double": row.astype(np.float64),
            "object": row.astype(object),
        }
        np.save(kept, bad[damage], allow_pickle=True)
    again = extract([record])
    assert again.dtype == np.float32 and np.allclose(again, columns(record))
    assert np.array_equal(np.load(kept), again[0])  # and the file is mended


def test_a_sound_file_is_used(backbone: Path, record: Record, tmp_path: Path) -> None:
    extract = FeatureExtractor(backbone, (SIDE, SIDE), tmp_path / "cache")
    extract([record])
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    np.save(kept, np.full(SIDE, 7, np.float32))
    assert (extract([record]) == 7).all()


def test_all_unreadable_pictures_are_named(backbone: Path, record: Record, tmp_path: Path) -> None:
    broken = []
    for name in [f"broken{i:02d}.png" for i in range(23)]:
        (tmp_path / name).write_bytes(b"not a picture")
        broken.append(Record(tmp_path / name, "good"))
    missing = Record(tmp_path / "missing.png", "good")
    extract = FeatureExtractor(backbone, (SIDE, SIDE), tmp_path / "cache")
    with pytest.raises(ImageError, match=r"broken01.png: ") as alone:
        extract([record, broken[1]])
    assert "pictures cannot be read" not in str(alone.value)
    with pytest.raises(ImageError, match="images: 2 pictures cannot be read") as two:
        extract([broken[0], record, missing])
    assert "broken00.png" in str(two.value) and "missing.png cannot be read" in str(two.value)
    with pytest.raises(ImageError, match="23 pictures .*") as many:
        extract(broken)
    assert "broken19.png" in str(many.value) and "broken20.png" not in str(many.value)
    assert "and 3 more" in str(many.value)


def test_without_room_for_the_cache_the_run_goes_on(
    backbone: Path, record: Record, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    extract = FeatureExtractor(backbone, (SIDE, SIDE), tmp_path / "cache")
    assert np.allclose(extract([record]), columns(record))
    assert np.allclose(extract([record], view=2), columns(record)[::-1])
    assert caplog.text.count("features are not kept") == 1
