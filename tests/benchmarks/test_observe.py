"""What a model says of each picture of a test set."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tiny_card, write_tiny_model
from tests.datasets import archives
from tests.images import draw_part
from twonines.benchmarks.observe import _found, _kinds, observe
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Record
from twonines.models.card import ModelCard, Policy
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.types import Verdict


@pytest.fixture
def session(tmp_path: Path) -> InspectionSession:
    model = write_tiny_model(tmp_path / "m.onnx", tiny_card())
    return InspectionSession.load(model, execution_provider="cpu")


def test_a_picture_that_cannot_be_read_is_an_error_and_has_no_tally(
    tmp_path: Path, session: InspectionSession
) -> None:
    draw_part(tmp_path / "a.png", 1, defective=False)
    (tmp_path / "b.png").write_bytes(b"no picture")
    draw_part(tmp_path / "c.png", 2, defective=True)
    records = [
        Record(tmp_path / "a.png", "good"),
        Record(tmp_path / "b.png", "good"),
        Record(tmp_path / "c.png", "scratch", boxes=(Box(0, 0, 16, 32, "scratch"),)),
    ]
    archives.mask(tmp_path / "empty.png", 0, (32, 32))
    draw_part(tmp_path / "d.png", 3, defective=True)
    blank = MaskFile(tmp_path / "empty.png")
    records.append(Record(tmp_path / "d.png", "scratch", mask=blank))
    seen = observe(session, records)
    verdicts = [i.verdict for i in seen.judged.inspections]
    assert verdicts == [Verdict.OK, Verdict.ERROR, Verdict.NG, Verdict.NG]
    # good pixels are known without a mask; those of a defect are not, nor with an empty one
    assert [one is None for one in seen.tallies] == [False, True, True, True]
    assert seen.boxes[1] is None and seen.boxes[2] is not None
    assert seen.boxes[2].found.tolist() == [[0, 0, 16, 32]] == seen.boxes[2].true.tolist()


def test_kinds_that_only_boxes_name_are_never_found() -> None:
    marked = [Record(Path("a"), "scratch", boxes=(Box(0, 0, 1, 1, "dent"),))]
    three = tiny_card(classes=("good", "scratch", "stain"))
    assert _kinds(three, marked) == ("scratch", "stain", "dent")
    assert _kinds(tiny_card(), marked) == ("scratch",)  # one kind finds without naming
    assert _kinds(tiny_card(classes=("dent", "stain")), marked) == ("dent", "stain")


def test_boxes_of_a_detector_come_in_pixels_of_the_picture() -> None:
    card = tiny_card(task="detect", classes=("good", "dent", "scratch"))
    outputs = Outputs(
        score=np.array([0.9], np.float32),
        class_scores=np.array([[0.1, 0.2, 0.7]], np.float32),
        defect_map=np.zeros((1, 4, 4), np.float32),
        novelty=np.zeros(1, np.float32),
        boxes=np.array([[[0, 0, 16, 8], [4, 4, 8, 8], [0, 0, 0, 0]]], np.float32),
        box_scores=np.array([[0.9, 0.2, 0]], np.float32),
        box_classes=np.array([[2, 1, 0]], np.int64),
    )
    boxes, scores, kinds = _found(outputs, 0, card, ("dent", "scratch"), (64, 96))
    assert boxes.tolist() == [[0, 0, 48, 16], [12, 8, 24, 16]]  # padding is gone
    assert scores.tolist() == pytest.approx([0.9, 0.2])  # below the policy's threshold too
    assert kinds.tolist() == [1, 0]


def test_places_name_their_kind_where_the_model_says_so() -> None:
    card: ModelCard = tiny_card(
        classes=("good", "dent", "scratch"), policy=Policy(threshold=0.5, min_region_area=0)
    )
    defect_map = np.zeros((1, 4, 4), np.float32)
    defect_map[0, :2, :2] = 0.8
    defect_map[0, 3, 3] = 0.6
    places = np.ones((1, 4, 4), np.int64)
    places[0, :2, :2] = 2
    outputs = Outputs(
        np.array([0.9], np.float32), np.array([[0.1, 0.2, 0.7]], np.float32), defect_map,
        np.zeros(1, np.float32), map_classes=places,
    )  # fmt: skip
    boxes, scores, kinds = _found(outputs, 0, card, ("dent", "scratch"), (8, 8))
    assert boxes == [(0, 0, 4, 4), (6, 6, 8, 8)] and kinds == [1, 0]
    assert scores == pytest.approx([0.8, 0.6])
