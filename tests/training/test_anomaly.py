"""Learning from good pictures alone: the whole recipe on a generated MVTec folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from twonines.benchmarks.bench import run_bench
from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.record import Dataset
from twonines.datasets.registry import load_dataset
from twonines.datasets.splits import good_only, make_split
from twonines.errors import DatasetError, SettingsError
from twonines.models.image import load
from twonines.models.session import InspectionSession
from twonines.training.anomaly import PatchStream
from twonines.training.export import export_backbone
from twonines.training.teach import TeachResult, choose_task
from twonines.training.teach_options import TeachOptions

SMALL = TeachOptions(input_size=64)


def draw(path: Path, rng: np.random.Generator, *, scratch: bool) -> None:
    noise = rng.normal(128, 10, (64, 64)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise).convert("RGB")
    if scratch:
        x, y = (int(v) for v in rng.integers(0, 40, 2))
        ImageDraw.Draw(image).line((x, y, x + 20, y + 20), (255, 255, 255), 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_category(root: Path, *, train: int = 90, good: int = 12, scratch: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for side, name, count in (
        ("train", "good", train), ("test", "good", good), ("test", "scratch", scratch),
    ):  # fmt: skip
        for index in range(count):
            path = root / side / name / f"{index:03}.png"
            draw(path, rng, scratch=name == "scratch")
    return root


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("mvtec", make_category(tmp_path_factory.mktemp("mvtec")))


@pytest.fixture(scope="module")
def taught(category: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> TeachResult:
    return teach_and_measure(category, tmp_path_factory.mktemp("run"), SMALL, cache=cache)


def test_auto_learns_from_good_pictures(taught: TeachResult) -> None:
    card = taught.card
    assert (card.task, card.classes) == ("anomaly", ("good", "defective"))
    assert card.policy.novelty_limit is None
    assert card.calibration.n == card.training_data.n_calibration >= 10
    shown = card.calibration.parameters["expected_overkill"]
    assert shown == pytest.approx(1 / (card.calibration.n + 1))
    assert card.metrics["auroc"].value > 0.95
    assert "typing_accuracy" not in card.metrics


def test_every_path_gives_the_same(taught: TeachResult) -> None:
    assert taught.parity.pictures == 24
    assert taught.card.parity["reference"] <= 1e-4
    assert taught.card.parity["http"] <= 1e-4
    session = InspectionSession.load(taught.model, execution_provider="cpu")
    found = session.run(np.stack([load(r.path, (64, 64)) for r in taught.split.test]))
    assert found.defect_map.shape[1:] == (64, 64)
    assert np.allclose(found.class_scores[:, 1], found.score)
    assert np.array_equal(found.score >= 0.5, found.novelty >= 1.0)


def test_run_folder_holds_what_it_must(taught: TeachResult) -> None:
    folder = taught.model.parent
    for name in ("model.onnx", "card.json", "metrics.json", "confusion.png", "mistakes.png"):
        assert (folder / name).stat().st_size > 0
    table = json.loads((folder / "metrics.json").read_text())["confusion"]
    assert table["rows"] == ["good", "scratch"] and table["columns"] == ["good", "defective"]


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_batches_agree(taught: TeachResult, count: int) -> None:
    session = InspectionSession.load(taught.model, execution_provider="cpu")
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    together = session.run(images)
    alone = [session.run(images[i : i + 1]) for i in range(count)]
    assert np.allclose(together.score, [a.score[0] for a in alone], atol=1e-4)
    assert np.allclose(together.novelty, [a.novelty[0] for a in alone], rtol=1e-4)
    assert together.defect_map.min() >= 0 and together.defect_map.max() <= 1


def test_seed_decides_the_digest(
    taught: TeachResult, category: Dataset, cache: Path, tmp_path: Path
) -> None:
    again = teach_and_measure(category, tmp_path, SMALL, cache=cache)
    assert again.card.version == taught.card.version
    other = teach_and_measure(category, tmp_path, SMALL, cache=cache, seed=1)
    assert other.card.version != taught.card.version


def test_report_of_a_good_only_model(
    taught: TeachResult, category: Dataset, tmp_path: Path
) -> None:
    result = run_bench(taught.model, category, tmp_path, throughput=False, rounds=1)
    assert result["decides"] and result["typing"] is None
    assert result["metrics"]["escape_rate"]["n"] == 12
    assert result["metrics"]["calibration_error"] is None
    assert result["data"]["split"]["train"] == taught.card.training_data.n_train
    assert "scratch" in (tmp_path / "report.html").read_text()


def test_a_set_with_defects_keeps_them_for_the_test(
    category: Dataset, cache: Path, tmp_path: Path
) -> None:
    mixed = replace(
        category, records=tuple(replace(r, official_split=None) for r in category.records)
    )
    split = make_split(mixed)
    assert choose_task(split) == "classify" and choose_task(split, "anomaly") == "anomaly"
    kept = good_only(split)
    assert not any(r.is_defective for r in (*kept.train, *kept.calibration))
    assert kept.test == split.test and any(r.is_defective for r in kept.test)
    options = replace(SMALL, task="anomaly", overkill_aim=0.2, views=2)
    result = teach_and_measure(mixed, tmp_path / "run", options, cache=cache)
    assert result.card.training_data.n_train == len(kept.train)
    assert result.card.calibration.parameters["overkill_aim"] == 0.2
    run_bench(result.model, mixed, tmp_path / "report", throughput=False, rounds=1)


def test_a_test_split_without_defects_is_measured_for_overkill(cache: Path, tmp_path: Path) -> None:
    good = load_dataset("mvtec", make_category(tmp_path / "data", scratch=0))
    result = teach_and_measure(good, tmp_path / "run", SMALL, cache=cache)
    assert "overkill_rate" in result.card.metrics
    assert not {"escape_rate", "auroc"} & set(result.card.metrics)
    report = run_bench(result.model, good, tmp_path / "out", throughput=False, rounds=1)
    assert report["claims"][0]["answer"] != "met"


def test_missing_pictures_are_named(category: Dataset, cache: Path, tmp_path: Path) -> None:
    bad = replace(
        category,
        records=tuple(replace(r, defect_class="dent", official_split=None)
                      for r in category.records),
    )  # fmt: skip
    with pytest.raises(DatasetError, match="learns from good pictures, it holds none"):
        teach_and_measure(bad, tmp_path, replace(SMALL, task="anomaly"), cache=cache)
    few = load_dataset("mvtec", make_category(tmp_path / "few", train=30, good=3, scratch=3))
    with pytest.raises(DatasetError, match="at least 10 good pictures .* got 4"):
        teach_and_measure(few, tmp_path, SMALL, cache=cache)
    with pytest.raises(DatasetError, match="--task anomaly learns from good pictures alone"):
        teach_and_measure(category, tmp_path, replace(SMALL, task="classify"), cache=cache)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"), [({"task": "guess"}, "task"), ({"overkill_aim": 0.0}, "overkill_aim")]
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TeachOptions(**options)  # type: ignore[arg-type]


def test_patches_come_in_order_for_each_view(
    category: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twonines.models.patches import PatchBackbone

    monkeypatch.setattr("twonines.training.anomaly.BATCH", 3)
    stream = PatchStream(export_backbone(PatchBackbone(), (64, 64), cache), (64, 64))
    told: list[tuple[int, int]] = []
    records = category.records[:4]
    parts = list(stream(records, views=[0, 4], progress=lambda d, t: told.append((d, t))))
    assert [len(part) for part in parts] == [3, 1, 3, 1]
    assert told == [(3, 8), (4, 8), (7, 8), (8, 8)]
    again = np.concatenate(list(stream(records[2:])))
    assert np.allclose(np.concatenate(parts[:2])[2:], again, atol=1e-3)
    assert not np.allclose(parts[0], parts[2])
