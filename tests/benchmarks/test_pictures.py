from pathlib import Path

import pytest
from PIL import Image

from tests.images import png
from twonines.benchmarks.evaluate import Judged
from twonines.benchmarks.pictures import write_confusion, write_mistakes
from twonines.benchmarks.plots import plot_confusion
from twonines.datasets.record import Record
from twonines.types import Inspection, Verdict

NAMES = ("$x$ $\\frac{$ ", "划痕", "a_b^c $", "\\$1 & <b>")


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("name", NAMES)
def test_any_class_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    names = ["good", name]
    table = {"rows": names, "columns": names, "counts": [[3, 0], [1, 2]]}
    write_confusion(table, tmp_path / "confusion.png")
    assert min(size(tmp_path / "confusion.png")) > 100
    assert "<svg" in plot_confusion({"confusion": table})
    picture = tmp_path / f"{name.replace('/', '')}.png"
    picture.write_bytes(png(200))
    wrong = Judged((Record(picture, name),), (Inspection(Verdict.OK, 0.1, "good"),), 1.0)
    write_mistakes(wrong, tmp_path / "mistakes.png")
    assert min(size(tmp_path / "mistakes.png")) > 100
