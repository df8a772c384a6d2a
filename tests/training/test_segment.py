"""The task ``segment`` on generated parts: the whole recipe, with masks, boxes and labels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from tests.training.defects import KINDS, SIDE, make_parts
from twonines.benchmarks.bench import run_bench
from twonines.benchmarks.teaching import teach_and_measure
from twonines.cli.app import app
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.masks import read_mask
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split
from twonines.errors import DatasetError
from twonines.models.decision import decide
from twonines.models.image import load
from twonines.models.maps import MapBackbone, MapHead, MapWeights
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.training import segment
from twonines.training.export import Reference, export_backbone
from twonines.training.features import FeatureExtractor
from twonines.training.lesson import Lesson, Taught
from twonines.training.marks import Marks, read_marks
from twonines.training.regions import SMALLEST_AREAS, THRESHOLDS
from twonines.training.segment import learn_places, read_levels
from twonines.training.teach import _LESSONS as TASKS
from twonines.training.teach import TeachResult, choose_task
from twonines.training.teach_options import TeachOptions
from twonines.types import Verdict

SIZE = (SIDE, SIDE)
SMALL = TeachOptions(input_size=SIDE, views=1)
COUNTS = {"good": 20, "square": 16, "stripe": 16}


@pytest.fixture(scope="module", autouse=True)
def short_fits() -> Iterator[None]:
    """A third of the steps is enough for these pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twonines.training.pixels.STEPS", 200)
        yield


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_parts(tmp_path_factory.mktemp("parts"), COUNTS, masks=True, boxes=True)


@pytest.fixture(scope="module")
def masked(parts: Dataset) -> Dataset:
    return replace(parts, records=tuple(replace(r, boxes=()) for r in parts.records))


@pytest.fixture(scope="module")
def run(
    masked: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TeachResult, Reference]:
    kept: list[Reference] = []

    def teach(lesson: Lesson) -> Taught:
        found = segment.teach_segments(lesson)
        assert isinstance(found.reference, Reference)
        kept.append(found.reference)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "segment", teach)
        result = teach_and_measure(masked, tmp_path_factory.mktemp("run"), SMALL, cache=cache)
    return result, kept[0]


def run_on(result: TeachResult, records: tuple[Record, ...]) -> Outputs:
    session = InspectionSession.load(result.model, execution_provider="cpu")
    return session.run(np.stack([load(record.path, SIZE) for record in records]))


def test_auto_teaches_a_map_and_every_path_agrees(run: tuple[TeachResult, Reference]) -> None:
    result, _ = run
    card = result.card
    assert (card.task, card.classes, card.recipe) == ("segment", ("good", *KINDS), "teach")
    assert result.parity.pictures == card.training_data.n_test > 5
    assert card.parity["reference"] <= 1e-4 and card.parity["http"] <= 1e-4
    told = sum(r.is_defective for r in result.split.calibration)
    assert card.calibration.parameters["masks"] == told
    assert card.calibration.parameters["region_iou"] > 0.4
    assert card.policy.region_threshold in THRESHOLDS.tolist()
    assert card.policy.min_region_area in SMALLEST_AREAS
    kept = InspectionSession.load(result.model, execution_provider="cpu").card.policy
    assert kept == card.policy


