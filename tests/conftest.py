"""A real model file, small enough to make for every run."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from twonines.models.card import CARD_KEY, Calibration, ModelCard, Policy, TrainingData


def tiny_card(**changes: object) -> ModelCard:
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "task": "classify",
        "classes": ("good", "scratch"),
        "input_size": (32, 32),
        "recipe": "teach",
        "backbone": "brightness",
        "training_data": TrainingData(
            name="generated",
            licence="CC0",
            digest="0" * 64,
            split_kind="random",
            seed=0,
            n_train=1,
            n_calibration=1,
            n_test=1,
        ),
        "metrics": {},
        "calibration": Calibration(method="none", n=0, parameters={}),
        "policy": Policy(threshold=0.5),
        "software": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return ModelCard.model_validate({**values, **changes})


def write_tiny_model(path: Path, card: ModelCard, gain: float = 20) -> Path:
    """score = sigmoid((mean / 255 - 0.5) * gain); the map is the grey picture over 255."""
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "channel": np.array([3], np.int64),
        "column": np.array([1], np.int64),
        "full": np.array(255, np.float32),
        "half": np.array(0.5, np.float32),
        "gain": np.array(gain, np.float32),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["x", "full"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "channel"], ["defect_map"], keepdims=0),
        helper.make_node("ReduceMean", ["unit", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Sub", ["one", "score"], ["rest"]),
        helper.make_node("Unsqueeze", ["rest", "column"], ["good"]),
        helper.make_node("Unsqueeze", ["score", "column"], ["bad"]),
        helper.make_node("Concat", ["good", "bad"], ["class_scores"], axis=1),
        helper.make_node("Abs", ["centred"], ["novelty"]),
    ]
    height, width = card.input_size
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("class_scores", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("defect_map", TensorProto.FLOAT, ["N", height, width]),
            helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", tiny_card())


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported backbones of all tests: each export takes ten seconds and more."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "backbones"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def cache(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for what a file teaches."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "backbones").symlink_to(backbones)
    return folder
