"""More model files, made from the tiny one."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.conftest import write_tiny_model
from twonines.models.card import CARD_KEY, ModelCard


def write_spot_model(path: Path, card: ModelCard) -> Path:
    """score = sigmoid((max / 255 - 0.5) * 20): one bright pixel is a defect."""
    write_tiny_model(path, card)
    model = onnx.load(path)
    node = next(n for n in model.graph.node if n.output[0] == "mean")
    node.op_type, node.input[0], node.input[1] = "ReduceMax", "unit", "axes"
    onnx.save(model, path)
    return path


def write_comparing_model(path: Path, card: ModelCard, spot: bool = False) -> Path:
    """The tiny model, or the one that sees spots, looking at the picture less its reference."""
    (write_spot_model if spot else write_tiny_model)(path, card)
    model = onnx.load(path)
    model.graph.input.append(
        helper.make_tensor_value_info("references", TensorProto.UINT8, ["N", *card.input_size, 3])
    )
    model.graph.node[0].output[0] = "x_image"
    model.graph.node.insert(
        1, helper.make_node("Cast", ["references"], ["x_reference"], to=TensorProto.FLOAT)
    )
    model.graph.node.insert(2, helper.make_node("Sub", ["x_image", "x_reference"], ["x"]))
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path