def test_regions_are_named_by_their_own_kind(run: tuple[TeachResult, Reference]) -> None:
    result, _ = run
    outputs = run_on(result, result.split.test)
    assert outputs.map_classes is not None and set(np.unique(outputs.map_classes)) <= {1, 2}
    # The picture's class is turned round: names must come from the map, not from it.
    turned = replace(outputs, class_scores=outputs.class_scores[:, [0, 2, 1]])
    pairs = zip(result.split.test, decide(turned, result.card, [SIZE] * len(outputs)), strict=True)
    found = [(r, i) for r, i in pairs if r.is_defective and i.verdict is Verdict.NG]
    assert len(found) >= 5
    named = [i.regions[0].defect_class == r.defect_class for r, i in found if i.regions]
    assert len(named) == len(found) and np.mean(named) > 0.8


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_onnx_gives_what_pytorch_gives(run: tuple[TeachResult, Reference], count: int) -> None:
    result, reference = run
    # Pictures that were not taught: the novelty of one that was is the root of a rounding error.
    held = (*result.split.test, *result.split.calibration)
    records = (held * 4)[:count]
    images = np.stack([load(record.path, SIZE) for record in records])
    with torch.inference_mode():
        expected = [value.numpy() for value in reference(torch.from_numpy(images))]
    got = InspectionSession.load(result.model, execution_provider="cpu").run(images)
    for name, value in zip(("score", "class_scores", "defect_map"), expected, strict=False):
        assert np.allclose(getattr(got, name), value, atol=1e-4), name
    assert np.allclose(got.novelty, expected[3], rtol=1e-3)
    assert got.map_classes is not None and got.map_classes.shape == expected[4].shape
    # A place where two kinds are level may fall to either side of a rounding error.
    assert (got.map_classes != expected[4]).mean() < 1e-3


def test_same_seed_gives_the_same_graph(
    run: tuple[TeachResult, Reference], masked: Dataset, cache: Path, tmp_path: Path
) -> None:
    again = teach_and_measure(masked, tmp_path, SMALL, cache=cache)
    assert again.card.version == run[0].card.version


def label(record: Record) -> Record:
    return replace(record, mask=None, boxes=())


def test_labels_choose_the_task(parts: Dataset) -> None:
    good = tuple(label(r) for r in parts.records if not r.is_defective)
    bad = tuple(r for r in parts.records if r.is_defective)
    plain = tuple(label(r) for r in bad)

    def task(train: tuple[Record, ...]) -> str:
        return choose_task(Split(kind="random", seed=0, train=train, calibration=(), test=()))

    assert task(good) == "anomaly"
    assert task((*good, *plain)) == task(plain) == "classify"
    assert task((*good, *plain[1:], replace(bad[0], boxes=()))) == "segment"
    assert task((*good, *plain[1:], replace(bad[0], mask=None))) == "segment"
    # An empty mask beside a good picture tells nothing of defects.
    masks = tuple(r for r in parts.records if not r.is_defective)
    assert task((*masks, *plain)) == "classify" and task(masks) == "anomaly"


def test_pictures_without_marks_are_refused(parts: Dataset, cache: Path, tmp_path: Path) -> None:
    plain = replace(parts, records=tuple(label(r) for r in parts.records))
    with pytest.raises(DatasetError, match="a mask or boxes, got none; --task classify"):
        teach_and_measure(plain, tmp_path, replace(SMALL, task="segment"), cache=cache)
    assert not (tmp_path / "model.onnx").exists()


