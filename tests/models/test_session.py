import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import tiny_card, write_tiny_model
from tests.made_models import write_comparing_model
from twonines.errors import ModelFileError, SettingsError
from twonines.models import session as module
from twonines.models.card import CARD_KEY, Metric, ModelCard, Policy
from twonines.models.decision import decide
from twonines.models.providers import make_runtime, openvino_devices
from twonines.models.session import InspectionSession
from twonines.types import FloatArray as Floats
from twonines.types import Verdict


def bright(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.full((32, 32, 3), v, np.uint8) for v in values])


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_batches_agree(tiny_model: Path, count: int) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    images = bright(list(np.linspace(0, 255, count).astype(int)))
    together = session.run(images)
    alone = [session.run(images[i : i + 1]).score[0] for i in range(count)]
    assert together.score.shape == (count,)
    assert together.class_scores.shape == (count, 2)
    assert together.defect_map.shape == (count, 32, 32)
    assert np.allclose(together.score, alone, atol=1e-6)


def test_auto_says_what_it_chose(tiny_model: Path) -> None:
    session = InspectionSession.load(tiny_model)
    assert session.choice
    assert session.execution_provider in ("cpu", "openvino")


def test_openvino_without_a_device_is_a_clear_error(tiny_model: Path) -> None:
    devices, reason = openvino_devices()
    if devices:
        session = InspectionSession.load(tiny_model, execution_provider="openvino")
        assert session.execution_provider == "openvino"
        return
    with pytest.raises(SettingsError, match="openvino.*cannot be used"):
        InspectionSession.load(tiny_model, execution_provider="openvino")
    assert reason


def test_wrong_shape_and_dtype_are_named(tiny_model: Path) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    with pytest.raises(ValueError, match=r"images: must be uint8 \(1, 32, 32, 3\), got uint8"):
        session.run(np.zeros((1, 31, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one"):
        session.run(np.zeros((0, 32, 32, 3), np.uint8))
    one = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="references: must not be given"):
        session.run(one, one)


def test_model_that_compares_needs_a_reference(tmp_path: Path) -> None:
    path = write_comparing_model(tmp_path / "compares.onnx", tiny_card(reference=True))
    session = InspectionSession.load(path, execution_provider="cpu")
    images = bright([255, 255])
    outputs = session.run(images, bright([255, 0]))
    assert outputs.score[0] < 0.01 and outputs.score[1] > 0.99
    with pytest.raises(ValueError, match="references: must be given"):
        session.run(images)
    with pytest.raises(ValueError, match=r"references: must be uint8 \(2, 32, 32, 3\)"):
        session.run(images, images[:1])
    model = onnx.load(path)
    helper.set_model_props(model, {CARD_KEY: tiny_card().to_json()})
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="must take"):
        InspectionSession.load(path)


def finds_boxes(path: Path, kind: int = 1) -> Path:
    """The tiny model with two boxes a picture, of scores 0.9 and 0, as a detector pads them."""
    write_tiny_model(path, tiny_card(task="detect"))
    model = onnx.load(path)
    shapes = {"boxes": (1, 2, 4), "box_scores": (1, 2), "box_classes": (1, 2)}
    values = {
        "boxes": np.array([[[4, 8, 12, 16], [0, 0, 0, 0]]], np.float32),
        "box_scores": np.array([[0.9, 0]], np.float32),
        "box_classes": np.array([[kind, 0]], np.int64),
    }
    model.graph.node.append(helper.make_node("Shape", ["mean"], ["count"]))
    for name, value in values.items():
        tail = np.array(shapes[name][1:], np.int64)
        model.graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(value, f"{name}_value"),
                onnx.numpy_helper.from_array(tail, f"{name}_tail"),
            ]
        )
        model.graph.node.extend(
            [
                helper.make_node("Concat", ["count", f"{name}_tail"], [f"{name}_shape"], axis=0),
                helper.make_node("Expand", [f"{name}_value", f"{name}_shape"], [name]),
            ]
        )
        kind_of = TensorProto.INT64 if name == "box_classes" else TensorProto.FLOAT
        shape = ["N", *shapes[name][1:]]
        model.graph.output.append(helper.make_tensor_value_info(name, kind_of, shape))
    onnx.save(model, path)
    return path


