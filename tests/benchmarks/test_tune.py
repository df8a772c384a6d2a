from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from tests.certified import make_certificate
from tests.conftest import tiny_card, write_tiny_model
from tests.made_models import write_comparing_model
from twonines.benchmarks import timing as timing_module
from twonines.benchmarks.timing import (
    Candidate,
    Timing,
    TuneOptions,
    layouts,
    pick,
    pick_to_serve,
)
from twonines.benchmarks.tune import _guard as guard_candidate
from twonines.benchmarks.tune import tune
from twonines.cli.app import app
from twonines.errors import ImageError, ModelFileError, SettingsError
from twonines.models.card import ModelCard, Policy
from twonines.models.decision import decide
from twonines.models.onnx_file import read_card
from twonines.models.outputs import Outputs
from twonines.models.providers import Variant, open_runtime
from twonines.models.session import SLOW_RUNS, InspectionSession
from twonines.models.tuning import reduced_path
from twonines.serving.loaded import LoadedModel
from twonines.serving.metrics import Metrics
from twonines.settings import ServeSettings
from twonines.types import FloatArray, Inspection

FAST = TuneOptions(latency_ms=10_000, rounds=2, quick=True)


def write_convolving_model(path: Path, card: ModelCard) -> Path:
    """The tiny model with seven 1 x 1 convolutions that keep the picture as it is."""
    write_tiny_model(path, card)
    model = onnx.load(path)
    graph = model.graph
    cast = next(n for n in graph.node if n.output[0] == "x")
    cast.output[0] = "raw"
    nodes = [helper.make_node("Transpose", ["raw"], ["c0"], perm=[0, 3, 1, 2], name="t0")]
    for layer in range(7):
        weight = numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], f"w{layer}")
        graph.initializer.append(weight)
        nodes.append(
            helper.make_node("Conv", [f"c{layer}", f"w{layer}"], [f"c{layer + 1}"], f"conv{layer}")
        )
    nodes.append(helper.make_node("Transpose", ["c7"], ["x"], perm=[0, 2, 3, 1], name="t1"))
    for place, node in enumerate(nodes):
        graph.node.insert(1 + place, node)
    onnx.save(model, path)
    return path


def folder(path: Path, count: int) -> list[tuple[Path, Path | None]]:
    path.mkdir()
    for index in range(count):
        level = index // 2 * 8 % 256  # each twice, so that any half shows all
        Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(path / f"{index:03}.png")
    return [(file, None) for file in sorted(path.iterdir())]


def notes(tuned: Any) -> dict[tuple[str, str], str]:
    return {(r["execution_provider"], r["precision"]): r["note"] for r in tuned.rows}


def test_a_folder_that_takes_no_files_is_named_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", tiny_card())
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != tmp_path.resolve())
    with pytest.raises(ModelFileError, match=f"{tmp_path.name} must be writable"):
        tune(path, [], FAST, lambda *_: pytest.fail("measured"))


