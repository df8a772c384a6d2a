import numpy as np
import pytest

from tests.conftest import tiny_card, write_tiny_model
from twonines.models.image import encode_png
from twonines.models.inspector import Inspector
from twonines.models.overlay import SMALLEST, draw, explain
from twonines.models.session import InspectionSession
from twonines.types import Inspection, Region, Verdict


def colours(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> set[tuple[int, ...]]:
    return {tuple(int(v) for v in pixel) for pixel in image.reshape(-1, 3)}


def test_region_and_map_are_drawn_where_they_are() -> None:
    image = np.full((100, 200, 3), 90, np.uint8)
    defect_map = np.zeros((10, 20), np.float32)
    defect_map[:, :5] = 1.0
    found = Inspection(Verdict.NG, 0.9, "scratch", {}, 1.0, (Region((0, 0, 50, 100), 9, 1.0, "x"),))
    drawn = draw(image, defect_map, found)
    assert drawn.shape == (SMALLEST + 64, 960, 3)
    body = drawn[64:]
    assert (255, 0, 200) in colours(body[:, :244])
    assert (255, 0, 200) not in colours(body[:, 250:])
    assert body[400, 120, 0] > 150 > body[400, 700, 0]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_colour(verdict: Verdict) -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    nothing = np.full((2, 2), np.nan, np.float32)
    heads = {tuple(int(v) for v in draw(image, nothing, Inspection(v))[1, -1]) for v in Verdict}
    assert len(heads) == len(Verdict)
    assert draw(image, nothing, Inspection(verdict))[64:].max() == 0


def test_explain_agrees_with_the_decision(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_tiny_model(tmp_path_factory.mktemp("m") / "m.onnx", tiny_card())
    session = InspectionSession.load(path, execution_provider="cpu")
    inspection, drawn = explain(
        Inspector(session), encode_png(np.full((700, 600, 3), 250, np.uint8))
    )
    assert inspection.verdict is Verdict.NG
    assert inspection.regions[0].box == (0, 0, 600, 700)
    assert drawn.shape == (764, 600, 3)


def test_a_strip_is_not_enlarged_beyond_memory() -> None:
    drawn = draw(
        np.zeros((1, 300, 3), np.uint8), np.zeros((1, 9), np.float32), Inspection(Verdict.OK)
    )
    assert drawn.shape == (64 + 6, 4 * SMALLEST, 3)
    long = np.zeros((1, 5000, 3), np.uint8)
    assert draw(long, np.zeros((1, 9), np.float32), Inspection(Verdict.OK)).shape == (65, 5000, 3)
