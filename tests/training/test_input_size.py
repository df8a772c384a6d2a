"""Which input a set's pictures suggest, and a model whose input is a strip."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from twonines.benchmarks.teaching import teach_and_measure
from twonines.cli.options import read_input_size
from twonines.datasets.record import Dataset
from twonines.datasets.registry import load_dataset
from twonines.errors import SettingsError
from twonines.training.teach import choose_input_size
from twonines.training.teach_options import TeachOptions


def make(root: Path, *sizes: tuple[int, int], orientation: int = 1) -> Dataset:
    """A set of one blank picture of each (height, width)."""
    (root / "good").mkdir(parents=True)
    for index, (height, width) in enumerate(sizes):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("L", (width, height), 128).save(root / f"good/{index:03}.jpg", exif=exif)
    return load_dataset("folder", root)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(300, 300)] * 4, (300, 300)),
        ([(100, 100)] * 4, (224, 224)),
        ([(1000, 1200)] * 4, (320, 320)),
        ([(200, 599)] * 4, (224, 224)),
        ([(200, 600)] * 4, (185, 554)),  # from three times on a strip
        ([(200, 601)] * 4, (185, 555)),
        ([(160, 640)] * 19 + [(300, 300)], (160, 640)),  # few others do not count
        ([(160, 640)] * 16 + [(300, 300)] * 4, (224, 224)),
        ([(160, 640)] * 4, (160, 640)),
        ([(160, 1000)] * 4, (128, 800)),  # as many pixels as a square of 320
        ([(1000, 160)] * 4, (800, 128)),
        ([(40, 400)] * 4, (71, 708)),  # as many as one of 224
        ([(160, 640)] * 2 + [(640, 160)] * 2, (224, 224)),
        ([(160, 640)] * 6 + [(100, 2000)] * 6, (160, 640)),  # the less lengthy decides
        ([(512, 4096)] * 4, (113, 905)),
        ([(512, 8192)] * 4, (64, 1024)),  # as the longest side allows
        ([(4, 4000)] * 4, (32, 1024)),
    ],
)
def test_input_follows_the_pictures(
    sizes: list[tuple[int, int]], chosen: tuple[int, int], tmp_path: Path
) -> None:
    assert choose_input_size(make(tmp_path / "set", *sizes)) == chosen


def test_a_detector_sees_more(tmp_path: Path) -> None:
    assert choose_input_size(make(tmp_path / "set", (160, 640)), most=640) == (160, 640)
    assert choose_input_size(make(tmp_path / "long", (320, 1280)), most=640) == (256, 1024)


def test_pictures_are_taken_as_they_stand(tmp_path: Path) -> None:
    assert choose_input_size(make(tmp_path / "set", (160, 640), orientation=6)) == (640, 160)


def test_what_cannot_be_read_does_not_count(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", (160, 640), (160, 640))
    dataset.records[0].path.write_bytes(b"nothing")
    assert choose_input_size(dataset) == (160, 640)
    dataset.records[1].path.write_bytes(b"")
    assert choose_input_size(dataset) == (224, 224)


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("224", 224), ("160x400", (160, 400)), ("160X400", (160, 400))]
)
def test_sizes_are_read(text: str | None, size: int | tuple[int, int] | None) -> None:
    assert read_input_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "64x", "64x64x3", "-64", "64.0", "²", "big"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="^input_size: must be as 224 or 160x400"):
        read_input_size(text)


def test_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(tmp_path / "set", (160, 640))
    path = dataset.records[0].path
    for orientation, chosen in ((None, (160, 640)), (8, (640, 160))):
        exif = Image.Exif()
        if orientation is not None:
            exif[0x0112] = orientation
        Image.new("L", (640, 160)).save(path, "PNG", exif=exif)
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
            assert choose_input_size(dataset) == chosen


def make_strips(root: Path, kind: str) -> Dataset:
    """Lying strips with a bright square on the bad ones; ``segment`` with masks, else apart."""
    rng = np.random.default_rng(0)
    rows = ["path,label,mask"]
    for label, count in (("good", 100), ("cut", 24)):
        for index in range(count):
            part = "train" if label == "good" and index < 90 else "test"
            folder = root / "pictures" / part / label
            folder.mkdir(parents=True, exist_ok=True)
            image = rng.normal(128, 10, (30, 240)).clip(0, 255).astype(np.uint8)
            mask = np.zeros_like(image)
            if label == "cut":
                at = int(rng.integers(0, 220))
                image[8:20, at : at + 12] = mask[8:20, at : at + 12] = 255
            Image.fromarray(image).save(folder / f"{index:03}.png")
            Image.fromarray(mask).save(root / f"{label}-{index}.png")
            rows.append(f"pictures/{part}/{label}/{index:03}.png,{label},{label}-{index}.png")
    (root / "parts.csv").write_text("\n".join(rows) + "\n")
    return (
        load_dataset("table", root / "parts.csv")
        if kind == "segment"
        else load_dataset("mvtec", root / "pictures")
    )


@pytest.mark.parametrize("kind", ["anomaly", "segment"])
def test_a_strip_is_taught_and_every_path_agrees(
    kind: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twonines.training.teach.LEAST_PIXELS", 64)
    dataset = make_strips(tmp_path, kind)
    result = teach_and_measure(dataset, tmp_path / "run", TeachOptions(), cache=cache)
    assert (result.card.task, result.card.input_size) == (kind, (32, 240))
    assert result.card.parity["http"] <= 1e-4
    assert result.card.metrics["auroc"].value > 0.95
