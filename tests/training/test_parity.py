from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.made_models import write_comparing_model
from twonines.benchmarks.teaching import http_scores
from twonines.datasets.record import Record
from twonines.errors import GateError, ImageError
from twonines.models.decision import decide
from twonines.models.inspector import Inspector
from twonines.models.outputs import Outputs
from twonines.models.quality import learn_limits, measure
from twonines.models.session import InspectionSession
from twonines.training import parity
from twonines.training.parity import BATCH_SIZES, check_parity, differences
from twonines.types import FloatArray, Inspection


class Tiny(nn.Module):
    """The tiny model in PyTorch; one output may be off by ``amount``."""

    def __init__(self, off: str = "", amount: float = 0.0) -> None:
        super().__init__()
        self.off, self.amount = off, amount

    def forward(self, images: Tensor, references: Tensor | None = None) -> tuple[Tensor, ...]:
        pixels = images.float() if references is None else images.float() - references.float()
        grey = pixels.mean(3) / 255
        centred = grey.mean((1, 2)) - 0.5
        score = torch.sigmoid(centred * 20)
        found = {"score": score, "class_scores": torch.stack([1 - score, score], 1),
                 "defect_map": grey, "novelty": centred.abs()}  # fmt: skip
        if self.off:
            found[self.off] = found[self.off] + self.amount
        return tuple(found.values())


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    made = []
    for index, value in enumerate((10, 200, 240)):
        path = tmp_path / f"{index}.png"
        path.write_bytes(png(value))
        made.append(Record(path, "good"))
    return made


def test_equals_pass(tiny_model: Path, records: list[Record]) -> None:
    found = check_parity(Tiny(), tiny_model, records, None)
    assert found.pictures == 3 and found.reference <= 1e-5 and found.http is None
    assert [i.verdict for i in found.inspections] == ["OK", "NG", "NG"]


@pytest.mark.parametrize(
    ("output", "amount", "reason"),
    [
        ("score", 2e-4, "PyTorch and ONNX must agree to 0.0001"),
        ("class_scores", 2e-4, "PyTorch and ONNX must agree to 0.0001"),
        ("defect_map", 2e-3, "PyTorch's map and ONNX must agree to 0.001"),
        ("novelty", 2e-2, "PyTorch's novelty and ONNX must agree to 0.01"),
        ("score", float("nan"), "must agree"),
        ("defect_map", float("nan"), "must agree"),
    ],
)
def test_every_output_that_differs_stops_the_gate(
    tiny_model: Path, records: list[Record], output: str, amount: float, reason: str
) -> None:
    with pytest.raises(GateError, match=reason):
        check_parity(Tiny(output, amount), tiny_model, records, None)


def test_http_must_answer_all_and_the_same(tiny_model: Path, records: list[Record]) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    grey = np.array([10, 200, 240], np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (3, 32, 32, 3)).copy()
    scores = [float(s) for s in session.run(images).score]

    def gate(scores: list[float], said: list[str]) -> float | None:
        def answer(*_: object) -> tuple[FloatArray, list[str]]:
            return np.array(scores, np.float32), said

        return check_parity(Tiny(), tiny_model, records, answer).http

    assert gate(scores, ["OK", "NG", "NG"]) == 0
    with pytest.raises(GateError, match="HTTP must answer 3 pictures, got 2"):
        gate(scores[:2], ["OK", "NG"])
    with pytest.raises(GateError, match="HTTP says OK and ONNX NG for 2.png"):
        gate(scores, ["OK", "NG", "OK"])
    with pytest.raises(GateError, match="HTTP and ONNX must agree .* on 0.png"):
        gate([scores[0] + 1e-3, *scores[1:]], ["OK", "NG", "NG"])