def test_detector_gives_boxes(tmp_path: Path) -> None:
    path = finds_boxes(tmp_path / "boxes.onnx")
    session = InspectionSession.load(path, execution_provider="cpu")
    outputs = session.run(bright([0, 128, 255]))
    assert outputs.boxes is not None and outputs.boxes.shape == (3, 2, 4)
    found = decide(outputs, session.card, [(64, 64)] * 3)
    assert found[0].verdict is Verdict.REVIEW  # the score accepts what has a box
    assert [region.box for region in found[2].regions] == [(8, 16, 24, 32)]
    assert found[2].regions[0].defect_class == "scratch"
    assert found[2].regions[0].area == 16 * 16


def test_boxes_of_an_unknown_class_or_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="box_classes: must lie in"):
        InspectionSession.load(finds_boxes(tmp_path / "kind.onnx", kind=2))
    model = onnx.load(finds_boxes(tmp_path / "task.onnx"))
    helper.set_model_props(model, {CARD_KEY: tiny_card().to_json()})
    onnx.save(model, tmp_path / "task.onnx")
    with pytest.raises(ModelFileError, match="exactly where its task is 'detect'"):
        InspectionSession.load(tmp_path / "task.onnx")


def test_file_without_card_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ModelFileError, match="bare.onnx must hold a twonines card"):
        InspectionSession.load(tmp_path / "bare.onnx")


def test_damaged_card_and_file_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model)
    helper.set_model_props(model, {CARD_KEY: '{"name": "x"}'})
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ModelFileError, match="not valid"):
        InspectionSession.load(tmp_path / "bad.onnx")
    (tmp_path / "torn.onnx").write_bytes(tiny_model.read_bytes()[:50])
    with pytest.raises(ModelFileError, match="torn.onnx must be an ONNX model"):
        InspectionSession.load(tmp_path / "torn.onnx", execution_provider="cpu")
    with pytest.raises(ModelFileError, match="cannot be read"):
        InspectionSession.load(tmp_path / "missing.onnx")


def test_card_that_lies_about_the_input_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", tiny_card())
    model = onnx.load(path)
    helper.set_model_props(model, {CARD_KEY: tiny_card(input_size=(64, 64)).to_json()})
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="must take"):
        InspectionSession.load(path, execution_provider="cpu")


def test_unknown_provider_and_threads(tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match="must be one of auto, cpu, openvino"):
        InspectionSession.load(tiny_model, execution_provider="tpu")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="threads: must be at least 1, got 0"):
        InspectionSession.load(tiny_model, threads=0)


def test_card_round_trip() -> None:
    card = tiny_card()
    assert ModelCard.from_metadata({CARD_KEY: card.to_json()}, "x") == card


def test_good_must_stand_first() -> None:
    with pytest.raises(ValueError, match="must stand first"):
        tiny_card(classes=("scratch", "good"))


@pytest.mark.parametrize("where", ["w.bin", "./w.bin", "absolute"])
def test_weights_outside_the_file_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    model = onnx.load(tiny_model)
    # Not a constant, which would be folded and so fail for another reason.
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0])
    scale.ClearField("float_data")
    scale.data_location = TensorProto.EXTERNAL
    location = str(tmp_path / "w.bin") if where == "absolute" else where
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        entry = scale.external_data.add()
        entry.key, entry.value = key, value
    model.graph.initializer.append(scale)
    for node in model.graph.node:
        if node.op_type == "Abs":
            node.op_type = "Mul"
            node.input.append("scale")
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(np.float32(1).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="outside.onnx must hold all its weights"):
        InspectionSession.load(path, execution_provider="cpu")


