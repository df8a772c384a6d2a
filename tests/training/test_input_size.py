"""Which input a set's pictures suggest, and a model whose input is a strip."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
        ([(400, 1000)] * 4, (320, 320)),  # no strip yet
        ([(160, 640)] * 4, (160, 640)),
        ([(160, 1000)] * 4, (128, 800)),  # as many pixels as a square of 320
        ([(1000, 160)] * 4, (800, 128)),
        ([(40, 400)] * 4, (71, 708)),  # as many as one of 224
        ([(160, 640)] * 2 + [(640, 160)] * 2, (224, 224)),
        ([(160, 640)] * 6 + [(100, 2000)] * 6, (160, 640)),  # the less lengthy decides
        ([(4, 4000)] * 4, (32, 1024)),
    ],
)
def test_input_follows_the_pictures(
    sizes: list[tuple[int, int]], chosen: tuple[int, int], tmp_path: Path
) -> None:
    assert choose_input_size(make(tmp_path / "set", *sizes)) == chosen


def test_a_detector_sees_more(tmp_path: Path) -> None:
    assert choose_input_size(make(tmp_path / "set", (160, 640)), most=640) == (160, 640)
    assert choose_input_size(make(tmp_path / "long", (320, 1280)), most=640) == (320, 1024)


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


def test_a_strip_is_taught_and_every_path_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twonines.training.teach.LEAST_PIXELS", 64)
    rng = np.random.default_rng(0)
    for side, name, count in (("train", "good", 60), ("test", "good", 10), ("test", "cut", 10)):
        folder = tmp_path / "strips" / side / name
        folder.mkdir(parents=True)
        for index in range(count):
            image = rng.normal(128, 10, (30, 240)).clip(0, 255).astype(np.uint8)
            if name == "cut":
                at = int(rng.integers(0, 220))
                image[8:20, at : at + 12] = 255
            Image.fromarray(image).save(folder / f"{index:03}.png")
    result = teach_and_measure(
        load_dataset("mvtec", tmp_path / "strips"), tmp_path / "run", TeachOptions(),
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert result.card.input_size == (32, 240)
    assert result.card.parity["http"] <= 1e-4
    assert result.card.metrics["auroc"].value > 0.95