def test_few_pictures_are_run_in_every_batch_size_and_one_that_differs_is_named(
    tiny_model: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = InspectionSession.run, []

    def watched(self: InspectionSession, images: Any, *rest: Any, **how: Any) -> Outputs:
        seen.append(len(images))
        outputs = run(self, images, *rest, **how)
        if len(images) == 7:  # as if rows of a batch were mixed up
            outputs = replace(outputs, score=np.roll(outputs.score, 1))
        return outputs

    monkeypatch.setattr(InspectionSession, "run", watched)
    with pytest.raises(GateError, match="to 0.0001 in a batch of 7, differ by .* on 0.png"):
        check_parity(Tiny(), tiny_model, records, None)
    monkeypatch.setattr(parity, "BATCH_SIZES", tuple(s for s in BATCH_SIZES if s != 7))
    seen.clear()
    check_parity(Tiny(), tiny_model, records, None)
    assert seen == [1, 1, 1, 2, 1, 32, 3] and set(seen) > {1, 2, 32}


def test_maps_of_many_pictures_are_not_kept(
    tiny_model: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    alive: list[weakref.ref[Any]] = []
    most = 0

    decide = Inspector.decide

    def watched(self: Inspector, outputs: Outputs, pictures: Any) -> list[Inspection]:
        nonlocal most
        alive.append(weakref.ref(outputs.defect_map))
        most = max(most, sum(kept() is not None for kept in alive))
        return decide(self, outputs, pictures)

    monkeypatch.setattr(Inspector, "decide", watched)
    found = check_parity(Tiny(), tiny_model, records * 20, None)
    assert found.pictures == 60 and len(alive) == 16
    assert most <= 4  # those of this batch and, until they are replaced, of the one before


def boxed(**changes: Any) -> Outputs:
    """One picture with a map of kinds and three boxes, the last of them too weak to count."""
    values: dict[str, Any] = {
        "score": np.array([0.9], np.float32),
        "class_scores": np.array([[0.1, 0.9]], np.float32),
        "defect_map": np.zeros((1, 40, 50), np.float32),
        "novelty": np.zeros(1, np.float32),
        "map_classes": np.ones((1, 40, 50), np.int64),
        "boxes": np.array([[[0, 0, 9, 9], [20, 20, 30, 30], [1, 1, 2, 2]]], np.float32),
        "box_scores": np.array([[0.9, 0.8, 0.01]], np.float32),
        "box_classes": np.array([[1, 1, 0]], np.int64),
    }
    return Outputs(**values | changes)


def faults(theirs: Outputs) -> list[str]:
    return [n for n, apart, most in differences(theirs, boxed()) if not (apart <= most).all()]


def edited(name: str, change: Callable[[Any], None]) -> Outputs:
    value = getattr(boxed(), name).copy()
    change(value)
    return boxed(**{name: value})


def test_kinds_of_the_map_must_agree() -> None:
    assert faults(boxed()) == []

    def turn(count: int) -> Callable[[Any], None]:
        return lambda kinds: kinds[0, 0].__setitem__(slice(0, count), 0)

    assert faults(edited("map_classes", turn(2))) == []  # 2 of 2,000 places may be level
    assert faults(edited("map_classes", turn(3))) == ["kinds of the map"]


@pytest.mark.parametrize(
    ("name", "place", "value", "wrong"),
    [
        ("boxes", (0, 1, 2), 30.4, False),
        ("boxes", (0, 1, 2), 30.6, True),
        ("boxes", (0, 1, 2), np.nan, True),
        ("boxes", (0, 2, 2), 5, False),  # too weak to count
        ("box_scores", (0, 0), 0.9005, False),
        ("box_scores", (0, 0), 0.902, True),
        ("box_scores", (0, 0), np.nan, True),
        ("box_scores", (0, 2), 0.2, True),  # a box that only one of them sees
        ("box_scores", (0, 1), 0.0, True),
        ("box_classes", (0, 1), 0, True),
    ],
)
def test_boxes_must_agree(name: str, place: tuple[int, ...], value: float, wrong: bool) -> None:
    other = edited(name, lambda array: array.__setitem__(place, value))
    assert faults(other) == (["boxes"] if wrong else [])


def test_the_order_of_boxes_does_not_matter() -> None:
    order = [1, 0, 2]
    mixed = {name: getattr(boxed(), name)[:, order] for name in ("boxes", "box_scores")}
    assert faults(boxed(**mixed)) == []


def test_pairs_are_checked_over_http_with_their_references(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = []
    for index in range(5):
        texture = rng.integers(40, 200, (16, 16)).astype(np.uint8)
        whole = np.asarray(
            PILImage.fromarray(texture).resize((64, 64), PILImage.Resampling.BICUBIC)
        )
        # The picture lies two pixels beside its reference, so that aligning is part of the gate.
        shown = np.roll(whole, 2, 1).astype(int)
        shown = np.clip(shown + (150 if index % 2 else 0), 0, 255).astype(np.uint8)
        path, golden = tmp_path / f"{index}.png", tmp_path / f"{index}_golden.png"
        PILImage.fromarray(shown).convert("RGB").save(path)
        PILImage.fromarray(whole).convert("RGB").save(golden)
        made.append(Record(path, "good", reference=golden))
    model = write_comparing_model(tmp_path / "m.onnx", tiny_card(reference=True))
    found = check_parity(Tiny(), model, made, http_scores)
    assert found.http is not None and found.http <= 1e-5
    said = [i.verdict.value for i in found.inspections]
    assert said[0] == "OK" and len({i.score for i in found.inspections}) == 5
    # Another picture's reference is not the same part: the gate must see it.
    turned = [
        replace(a, reference=b.reference) for a, b in zip(made, made[1:] + made, strict=False)
    ]

    def wrong(path: Path, _: object) -> tuple[FloatArray, list[str]]:
        return http_scores(path, turned)

    with pytest.raises(GateError, match="HTTP and ONNX must agree"):
        check_parity(Tiny(), model, made, wrong)
    bare = [replace(record, reference=None) for record in made]
    with pytest.raises(ImageError, match="0.png: reference: must be given"):
        check_parity(Tiny(), model, bare, None)
    with pytest.raises(GateError, match="HTTP must answer for 0.png, but .* reference"):
        http_scores(model, bare[:1])


def test_the_verdicts_are_those_of_the_card_with_its_limits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noise(around: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return rng.integers(around - 9, around + 9, (32, 32, 3)).astype(np.uint8)

    limits = learn_limits(measure((32, 32), noise(value)) for value in (190, 200, 210))
    model = write_tiny_model(tmp_path / "m.onnx", tiny_card(quality=limits))
    records = []
    for value in (30, 200):
        path = tmp_path / f"{value}.png"
        PILImage.fromarray(noise(value)).save(path)
        records.append(Record(path, "good"))
    found = check_parity(Tiny(), model, records, http_scores)
    assert [i.verdict for i in found.inspections] == ["REVIEW", "NG"]
    assert "too dark" in found.inspections[0].reasons[0]
    assert found.http is not None and found.http <= 1e-5


def test_a_model_without_skill_is_never_ok(tmp_path: Path) -> None:
    card = tiny_card(skill_fault="no skill shown: AUROC 0.5")
    session = InspectionSession.load(
        write_tiny_model(tmp_path / "m.onnx", card), execution_provider="cpu"
    )
    outputs = session.run(np.stack([np.full((32, 32, 3), v, np.uint8) for v in (10, 240)]))
    for fault in (None, "it was withdrawn"):
        dark, bright = decide(outputs, session.card, [(32, 32)] * 2, fault=fault)
        assert (dark.verdict, bright.verdict) == ("REVIEW", "NG")
        assert dark.reasons == ("no skill shown: AUROC 0.5",) and not bright.reasons
    assert session.card.decision_digest() != tiny_card().decision_digest()


def test_boxes_without_a_score_are_never_alike() -> None:
    bad = edited("box_scores", lambda scores: scores.__setitem__((0, 0), np.nan))
    found = {name: apart for name, apart, _ in differences(bad, bad)}
    assert np.isinf(found["boxes"]).all()
