import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from twonines.benchmarks.bench import run_bench
from twonines.benchmarks.evaluate import Judged, confusion, decision_metrics
from twonines.benchmarks.throughput.ways import rate_row
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.datasets.splits import make_split
from twonines.errors import DatasetError, SettingsError
from twonines.models.card import TrainingData
from twonines.types import Inspection, Verdict

CARD = DatasetCard(
    name="folder", title="Generated parts", licence="CC0", source="generated",
    official_split="none", traps="none",
)  # fmt: skip


def make_dataset(root: Path, *, classes: tuple[str, ...] = ("good", "scratch")) -> Dataset:
    """Bright is scratch. Every picture differs in size, so that none is a copy."""
    records = []
    for index in range(48):
        name = classes[index % len(classes)]
        value = 40 if name == "good" else 215
        path = root / f"{index:02}.png"
        path.write_bytes(png(value, size=(40 + index, 60)))
        records.append(Record(path, name, group=f"part{index // 4}"))
    return Dataset(CARD, root, tuple(records))


def make_model(path: Path, dataset: Dataset, *, method: Any = "grouped", **changes: Any) -> Path:
    split = make_split(dataset, seed=3, method=method)
    data = {
        "name": "folder", "licence": "CC0", "split_kind": split.kind, "seed": 3,
        "digest": content_digest(dataset.records, dataset.root), "n_train": len(split.train),
        "n_calibration": len(split.calibration), "n_test": len(split.test), **changes,
    }  # fmt: skip
    return write_tiny_model(path, tiny_card(training_data=TrainingData.model_validate(data)))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "data").mkdir()
    return make_dataset(tmp_path / "data")


def test_bench_end_to_end(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset)
    told: list[str] = []
    result = run_bench(
        model, dataset, tmp_path / "out", throughput=False, rounds=2, progress=told.append
    )
    n = result["data"]["split"]["test"]
    assert result["metrics"]["accuracy"]["k"] == n == len(result["rows"])
    assert result["metrics"]["auroc"]["value"] == 1
    assert not result["data"]["split"]["leaks"]
    claims = {claim["name"]: claim for claim in result["claims"]}
    # A dozen right pictures do not show more than 90 %.
    assert claims["accuracy"]["answer"] == "not shown by this much data"
    assert claims["speed"]["answer"] == "met"
    assert [row["manual_accuracy"] for row in result["sensitivity"]] == [0.8, 0.85, 0.9, 0.95]
    assert told
    assert 3.5 < result["handling_limit_s"] < 4  # 12 s / 3, less the model's own time
    read = json.loads((tmp_path / "out" / "report.json").read_text())
    assert read["model"]["digest"] == result["model"]["digest"]
    assert read["throughput"] is None
    assert str(tmp_path) not in (tmp_path / "out" / "report.json").read_text()
    assert "Generated parts" in (tmp_path / "out" / "report.html").read_text()


def test_the_speed_claim_is_of_the_service(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"session": 9.0, "decode_resize_session": 8.0, "http": 2.0, "batch": 4.0}
    speeds = {name: [rate, 0.9 * rate, 1.1 * rate] for name, rate in rates.items()}
    monkeypatch.setattr(
        "twonines.benchmarks.bench.measure",
        lambda *_, **__: {
            "rows": {name: rate_row(values, rates) for name, values in speeds.items()},
            "http": {"latency_s": {"p50": 1.0, "p95": 1.0, "p99": 1.0}, "mean_batch_size": 1.0,
                     "load_generator_cpu_seconds": 1.0, "wall_seconds": 1.0},
            "pictures": 1, "per_round": 512, "rounds": 3, "clients": 1, "threads": 1,
            "execution_provider": "cpu",
        },
    )  # fmt: skip
    model = make_model(tmp_path / "m.onnx", dataset)
    result = run_bench(model, dataset, tmp_path / "out", rounds=1)
    claim = result["claims"][-1]
    assert [claim["value"], claim["low"], claim["high"]] == pytest.approx(
        [12 * 2.0, 12 * 1.8, 12 * 2.2]
    )
    assert claim["n"] == 512


def test_a_changed_group_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    # The same counts may come out with taught pictures in the test.
    model = make_model(tmp_path / "m.onnx", dataset)
    records = (replace(dataset.records[0], group="part1"), *dataset.records[1:])
    with pytest.raises(DatasetError, match="cannot be told from those that were taught"):
        run_bench(model, replace(dataset, records=records), tmp_path / "out", throughput=False)


def test_random_split_of_a_grouped_set_is_flagged(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset, method="random")
    result = run_bench(model, dataset, tmp_path / "out", throughput=False, rounds=1)
    assert result["data"]["split"]["leaks"]
    assert "These figures are too good" in (tmp_path / "out" / "report.html").read_text()


def test_other_data_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset)
    dataset.records[0].path.write_bytes(png(1))
    with pytest.raises(DatasetError, match="must be the folder that the model was taught on"):
        run_bench(model, dataset, tmp_path / "out", throughput=False)
    assert not (tmp_path / "out").exists()


def test_another_split_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset, n_train=1)
    with pytest.raises(DatasetError, match="split: must give"):
        run_bench(model, dataset, tmp_path / "out", throughput=False)


def test_typing_set_makes_no_accuracy_claim(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset = make_dataset(tmp_path / "data", classes=("scratch", "dent"))
    model = make_model(tmp_path / "m.onnx", dataset)
    result = run_bench(model, dataset, tmp_path / "out", throughput=False, rounds=1)
    assert result["metrics"] is None and not result["decides"]
    assert [claim["name"] for claim in result["claims"]] == ["speed"]
    assert "Accept or reject is not tested" in (tmp_path / "out" / "report.html").read_text()


def test_arguments_are_checked_first(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rounds"):
        run_bench(tmp_path / "no.onnx", dataset, tmp_path / "out", rounds=0)
    with pytest.raises(SettingsError, match="manual_accuracy"):
        run_bench(tmp_path / "no.onnx", dataset, tmp_path / "out", manual_accuracy=1.2)


def judged(*pairs: tuple[str, Inspection]) -> Judged:
    records = tuple(Record(Path(f"{i}.png"), name) for i, (name, _) in enumerate(pairs))
    return Judged(records, tuple(inspection for _, inspection in pairs), 1.0)


def test_only_ok_counts_as_accepted() -> None:
    seen = judged(
        ("good", Inspection(Verdict.OK, 0.1, "good")),
        ("good", Inspection(Verdict.REVIEW, 0.1, "scratch")),
        ("good", Inspection(Verdict.ERROR, error="damaged")),
        ("scratch", Inspection(Verdict.OK, 0.2, "good")),
        ("scratch", Inspection(Verdict.REVIEW, 0.2, "scratch")),
    )
    assert seen.rejected.tolist() == [False, True, True, False, True]
    metrics = decision_metrics(seen, seed=0)
    assert (metrics["accuracy"]["k"], metrics["overkill_rate"]["k"]) == (2, 2)
    assert (metrics["escape_rate"]["k"], metrics["review"]["k"], metrics["errors"]) == (1, 2, 1)
    table = confusion(seen, ("good", "scratch"))
    assert table == {
        "rows": ["good", "scratch"],
        "columns": ["good", "scratch", "ERROR"],
        "counts": [[1, 1, 1], [1, 1, 0]],
    }
    assert np.isfinite(metrics["auroc"]["value"])