def test_tune_writes_what_the_session_follows(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    seen: list[str] = []
    tuned = tune(model, [], FAST, lambda stage, *_: seen.append(stage))
    assert set(seen) == {"verdict gate", "warm-up", "rounds"}
    session = InspectionSession.load(model)
    assert session.tuned == tuned.serve and tuned.latency_met
    assert tuned.serve.low <= tuned.serve.per_second <= tuned.serve.high
    assert tuned.batch.variant.streams == 1 and tuned.files == {}
    assert notes(tuned)["cpu", "int8"] == "needs 50 calibration pictures, got 0"
    assert "onnxruntime-gpu" in notes(tuned)["cuda", "float32"]


def test_verdicts_are_compared_on_as_many_pictures_in_a_hurry(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    assert tune(model, folder(tmp_path / "pictures", 90), FAST).pictures == 90


def test_int8_that_keeps_the_verdicts_is_a_valid_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_convolving_model(tmp_path / "model.onnx", tiny_card())
    monkeypatch.setattr(timing_module, "_WORTH", 0.0)  # whatever is fastest here

    def int8_first(one: Timing) -> float:
        return 2.0 if one.variant.precision == "int8" else 1.0

    monkeypatch.setattr(Timing, "per_second", property(int8_first))
    tuned = tune(model, folder(tmp_path / "pictures", 60), FAST)
    assert tuned.serve.variant.precision == "int8" and tuned.pictures == 60
    path = reduced_path(model, "int8")
    card = read_card(path.read_bytes(), str(path))
    with pytest.raises(ModelFileError, match="must be used through the float32 file"):
        InspectionSession.load(path, execution_provider="cpu")
    assert card.reduced is not None and card.reduced.parent == tuned.model
    assert card.reduced.pictures == 60 and card.reduced.score_shift == tuned.serve.score_shift
    assert 0 < card.reduced.score_shift < 0.2 and not card.metrics
    assert any(n.op_type == "QuantizeLinear" for n in onnx.load(path).graph.node)
    session = InspectionSession.load(model)
    assert session.precision == "int8" and session.tuned == tuned.serve
    assert session.digest == tuned.model
    # Two persons approve the model's own file, and whoever may write beside it is not one of them.
    for two, precision in ((False, "int8"), (True, "float32")):
        settings = ServeSettings(model=model, two_person=two)
        loaded = LoadedModel.load("a", "1", model, settings, Metrics(), {})
        assert (loaded.session.precision, loaded.session.digest) == (precision, tuned.model)
        assert loaded._reload().precision == precision
        loaded.close()
    # Another file of that name, even a good one, is not what was measured.
    path.write_bytes(model.read_bytes())
    assert InspectionSession.load(model).precision == "float32"


def logits(p: Any) -> Any:
    return np.log(p / (1 - p))


@pytest.mark.parametrize("streams", [1, 2])
def test_what_int8_would_decide_otherwise_float32_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """A threshold so close to a calibration picture's score that any shift crosses it."""
    model = write_convolving_model(tmp_path / "model.onnx", tiny_card())
    pictures = folder(tmp_path / "pictures", 60)
    images = np.stack([np.array(Image.open(path)) for path, _ in pictures])
    scores = InspectionSession.load(model, execution_provider="cpu").run(images).score
    near = float(np.sort(scores)[np.searchsorted(np.sort(scores), 0.5)])
    write_convolving_model(model, tiny_card(policy=Policy(threshold=near)))
    monkeypatch.setattr(timing_module, "_WORTH", 0.0)
    monkeypatch.setattr(timing_module, "layouts", lambda _: [(2, 1), (1, 2)])

    def as_wanted(one: Timing) -> float:
        return 1.0 + ("int8" in one.variant.precision) + (one.variant.streams == streams)

    monkeypatch.setattr(Timing, "per_second", property(as_wanted))
    tuned = tune(model, pictures, FAST)
    chosen = tuned.serve
    assert chosen.guard is not None
    assert 0 < chosen.rechecked < 0.5 and "again in float32" in chosen.text
    session = InspectionSession.load(model, beside=True)
    assert session.precision == chosen.variant.precision != "float32"
    assert session.streams == streams
    bare = open_runtime(reduced_path(model, session.precision), chosen.variant)
    (fast,) = bare.run(["score"], {"images": images})
    assert not np.array_equal(fast, scores)
    for beside in {False, streams > 1}:
        found = session.run(images, beside=beside)
        unsure = np.abs(logits(fast) - logits(near)) <= chosen.guard.logits
        assert np.array_equal(found.score >= near, scores >= near)
        assert np.allclose(found.score, np.where(unsure, scores, fast), atol=1e-6)
        assert found.score[np.argmin(np.abs(scores - near))] == pytest.approx(near, abs=1e-6)


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ([0.1] * 60, ""),
        ([0.1] * 59 + [0.6], "in one half of the pictures further than twice"),
        ([0.5] * 60, "moves scores by up to 0.5: 100% of pictures would run again"),
        ([float("nan")] * 60, "gives values that are no scores"),
    ],
)
def test_a_guard_must_foretell_what_moves(shifts: list[float], said: str) -> None:
    card = tiny_card()

    def inspect(values: FloatArray) -> list[Inspection]:
        scores = (1 / (1 + np.exp(-values))).astype(np.float32)
        rest = np.zeros_like(scores)
        outputs = Outputs(scores, np.stack([1 - scores, scores], 1), rest[:, None, None], rest)
        return decide(outputs, card, [(32, 32)] * len(scores))

    values = np.full(60, -0.9, np.float32)
    candidate = Candidate("cpu", "int8", score_shift=max(shifts))
    guard_candidate(
        candidate, card, inspect(values), inspect(values + np.array(shifts, np.float32))
    )
    assert (said in candidate.out) if said else not candidate.out
    if not said:
        assert candidate.guard is not None and candidate.rechecked == 0


def test_running_again_counts_in_the_pace() -> None:
    exact, fast = timing("float32", 1.0), timing("int8", 4.0)
    exact.candidate.precision = "float32"
    fast.candidate.rechecked, fast.batch = 0.25, 8
    for _ in range(2):  # after the warm-up, and at the end
        timing_module._price_rechecks([exact, fast])
    assert fast.run_ms == (4.0 + 8 * 0.25 * 1.0) * 1e3 and exact.run_ms == 1e3
    assert fast.per_second == 8 / 6


