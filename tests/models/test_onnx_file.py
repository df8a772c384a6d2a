from pathlib import Path

import onnx
import pytest

from tests.certified import certify_file, make_certificate
from tests.conftest import tiny_card
from twonines.errors import ModelFileError
from twonines.models.image import preprocessing_digest
from twonines.models.onnx_file import graph_digest, replace_card
from twonines.models.session import InspectionSession


def test_the_card_changes_and_the_graph_does_not(tiny_model: Path, tmp_path: Path) -> None:
    data = tiny_model.read_bytes()
    model = onnx.load_from_string(data)
    model.metadata_props.add(key="other", value="kept")
    data = model.SerializeToString()
    changed = replace_card(replace_card(data, tiny_card(name="a" * 300)), tiny_card(name="new"))
    assert graph_digest(changed) == graph_digest(data)
    again = onnx.load_from_string(changed)
    onnx.checker.check_model(again)
    assert again.graph == model.graph
    assert [entry.key for entry in again.metadata_props].count("twonines.card") == 1
    assert {entry.key: entry.value for entry in again.metadata_props}["other"] == "kept"
    (tmp_path / "m.onnx").write_bytes(changed)
    assert InspectionSession.load(tmp_path / "m.onnx").card.name == "new"


def test_a_weight_changes_the_digest(tiny_model: Path) -> None:
    data = tiny_model.read_bytes()
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == "gain":
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, "gain")
            )
    assert graph_digest(model.SerializeToString()) != graph_digest(data)


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\xff" * 12, b"\x0b", b"\x0a"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError, match="model: must be a"):
        graph_digest(data)


def test_a_session_checks_its_certificate(tiny_model: Path, tmp_path: Path) -> None:
    path, card = tmp_path / "c.onnx", tiny_card()
    assert InspectionSession.load(tiny_model).certificate_fault is None
    certify_file(tiny_model, card, path)
    session = InspectionSession.load(path)
    assert session.certificate_fault is None and session.execution_provider == "cpu"
    model = onnx.load(path)
    next(n for n in model.graph.node if n.op_type == "Sigmoid").name = "changed"
    onnx.save(model, tmp_path / "d.onnx")
    assert "graph" in (InspectionSession.load(tmp_path / "d.onnx").certificate_fault or "")
    certified = make_certificate(card, graph=graph_digest(path.read_bytes()), preprocessing="0")
    path.write_bytes(
        replace_card(path.read_bytes(), card.model_copy(update={"certificate": certified}))
    )
    assert "preprocessing" in (InspectionSession.load(path).certificate_fault or "")


def test_preprocessing_digest_is_stable_and_of_its_size() -> None:
    assert preprocessing_digest((32, 32)) == preprocessing_digest((32, 32))
    assert preprocessing_digest((32, 32)) != preprocessing_digest((32, 33))
