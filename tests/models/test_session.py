from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.conftest import tiny_card, write_tiny_model
from twonines.errors import ModelFileError, SettingsError
from twonines.models.card import CARD_KEY, ModelCard
from twonines.models.session import InspectionSession, openvino_devices


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
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 32, 32, 3\), got uint8"):
        session.run(np.zeros((1, 31, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one"):
        session.run(np.zeros((0, 32, 32, 3), np.uint8))


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
    with pytest.raises(ModelFileError, match="must be an ONNX model"):
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
