"""The whole recipe on a generated folder, with the real backbone and the real service."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from twonines.benchmarks.evaluate import judge_records
from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.record import Record
from twonines.datasets.registry import load_dataset
from twonines.errors import DatasetError, GateError, SettingsError
from twonines.models.card import Metric
from twonines.models.head import HeadWeights
from twonines.models.image import load
from twonines.models.session import InspectionSession
from twonines.training import fit
from twonines.training.teach import TeachResult, find_skill_fault
from twonines.training.teach_options import TeachOptions
from twonines.types import FloatArray, Verdict


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)
    for name, count in (("good", 40), ("scratch", 40)):
        (root / name).mkdir()
        for index in range(count):
            noise = rng.normal(128, 10, (64, 64)).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(noise).convert("RGB")
            if name == "scratch":
                x, y = (int(v) for v in rng.integers(0, 40, 2))
                ImageDraw.Draw(image).line((x, y, x + 20, y + 20), (255, 255, 255), 3)
            image.save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def taught(parts: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> TeachResult:
    out = tmp_path_factory.mktemp("run")
    options = TeachOptions(input_size=64)
    return teach_and_measure(load_dataset("folder", parts), out, options, cache=cache)


def test_run_folder_holds_what_it_must(taught: TeachResult) -> None:
    folder = taught.model.parent
    for name in ("model.onnx", "card.json", "metrics.json", "confusion.png", "mistakes.png"):
        assert (folder / name).stat().st_size > 0
    assert not (folder / "candidate.onnx").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["accuracy"]["value"] >= 0.9
    assert metrics["metrics"]["accuracy"]["low"] <= metrics["metrics"]["accuracy"]["value"]


def test_parity_covers_every_test_picture(taught: TeachResult) -> None:
    assert taught.parity.pictures == taught.card.training_data.n_test == 20
    assert taught.card.parity["reference"] <= 1e-4
    assert taught.card.parity["http"] <= 1e-4


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_batches_of_a_taught_model_agree(taught: TeachResult, count: int) -> None:
    session = InspectionSession.load(taught.model, execution_provider="cpu")
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    together = session.run(images)
    alone = np.concatenate([session.run(images[i : i + 1]).score for i in range(count)])
    assert np.allclose(together.score, alone, atol=1e-4)
    assert np.allclose(together.class_scores.sum(1), 1, atol=1e-5)
    assert together.defect_map.min() >= 0 and together.defect_map.max() <= 1


def test_same_seed_gives_the_same_weights(
    taught: TeachResult, parts: Path, cache: Path, tmp_path: Path
) -> None:
    options = TeachOptions(input_size=64)
    again = teach_and_measure(load_dataset("folder", parts), tmp_path, options, cache=cache)
    assert again.card.version == taught.card.version
    other = teach_and_measure(load_dataset("folder", parts), tmp_path, options, cache=cache, seed=1)
    assert other.card.version != taught.card.version


def test_features_come_from_the_cache(
    taught: TeachResult, parts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "twonines.training.features.FeatureExtractor._flush",
        lambda self, pending, rows: 1 / 0 if pending else 0,
    )
    options = TeachOptions(input_size=64)
    again = teach_and_measure(load_dataset("folder", parts), tmp_path, options, cache=cache)
    assert again.card.version == taught.card.version


@pytest.mark.parametrize("fault", ["score", "verdict"])
def test_a_service_that_differs_leaves_no_model(
    parts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def wrong(model: Path, records: list[Record]) -> tuple[object, list[str]]:
        session = InspectionSession.load(model, execution_provider="cpu")
        images = np.stack([load(r.path, session.input_size) for r in records])
        scores = session.run(images).score
        verdicts = ["NG" if s >= 0.5 else "OK" for s in scores]
        if fault == "score":
            scores[3] += 2e-4
        else:
            verdicts[3] = "REVIEW"
        return scores, verdicts

    monkeypatch.setattr("twonines.benchmarks.teaching.http_scores", wrong)
    with pytest.raises(GateError, match="HTTP"):
        teach_and_measure(
            load_dataset("folder", parts), tmp_path, TeachOptions(input_size=64), cache=cache
        )
    assert not list(tmp_path.glob("*.onnx"))


def test_one_class_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "scratch").mkdir()
    for index in range(8):
        Image.new("L", (8, 8), index).save(tmp_path / "scratch" / f"{index}.png")
    with pytest.raises(DatasetError, match="at least two, got scratch"):
        teach_and_measure(load_dataset("folder", tmp_path), tmp_path / "run", cache=cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 8}, "input_size"),
        ({"input_size": (64, 1025)}, "input_size"),
        ({"input_size": (64,)}, "input_size"),
        ({"input_size": (64.5, 64)}, "input_size"),
        ({"threshold": 1.0}, "threshold"),
        ({"views": 9}, "views"),
    ],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TeachOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("defects", [3, 4])
def test_few_defects_still_reach_calibration(
    parts: Path, cache: Path, tmp_path: Path, defects: int
) -> None:
    for name, count in (("good", 20), ("scratch", defects)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for path in sorted((parts / name).iterdir())[:count]:
            (tmp_path / "few" / name / path.name).write_bytes(path.read_bytes())
    dataset = load_dataset("folder", tmp_path / "few")
    result = teach_and_measure(dataset, tmp_path / "run", TeachOptions(input_size=64), cache=cache)
    for part in (result.split.train, result.split.calibration, result.split.test):
        assert {record.defect_class for record in part} == {"good", "scratch"}
    session = InspectionSession.load(result.model, execution_provider="cpu")
    images = np.stack([load(p, (64, 64)) for p in sorted((parts / "scratch").iterdir())])
    assert (session.run(images).score >= 0.5).mean() > 0.8


def test_two_defects_are_refused_with_the_reason(parts: Path, cache: Path, tmp_path: Path) -> None:
    for name, count in (("good", 20), ("scratch", 2)):
        (tmp_path / name).mkdir()
        for path in sorted((parts / name).iterdir())[:count]:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match="0 defective; every class needs at least three"):
        teach_and_measure(load_dataset("folder", tmp_path), tmp_path / "run", cache=cache)


def test_labels_without_a_difference_make_no_model(
    parts: Path, cache: Path, tmp_path: Path
) -> None:
    for index, path in enumerate(sorted((parts / "good").iterdir())):
        folder = tmp_path / "same" / ("good" if index % 2 else "bad")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    dataset = load_dataset("folder", tmp_path / "same")
    try:
        result = teach_and_measure(
            dataset, tmp_path / "run", TeachOptions(input_size=64), cache=cache
        )
    except GateError as exc:
        assert "slope" in str(exc)
    else:  # chance may leave a slope, but then nothing is OK
        session = InspectionSession.load(result.model, execution_provider="cpu")
        assert session.card.skill_fault is not None
        assert "no skill shown: AUROC" in session.card.skill_fault
        said = {i.verdict for i in judge_records(session, result.split.test).inspections}
        assert Verdict.OK not in said and said


@pytest.mark.parametrize(
    ("low", "fault"), [(0.51, None), (0.5, "no skill shown"), (0.2, "no skill shown"), (None, None)]
)
def test_skill_is_an_auroc_above_chance(low: float | None, fault: str | None) -> None:
    found = find_skill_fault({"auroc": Metric(value=0.7, n=9, low=low, high=1)})
    assert found is None if fault is None else found is not None and found.startswith(fault)
    assert find_skill_fault({}) is None


def test_novelty_limit_comes_from_calibration_pictures(taught: TeachResult) -> None:
    session = InspectionSession.load(taught.model, execution_provider="cpu")
    held = np.stack([load(r.path, (64, 64)) for r in taught.split.calibration])
    limit = taught.card.policy.novelty_limit
    assert limit == pytest.approx(1.25 * session.run(held).novelty.max(), rel=1e-3)
    assert taught.card.calibration.n == len(taught.split.calibration) == len(held)


def test_calibration_sees_no_training_picture(
    parts: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FloatArray] = []

    def spy(
        weights: HeadWeights, features: FloatArray, labels: npt.NDArray[np.int64]
    ) -> HeadWeights:
        seen.append(fit.novelty(weights, features).astype(np.float32))
        return fit.calibrate(weights, features, labels)

    monkeypatch.setattr("twonines.training.classes.calibrate", spy)
    teach_and_measure(
        load_dataset("folder", parts), tmp_path, TeachOptions(input_size=64), cache=cache
    )
    assert seen[0].min() > 0.1  # a picture that was taught has novelty 0
