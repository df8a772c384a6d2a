"""A loaded model on one execution provider."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import onnxruntime as ort

from twonines.errors import ModelFileError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.outputs import Outputs as Outputs
from twonines.types import Image

Provider = Literal["auto", "cpu", "openvino"]
PROVIDERS: tuple[Provider, ...] = ("auto", "cpu", "openvino")
OUTPUT_NAMES = ("score", "class_scores", "defect_map", "novelty")
_OPENVINO_LIBRARY = "twonines_openvino"


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def openvino_devices() -> tuple[Sequence[ort.OrtEpDevice], str]:
    """CPU devices of the OpenVINO plugin, and why there are none where there are none."""
    try:
        import onnxruntime_ep_openvino as plugin
    except ImportError:
        return (), "the package onnxruntime-ep-openvino is not installed"
    name = plugin.get_ep_name()
    if not any(device.ep_name == name for device in ort.get_ep_devices()):
        try:
            ort.register_execution_provider_library(_OPENVINO_LIBRARY, plugin.get_library_path())
        except Exception as exc:  # registered before, or the library does not load here
            if "already" not in str(exc):
                return (), f"the OpenVINO plugin does not load ({exc})"
    devices = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == name and device.ep_metadata.get("ov_device") == "CPU"
    ]
    return devices, "" if devices else "the OpenVINO plugin finds no Intel processor here"


def make_runtime(
    model: bytes | Path, execution_provider: Literal["cpu", "openvino"], threads: int
) -> ort.InferenceSession:
    """An ONNX Runtime session; float32 on either provider.

    Raises:
        SettingsError: the provider cannot be had on this machine.
        ModelFileError: the file is no ONNX model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    try:
        if execution_provider == "cpu":
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        devices, reason = openvino_devices()
        if not devices:
            raise SettingsError(f"execution_provider: 'openvino' cannot be used, {reason}")
        config = f'{{"CPU":{{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":{threads}}}}}'
        options.add_provider_for_devices(devices, {"load_config": config})
        return ort.InferenceSession(source, options)
    except SettingsError:
        raise
    except Exception as exc:  # ONNX Runtime's classes share no public base
        label = "bytes" if isinstance(model, bytes) else str(model)
        raise ModelFileError(f"model: {label} must be an ONNX model, got an error: {exc}") from exc


class InspectionSession:
    """A model file with a valid card, ready to inspect. Safe to call from several threads."""

    def __init__(
        self,
        runtime: ort.InferenceSession,
        card: ModelCard,
        digest: str,
        execution_provider: str,
        choice: str,
    ) -> None:
        """Keep the parts; callers use :meth:`load`."""
        self.card = card
        self.digest = digest
        self.execution_provider = execution_provider
        self.choice = choice
        self._runtime = runtime

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) that :meth:`run` takes."""
        return self.card.input_size

    @classmethod
    def load(
        cls, path: Path, *, execution_provider: Provider = "auto", threads: int | None = None
    ) -> "InspectionSession":
        """Load a model file and check its card and contract.

        ``auto`` measures the providers that this machine has, and takes the fastest that gives
        the verdicts of the default one; ``choice`` says what was chosen and why.

        Raises:
            ModelFileError: no such file, no ONNX model, no valid card, or the wrong contract.
            SettingsError: the provider is unknown or cannot be had here.
        """
        if execution_provider not in PROVIDERS:
            raise SettingsError(
                f"execution_provider: must be one of {', '.join(PROVIDERS)}, "
                f"got {execution_provider!r}"
            )
        if threads is not None and threads < 1:
            raise SettingsError(f"threads: must be at least 1, got {threads}")
        try:
            data = Path(path).read_bytes()
        except OSError as exc:
            raise ModelFileError(f"model: {path} cannot be read ({exc.strerror})") from exc
        count = threads or available_threads()
        digest = hashlib.sha256(data).hexdigest()
        first = "openvino" if execution_provider == "openvino" else "cpu"
        runtime = make_runtime(data, cast(Literal["cpu", "openvino"], first), count)
        card = ModelCard.from_metadata(dict(runtime.get_modelmeta().custom_metadata_map), str(path))
        _check_contract(runtime, card, str(path))
        session = cls(runtime, card, digest, first, f"{first} was asked for")
        return _choose(session, data, count) if execution_provider == "auto" else session

    def run(self, images: Image) -> Outputs:
        """Inspect a batch.

        Args:
            images: (N, height, width, 3) uint8 RGB, N >= 1, of ``input_size``.

        Raises:
            ValueError: the array has another shape or dtype.
        """
        height, width = self.input_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
            raise ValueError(
                f"images: must be uint8 (N, {height}, {width}, 3), "
                f"got {images.dtype} {images.shape}"
            )
        if not len(images):
            raise ValueError("images: must hold at least one picture, got 0")
        return Outputs(*self._runtime.run(list(OUTPUT_NAMES), {"images": images}))


def _check_contract(runtime: ort.InferenceSession, card: ModelCard, origin: str) -> None:
    """Refuse a graph whose inputs or outputs are not the contract's."""
    inputs = [(i.name, i.type, list(i.shape[1:])) for i in runtime.get_inputs()]
    wanted = [("images", "tensor(uint8)", [*card.input_size, 3])]
    if inputs != wanted:
        raise ModelFileError(f"model: {origin} must take {wanted}, got {inputs}")
    outputs = {output.name: output.type for output in runtime.get_outputs()}
    missing = [name for name in OUTPUT_NAMES if outputs.get(name) != "tensor(float)"]
    if missing:
        raise ModelFileError(
            f"model: {origin} must give float32 outputs {', '.join(missing)}, "
            f"got {', '.join(sorted(outputs)) or 'none'}"
        )


def _choose(session: InspectionSession, data: bytes, threads: int) -> InspectionSession:
    """Take OpenVINO where it is here, faster and of the same verdicts."""
    devices, reason = openvino_devices()
    if not devices:
        session.choice = f"cpu, the only provider here: {reason}"
        return session
    rival = InspectionSession(
        make_runtime(data, "openvino", threads), session.card, session.digest, "openvino", ""
    )
    height, width = session.input_size
    probe = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), dtype=np.uint8)
    threshold = session.card.policy.threshold
    mine, theirs = session.run(probe).score, rival.run(probe).score
    if not np.array_equal(mine >= threshold, theirs >= threshold):
        session.choice = "cpu: OpenVINO changes verdicts of this model"
        return session
    slow, fast = _median_seconds(session, probe), _median_seconds(rival, probe)
    winner = rival if fast < slow else session
    winner.choice = (
        f"{winner.execution_provider}: {len(probe) / slow:.0f} images/s on cpu, "
        f"{len(probe) / fast:.0f} on openvino, the same verdicts"
    )
    return winner


def _median_seconds(session: InspectionSession, probe: Image, repeats: int = 5) -> float:
    """Median seconds for one run over ``probe``; the callers have warmed both sessions."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        session.run(probe)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
