"""What every peer shares: settings, decode and resize, and the session.

The scripts import it from their own folder and run without twonines. Decode and resize give the
pixels of ``twonines.models.image`` for sound JPEG and PNG pictures (a test compares them), without
its checks for damaged ones.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import simplejpeg
from PIL import Image

PORT = int(os.environ.get("PEER_PORT", "8000"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_BATCH = 32
_HEIGHT, _, _WIDTH = os.environ.get("PEER_SIZE", "224x224").partition("x")
SIZE = (int(_HEIGHT), int(_WIDTH))
"""(height, width) of the model's input."""
_PLUGIN = "peer_openvino"


def make_session() -> ort.InferenceSession:
    """The model of ``PEER_MODEL`` on the provider of ``PEER_PROVIDER``, ``cpu`` or ``openvino``."""
    path = os.environ["PEER_MODEL"]
    if os.environ.get("PEER_PROVIDER", "cpu") == "cpu":
        return ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    import onnxruntime_ep_openvino as plugin

    ort.register_execution_provider_library(_PLUGIN, plugin.get_library_path())
    name = plugin.get_ep_name()
    devices = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == name and device.ep_metadata.get("ov_device") == "CPU"
    ]
    options = ort.SessionOptions()
    precise = f'{{"CPU":{{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":{CORES}}}}}'
    options.add_provider_for_devices(devices, {"load_config": precise})
    return ort.InferenceSession(path, options)


def rgb(data: bytes) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Decode to (H, W, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as opened:
        if opened.format == "JPEG":
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))
        return np.asarray(opened.convert("RGB"))


def prepare(image: Any) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Bytes of a file, or (H, W, 3) uint8 RGB, to the size of the model's input."""
    if not isinstance(image, np.ndarray):
        image = rgb(bytes(image))
    if image.shape[:2] == SIZE:
        return np.asarray(image)
    resized = Image.fromarray(image).resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)


class Model:
    """The session; build one in each process that infers."""

    def __init__(self) -> None:
        """Load the model."""
        self._session = make_session()
        self._names = [output.name for output in self._session.get_outputs()]

    def scores(self, images: Sequence[Any]) -> list[float]:
        """Scores of prepared pictures; all outputs are computed, as in twonines."""
        outputs = self._session.run(self._names, {"images": np.stack(images)})
        return [float(score) for score in outputs[self._names.index("score")]]