def test_the_slow_first_runs_of_a_batch_size_are_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[int] = Counter()

    def slow_at_first(one: Timing, *_: object) -> float:
        runs[id(one)] += 1
        return 9.0 if runs[id(one)] <= SLOW_RUNS else 1.0

    monkeypatch.setattr(timing_module, "_run_once", slow_at_first)
    tuned = tune(write_tiny_model(tmp_path / "m.onnx", tiny_card()), [], FAST)
    rows = [row for row in tuned.rows if "low" in row]
    assert len(rows) > 3
    for row in rows:
        assert row["low"] == row["high"] == row["streams"] * row["max_batch_size"]


def test_what_is_hopeless_after_the_warm_up_is_not_timed_again() -> None:
    options = TuneOptions(latency_ms=1500)
    fast, slow, near = timing("int8", 1.0), timing("float32", 2.0), timing("float32", 1.6)
    long = timing("float32", 8.0)
    long.batch = 16  # fast, but out of bounds: it may still win for batch scoring
    assert timing_module._contenders([fast, slow, near, long], options) == [fast, near, long]
    nothing = TuneOptions(latency_ms=1)
    assert timing_module._contenders([fast, slow], nothing) == [fast, slow]


def test_a_certificate_allows_no_other_precision(tmp_path: Path) -> None:
    card = tiny_card()
    certificate = make_certificate(card, graph="g", preprocessing="p")
    card = card.model_copy(update={"certificate": certificate})
    model = write_convolving_model(tmp_path / "model.onnx", card)
    tuned = tune(model, folder(tmp_path / "pictures", 60), FAST)
    assert notes(tuned)["cpu", "int8"] == "another precision voids the certificate"
    assert tuned.serve.variant.precision == "float32"


def test_a_model_that_compares_is_tuned(tmp_path: Path) -> None:
    model = write_comparing_model(tmp_path / "model.onnx", tiny_card(reference=True))
    assert tune(model, [], FAST).serve.per_second > 0
    with pytest.raises(ImageError, match="calibration: .*000.png: reference: must be given"):
        tune(model, folder(tmp_path / "pictures", 3), FAST)


def timing(precision: str, seconds: float, streams: int = 1) -> Timing:
    variant = Variant(precision=precision, threads=1, streams=streams)
    return Timing(Candidate("cpu", "int8"), variant, 1, None, [seconds])  # type: ignore[arg-type]


def test_pick_takes_another_precision_only_where_it_is_worth_it() -> None:
    plain, close, fast = timing("float32", 1.0), timing("int8", 0.98), timing("int8", 0.9)
    assert pick([close, plain]) is plain
    assert pick([plain, close, fast]) is fast
    assert pick([close]) is close


def test_runs_at_once_serve_where_they_are_as_fast() -> None:
    one, two = timing("float32", 1.0), timing("float32", 2.2, streams=2)
    two.seconds += [1.9, 2.3]  # slower in the median, but by less than its rounds differ
    long = timing("float32", 2.4, streams=2)
    long.seconds += [1.9, 2.5]
    assert pick([one, two, long]) is one
    assert pick_to_serve([one, two, long]) is two
    lucky = timing("float32", 3.4, streams=3)
    lucky.seconds += [3.5, 2.9]  # one round reached the pace, the median is far from it
    assert pick_to_serve([one, two, lucky]) is two
    assert pick_to_serve([one, timing("float32", 2.05, streams=2)]) is one
    assert pick_to_serve([one, timing("int8", 1.96, streams=2)]) is one


def test_layouts_use_all_cores() -> None:
    assert layouts(1) == [(1, 1)]
    assert layouts(2) == [(2, 1), (1, 2)]
    assert layouts(8) == [(8, 1), (4, 2), (1, 8)]


def test_nothing_within_the_bound_gives_the_shortest_run(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    tuned = tune(model, [], TuneOptions(latency_ms=1e-6, rounds=1, quick=True))
    assert not tuned.latency_met
    assert tuned.serve.run_ms == min(r["run_ms"] for r in tuned.rows if "run_ms" in r)


@pytest.mark.parametrize("name", ["latency_ms", "minutes", "rounds", "pictures"])
def test_options_are_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: must be above 0, got 0"):
        TuneOptions(**{name: 0})  # type: ignore[arg-type]


def test_the_command_shows_every_cell_whole(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx", tiny_card())
    done = CliRunner().invoke(app, ["tune", str(model), "--quick", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    head, *lines = done.stdout.splitlines()
    assert head.split()[:4] == ["provider", "precision", "cpus", "runs"]
    assert any(line.split()[:2] == ["cpu", "float32"] for line in lines)
    assert "not measured: cpu int8, needs 50 calibration pictures, got 0" in lines
    assert "…" not in done.stdout
    assert lines[-2].startswith("serve: ") and lines[-1].startswith("score: ")