def test_folder_and_pipe_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="must be a file"):
        InspectionSession.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    code = (
        "import sys; from pathlib import Path\n"
        "from twonines.models.session import InspectionSession\n"
        "InspectionSession.load(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(  # apart, because a hang here could not be ended
        [sys.executable, "-c", code, str(tmp_path / "pipe")],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "pipe must be a file" in done.stderr


def test_graph_of_another_count_of_classes_is_refused(tmp_path: Path) -> None:
    card = tiny_card(classes=("good", "scratch", "dent"))
    path = write_tiny_model(tmp_path / "three.onnx", card)
    with pytest.raises(ModelFileError, match=r"three.onnx .* class_scores: must have .*\(1, 3\)"):
        InspectionSession.load(path, execution_provider="cpu")


@pytest.mark.parametrize(("output", "other"), [("defect_map", "mean"), ("novelty", "unit")])
def test_outputs_of_another_shape_are_refused(tmp_path: Path, output: str, other: str) -> None:
    path = write_tiny_model(tmp_path / "odd.onnx", tiny_card())
    model = onnx.load(path)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "unused"
    model.graph.node.append(helper.make_node("Identity", [other], [output]))
    for value in model.graph.output:
        if value.name == output:
            value.CopyFrom(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=f"{output}: must have shape"):
        InspectionSession.load(path, execution_provider="cpu")


class Rival:
    """Answers as the model does, but for what ``change`` does to its outputs."""

    def __init__(self, runtime: Any, change: dict[str, Callable[[Floats], Floats]]) -> None:
        self._runtime, self._change = runtime, change
        self.get_outputs = runtime.get_outputs

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Floats]:
        found = dict(zip(names, self._runtime.run(names, feed), strict=True))
        for name, change in self._change.items():
            found[name] = change(found[name])
        return [found[name] for name in names]


def choose_against(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Callable[[Floats], Floats]],
    *,
    faster: bool = True,
) -> InspectionSession:
    make = make_runtime

    def fake(data: bytes, provider: str, threads: int, origin: str | None = None) -> Any:
        runtime = make(data, "cpu", threads, origin)
        return runtime if provider == "cpu" else Rival(runtime, change)

    def seconds(session: InspectionSession, probe: object) -> float:
        return 1.0 if (session.execution_provider == "openvino") is faster else 2.0

    monkeypatch.setattr(module, "openvino_devices", lambda: (["a device"], ""))
    monkeypatch.setattr(module, "make_runtime", fake)
    monkeypatch.setattr(module, "_median_seconds", seconds)
    return InspectionSession.load(model)


def test_auto_takes_the_faster_of_equals(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = choose_against(tiny_model, monkeypatch, {})
    assert found.execution_provider == "openvino"
    assert "8 on openvino, the same verdicts" in found.choice
    found = choose_against(tiny_model, monkeypatch, {}, faster=False)
    assert found.execution_provider == "cpu"


def fails(_: Floats) -> Floats:
    raise RuntimeError("not this graph")


@pytest.mark.parametrize(
    ("output", "change", "reason"),
    [
        ("score", lambda v: 1 - v, "changes verdicts of this model, OK to NG"),
        ("score", lambda v: v * np.nan, "changes verdicts of this model, OK to ERROR"),
        ("score", lambda v: np.clip(v - 0.01, 0, 1), "changes scores of this model by 0.01"),
        ("novelty", lambda v: v + 100, "changes verdicts of this model, OK to REVIEW"),
        ("novelty", lambda v: v[:-1], "cannot run this model"),
        ("score", fails, "cannot run this model (not this graph)"),
    ],
)
def test_auto_keeps_cpu_where_the_rival_answers_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    change: Callable[[Floats], Floats],
    reason: str,
) -> None:
    card = tiny_card(policy=Policy(threshold=0.5, novelty_limit=50.0))
    model = write_tiny_model(tmp_path / "m.onnx", card)
    found = choose_against(model, monkeypatch, {output: change})
    assert found.execution_provider == "cpu"
    assert reason in found.choice


def test_auto_keeps_cpu_where_the_rival_does_not_compile(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = make_runtime

    def fake(data: bytes, provider: str, threads: int, origin: str | None = None) -> Any:
        if provider == "openvino":
            raise ModelFileError("model: no plan for this graph")
        return make(data, "cpu", threads, origin)

    monkeypatch.setattr(module, "openvino_devices", lambda: (["a device"], ""))
    monkeypatch.setattr(module, "make_runtime", fake)
    found = InspectionSession.load(tiny_model)
    assert found.execution_provider == "cpu"
    assert "no plan for this graph" in found.choice


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_card_refuses_numbers_that_are_not_finite(value: str) -> None:
    text = tiny_card().to_json().replace('"novelty_limit": null', f'"novelty_limit": {value}')
    assert value in text
    with pytest.raises(ModelFileError, match="novelty_limit"):
        ModelCard.from_metadata({CARD_KEY: text}, "x")
    with pytest.raises(ValueError, match="finite"):
        Metric(value=float(value), n=1)
