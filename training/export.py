"""PyTorch to ONNX: the backbone once per input size, the head for every model."""

import hashlib
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose
from torch import nn

from twonines.errors import GateError
from twonines.models.backbone import FrozenNetwork, weights_digest
from twonines.models.card import CARD_KEY, ModelCard
from twonines.models.outputs import OUTPUT_NAMES
from twonines.models.providers import make_runtime

OPSET = 18
_IR_VERSION = 10
TOLERANCE = 1e-4


class Reference(nn.Module):
    """The PyTorch model that the ONNX file must agree with."""

    def __init__(self, backbone: FrozenNetwork, head: nn.Module) -> None:
        """Join the two parts."""
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give the contract's outputs for (N, H, W, 3) uint8 images."""
        result: tuple[torch.Tensor, ...] = self.head(*self.backbone(images))
        return result


def export_backbone(backbone: FrozenNetwork, size: tuple[int, int], cache: Path) -> Path:
    """Write the backbone's graph for one input size, or find it in the cache.

    Raises:
        GateError: ONNX Runtime and PyTorch differ on a seeded batch.
    """
    names = list(backbone.output_names)
    key = hashlib.sha256(f"{weights_digest(backbone)} {names} {size} {torch.__version__}".encode())
    path = cache / "backbones" / f"{key.hexdigest()[:16]}-{size[0]}x{size[1]}.onnx"
    if path.exists():
        return path
    example = torch.zeros((2, *size, 3), dtype=torch.uint8)
    data = _to_onnx(backbone, (example,), ["images"], names)
    model = onnx.load_from_string(data)
    images = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = backbone(torch.from_numpy(images))[0].numpy()
    got = make_runtime(data, "cpu", 1).run(names[:1], {"images": images})[0]
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    if not difference <= TOLERANCE:
        raise GateError(f"export: the backbone must agree to {TOLERANCE}, differs by {difference}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    onnx.save(model, partial)
    os.replace(partial, path)
    return path


def export_model(backbone_onnx: Path, head: nn.Module) -> onnx.ModelProto:
    """Join the backbone's graph and the head's into one model of the contract, without a card.

    The head takes the backbone's outputs in order. Its ``output_names`` say what it gives where
    that is more than every model must give.
    """
    backbone = onnx.load(backbone_onnx)
    shapes = {o.name: o.type.tensor_type.shape.dim for o in backbone.graph.output}
    examples = tuple(
        torch.zeros((2, *(dim.dim_value for dim in shape[1:]))) for shape in shapes.values()
    )
    names = getattr(head, "output_names", OUTPUT_NAMES)
    data = _to_onnx(head.eval(), examples, list(shapes), list(names))
    tail = compose.add_prefix(
        onnx.load_from_string(data), "head/", rename_inputs=False, rename_outputs=False
    )
    joined = compose.merge_models(backbone, tail, io_map=[(name, name) for name in shapes])
    onnx.checker.check_model(joined)
    return joined


def export_whole(module: nn.Module, size: tuple[int, int], *, pairs: bool) -> onnx.ModelProto:
    """One model of the contract, without a card, from a module that is not built of two parts.

    Args:
        module: takes images, and references for ``pairs``; ``output_names`` are its outputs.
        size: (height, width) of the input.
        pairs: whether the model compares a picture with a reference.
    """
    names = ["images", "references"] if pairs else ["images"]
    examples = tuple(torch.zeros((2, *size, 3), dtype=torch.uint8) for _ in names)
    outputs = list(module.output_names)  # type: ignore[arg-type]
    model = onnx.load_from_string(_to_onnx(module.eval(), examples, names, outputs))
    onnx.checker.check_model(model)
    return model


def write_model(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Put the card into the file's metadata and write it whole or not at all."""
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    partial = path.with_suffix(".tmp")
    onnx.save(model, partial)
    os.replace(partial, path)


def graph_digest(model: onnx.ModelProto) -> str:
    """SHA-256 over names and values of all weights: equal for equal data, seed and code."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        digest.update(tensor.name.encode())
        digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def _to_onnx(
    module: nn.Module, examples: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str]
) -> bytes:
    """Export with a dynamic batch axis."""
    batch = torch.export.Dim("N", min=1, max=4096)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            module,
            examples,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: batch} for _ in examples),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise GateError("export: the exporter gave no program")
    model = program.model_proto
    model.ir_version = _IR_VERSION
    return bytes(model.SerializeToString())
