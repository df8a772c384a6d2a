"""Model files of reduced precision: static int8, calibrated on real pictures.

The convolutions are quantised as ONNX Runtime documents it (QDQ, activations uint8, weights int8
per channel; the method of Jacob et al., *Quantization and training of neural networks for
efficient integer-arithmetic-only inference*, CVPR 2018); everything behind them, the head and its
calibration, stays in float32. ``int8-mixed`` keeps the first sixth of the convolutions in float32
too: they see the finest contrast, and on real sets most verdicts that int8 changes come from them.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twonines.errors import GateError, TwoninesError
from twonines.models.card import ModelCard, Reduction
from twonines.models.onnx_file import replace_card
from twonines.models.providers import Precision
from twonines.models.whole import write_whole
from twonines.types import Image

Feed = dict[str, Image]
_FLOAT_SHARE = {"int8": 0.0, "int8-mixed": 1 / 6}


def why_unreduced() -> str:
    """Why no int8 file can be made here; empty where it can."""
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
    except ImportError as exc:
        return f"it needs more packages ({exc}): pip install 'twonines[train]'"
    return ""


def quantise(model: Path, precision: Precision, feeds: Sequence[Feed]) -> bytes:
    """The model with int8 convolutions, its metadata left out.

    Args:
        model: a float32 model file.
        precision: ``int8`` or ``int8-mixed``.
        feeds: what the session takes, a batch each; the ranges of activations come from them.

    Raises:
        GateError: the graph cannot be quantised.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger("root").addFilter(_is_no_advice)
    try:
        with tempfile.TemporaryDirectory(prefix="twonines-") as folder:
            ready, out = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
            quant_pre_process(str(model), str(ready), skip_symbolic_shape=True)
            graph = onnx.load(ready)
            _one_opset(graph)
            onnx.save(graph, ready)
            names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
            kept = names[: round(_FLOAT_SHARE[precision] * len(names))]
            quantize_static(
                str(ready),
                str(out),
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["Conv", "Clip", "Relu"],
                nodes_to_exclude=kept,
            )
            result = onnx.load(out)
            del result.metadata_props[:]
            return bytes(result.SerializeToString())
    except Exception as exc:  # the tool raises whatever a graph makes it raise
        raise GateError(f"int8: the graph cannot be quantised ({exc})") from exc
    finally:
        logging.getLogger("root").removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING  # it advises what was done a line before


def _one_opset(graph: Any) -> None:
    """The tool wants each domain once, and knows none that no node uses."""
    used = {node.domain or "" for node in graph.graph.node}
    versions: dict[str, int] = {}
    for entry in graph.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    del graph.opset_import[:]
    for domain, version in versions.items():
        if domain in used:
            graph.opset_import.add(domain=domain, version=version)


class _Reader:
    """Feeds one after the other, as ``CalibrationDataReader`` wants it."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next batch, None after the last."""
        return next(self._feeds, None)


def reduced_card(card: ModelCard, made: Reduction) -> ModelCard:
    """The card of the reduced file: metrics, parity and certificate are of float32 and left out."""
    return card.model_copy(
        update={"metrics": {}, "parity": {}, "certificate": None, "reduced": made}
    )


def write_reduced(data: bytes, card: ModelCard, path: Path) -> None:
    """Write the file whole or not at all.

    Raises:
        TwoninesError: there is no room, or no permission.
    """
    try:
        write_whole(path, replace_card(data, card))
    except OSError as exc:
        raise TwoninesError(f"int8: {path} must be writable ({exc.strerror or exc})") from exc


def as_feeds(images: Image, references: Image | None = None, *, batch: int = 4) -> list[Feed]:
    """Batches of inputs (N, height, width, 3) for :func:`quantise`."""
    feeds = []
    for first in range(0, len(images), batch):
        feed = {"images": np.ascontiguousarray(images[first : first + batch])}
        if references is not None:
            feed["references"] = np.ascontiguousarray(references[first : first + batch])
        feeds.append(feed)
    return feeds