def test_empty_masks_are_told_and_not_taught(
    masked: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", SIZE).save(blank)
    bad = [r.path for r in masked.records if r.is_defective]

    def emptied(count: int) -> Dataset:
        few = set(bad[:: max(1, len(bad) // count)][:count])
        records = (replace(r, mask=MaskFile(blank)) if r.path in few else r for r in masked.records)
        return replace(masked, records=tuple(records))

    asked: list[Record] = []

    def watched(record: Record, *rest: Any) -> Marks:
        asked.append(record)
        return read_marks(record, *rest)

    monkeypatch.setattr(segment, "read_marks", watched)
    result = teach_and_measure(emptied(8), tmp_path / "run", SMALL, cache=cache)
    taught = (*result.split.train, *result.split.calibration)
    told = sum(r.mask is not None and r.is_defective for r in taught)
    empty = sum(r.mask == MaskFile(blank) for r in taught)
    assert (result.masks.read, result.masks.empty) == (told, empty) and empty >= 4
    in_training = sum(r.mask == MaskFile(blank) for r in result.split.train)
    assert sum(r.is_defective and r.mask is None for r in asked) == in_training > 0
    held = sum(r.is_defective and r.mask != MaskFile(blank) for r in result.split.calibration)
    assert result.card.calibration.parameters["masks"] == held
    with pytest.raises(DatasetError, match="masks: at least one must mark a defect"):
        teach_and_measure(emptied(len(bad)), tmp_path / "none", SMALL, cache=cache)
    assert not (tmp_path / "none/model.onnx").exists()


@pytest.fixture(scope="module")
def extract(cache: Path) -> FeatureExtractor:
    return FeatureExtractor(export_backbone(MapBackbone(), SIZE, cache), SIZE, cache)


def pixel_ap(extract: FeatureExtractor, weights: MapWeights, records: list[Record]) -> float:
    """Average precision of the map's places, enlarged to pixels, on pictures not taught."""
    head, answers, truth = MapHead(weights).eval(), [], []
    for picture in read_levels(extract, records):
        with torch.inference_mode():
            logits = head(*(torch.from_numpy(level)[None] for level in picture.values))[0]
        answers.append(np.kron(logits[0].numpy(), np.ones((4, 4), np.float32)).ravel())
        mask = read_mask(picture.record, picture.size)
        truth.append(np.zeros(SIDE * SIDE, bool) if mask is None else mask.ravel())
    return float(average_precision_score(np.concatenate(truth), np.concatenate(answers)))


def test_more_told_is_more_found(parts: Dataset, extract: FeatureExtractor) -> None:
    held = [r for i, r in enumerate(parts.records) if i % 4 == 0]
    train = [r for i, r in enumerate(parts.records) if i % 4]
    bad = [r for r in train if r.is_defective]
    few = {r.path for r in bad[:: len(bad) // 2]}  # a mask for a tenth
    told = {
        "masks": [replace(r, boxes=()) for r in train],
        "boxes": [replace(r, mask=None) for r in train],
        "labels": [label(r) for r in train],
        "few": [replace(r, boxes=()) if r.path in few else label(r) for r in train],
    }
    ap = {
        name: pixel_ap(extract, learn_places(extract, records, parts.classes, 0), held)
        for name, records in told.items()
    }
    assert ap["masks"] > 0.8, ap
    assert ap["masks"] > ap["labels"] + 0.02, ap
    assert ap["boxes"] > 0.6 and ap["few"] > 0.5, ap


@pytest.fixture(scope="module")
def defects(
    masked: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, TeachResult]:
    """A set in which every picture is defective, and its model."""
    bad = replace(masked, records=tuple(r for r in masked.records if r.is_defective))
    out = tmp_path_factory.mktemp("defects")
    return bad, teach_and_measure(bad, out, SMALL, cache=cache)


def test_without_good_parts_nothing_is_ok(defects: tuple[Dataset, TeachResult]) -> None:
    _, result = defects
    card = result.card
    assert (card.task, card.classes, card.has_good) == ("segment", KINDS, False)
    assert card.metrics["typing_accuracy"].value > 0.8
    assert not {"escape_rate", "overkill_rate", "auroc"} & set(card.metrics)
    outputs = run_on(result, result.split.test)
    quiet = replace(outputs, score=np.zeros(len(outputs), np.float32))
    for inspection in decide(quiet, card, [SIZE] * len(outputs)):
        assert inspection.verdict is Verdict.REVIEW
        assert "knows no good parts, so it cannot accept one" in inspection.reasons[0]
    assert Verdict.OK not in {i.verdict for i in decide(outputs, card, [SIZE] * len(outputs))}


def test_show_and_bench_say_so(defects: tuple[Dataset, TeachResult], tmp_path: Path) -> None:
    dataset, result = defects
    picture, out = result.split.test[0].path, tmp_path / "overlay.png"
    shown = CliRunner().invoke(app, ["show", str(result.model), str(picture), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith(("NG", "REVIEW")) and out.stat().st_size > 0
    report = run_bench(result.model, dataset, tmp_path, throughput=False, rounds=1)
    assert not report["decides"] and report["typing"]["value"] > 0.8
    assert "Accept or reject is not tested" in (tmp_path / "report.html").read_text()
