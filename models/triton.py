"""A model repository that Triton's ONNX Runtime backend takes."""

import re
import shutil
from pathlib import Path

import onnxruntime as ort

from twonines.errors import SettingsError
from twonines.models.providers import make_runtime
from twonines.models.session import InspectionSession

_TYPES = {
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(float)": "TYPE_FP32",
    "tensor(int64)": "TYPE_INT64",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def export_triton(model: Path, out: Path, *, max_batch_size: int = 32) -> Path:
    """Write ``<name>/config.pbtxt`` and ``<name>/1/model.onnx`` below ``out``.

    Triton runs the graph alone: decoding, resizing and the decision stay with its client.

    Returns:
        The model's folder, which ``twonines serve --model-dir`` takes as well.

    Raises:
        ModelFileError: the file is no model.
        SettingsError: a value is outside its range, or the model's folder is there already.
    """
    if max_batch_size < 1:
        raise SettingsError(f"max_batch_size: must be at least 1, got {max_batch_size}")
    card = InspectionSession.load(model, execution_provider="cpu").card
    if not _NAME.fullmatch(card.name):
        raise SettingsError(
            "model: its name must be letters, digits, dots, lines and underscores to be a folder, "
            f"got {card.name!r}"
        )
    folder = out / card.name
    if folder.exists():
        raise SettingsError(f"triton: must not hold the model yet, got {folder}")
    text = config(make_runtime(model, "cpu", 1), card.name, max_batch_size)
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(model, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(text)
    return folder


def config(runtime: ort.InferenceSession, name: str, max_batch_size: int) -> str:
    """The text of ``config.pbtxt``."""
    blocks = [_block("input", tensor) for tensor in runtime.get_inputs()]
    blocks += [_block("output", tensor) for tensor in runtime.get_outputs()]
    head = f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {max_batch_size}\n'
    return head + "".join(blocks) + "dynamic_batching { }\n"


def _block(kind: str, tensor: ort.NodeArg) -> str:
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape[1:]]
    # Triton wants at least one dimension beside the batch; the graph has none for a score.
    shape = str(dims) if dims else "[1]\n  reshape { shape: [] }"
    return (
        f'{kind} {{\n  name: "{tensor.name}"\n  data_type: {_TYPES[tensor.type]}\n'
        f"  dims: {shape}\n}}\n"
    )
