import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny_card, write_tiny_model
from tests.made_models import write_comparing_model
from twonines.errors import SettingsError
from twonines.models.triton import export_triton


def parsed(folder: Path) -> Any:
    """Read by Triton's own schema; its package would import a gRPC that nothing here needs."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    package = importlib.util.find_spec("tritonclient")
    if package is None or package.origin is None:
        pytest.skip("tritonclient is not installed")
    place = Path(package.origin).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", place)
    assert spec and spec.loader
    schema = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


@pytest.mark.filterwarnings("ignore:Protobuf gencode")
def test_config_is_what_triton_reads(tmp_path: Path) -> None:
    model = write_comparing_model(tmp_path / "m.onnx", tiny_card(reference=True))
    folder = export_triton(model, tmp_path / "out", max_batch_size=8)
    found = parsed(folder)
    assert (found.name, found.backend, found.max_batch_size) == ("tiny", "onnxruntime", 8)
    assert found.HasField("dynamic_batching")
    assert [(i.name, list(i.dims)) for i in found.input] == [
        ("images", [32, 32, 3]),
        ("references", [32, 32, 3]),
    ]
    outputs = {o.name: o for o in found.output}
    assert list(outputs["score"].dims) == [1] and outputs["score"].HasField("reshape")
    assert list(outputs["defect_map"].dims) == [32, 32]
    assert list(outputs["class_scores"].dims) == [2]
    assert {o.data_type for o in found.output} == {11} and found.input[0].data_type == 2
    assert (folder / "1" / "model.onnx").read_bytes() == model.read_bytes()


def test_nothing_is_overwritten_and_bad_values_are_named(tiny_model: Path, tmp_path: Path) -> None:
    export_triton(tiny_model, tmp_path)
    with pytest.raises(SettingsError, match="must not hold"):
        export_triton(tiny_model, tmp_path)
    with pytest.raises(SettingsError, match="max_batch_size"):
        export_triton(tiny_model, tmp_path / "b", max_batch_size=0)
    odd = write_tiny_model(tmp_path / "odd.onnx", tiny_card(name="../up"))
    with pytest.raises(SettingsError, match="name must be"):
        export_triton(odd, tmp_path / "c")
