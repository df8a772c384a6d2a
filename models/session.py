"""A loaded model on one execution provider."""

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import onnxruntime as ort

from twonines.errors import ModelFileError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.decision import decide
from twonines.models.outputs import Outputs as Outputs
from twonines.types import Image

Provider = Literal["auto", "cpu", "openvino"]
PROVIDERS: tuple[Provider, ...] = ("auto", "cpu", "openvino")
OUTPUT_NAMES = ("score", "class_scores", "defect_map", "novelty")
_OPENVINO_LIBRARY = "twonines_openvino"
_MAX_SHIFT = 1e-3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


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


def read_model(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelFileError: there is no such file, or it is a folder, a pipe or a device.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for, for ever
            raise ModelFileError(
                f"model: {path} must be a file, got a folder or something else that is no file"
            )
        return Path(path).read_bytes()
    except OSError as exc:
        raise ModelFileError(f"model: {path} cannot be read ({exc.strerror})") from exc


def make_runtime(
    model: bytes | Path,
    execution_provider: Literal["cpu", "openvino"],
    threads: int,
    origin: str | None = None,
) -> ort.InferenceSession:
    """An ONNX Runtime session; float32 on either provider.

    Args:
        model: the file, or its bytes.
        execution_provider: where it runs.
        threads: threads of one run.
        origin: the name in messages, where ``model`` is bytes.

    Raises:
        SettingsError: the provider cannot be had on this machine.
        ModelFileError: the file is no ONNX model, or keeps weights in other files.
    """
    data = model if isinstance(model, bytes) else read_model(model)
    label = origin or ("bytes" if isinstance(model, bytes) else str(model))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and our message says it
    options.intra_op_num_threads = threads
    # Weights in other files are outside the digest. ONNX Runtime would take them from the working
    # folder; here it finds an empty one.
    with tempfile.TemporaryDirectory(prefix="twonines-") as empty:
        options.add_session_config_entry(_WEIGHTS_FOLDER, empty)
        try:
            if execution_provider == "cpu":
                return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            devices, reason = openvino_devices()
            if not devices:
                raise SettingsError(f"execution_provider: 'openvino' cannot be used, {reason}")
            config = (
                f'{{"CPU":{{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":{threads}}}}}'
            )
            options.add_provider_for_devices(devices, {"load_config": config})
            return ort.InferenceSession(data, options)
        except SettingsError:
            raise
        except Exception as exc:  # ONNX Runtime's classes share no public base
            if "external data" in str(exc).lower():
                raise ModelFileError(
                    f"model: {label} must hold all its weights, got a model that keeps some in "
                    "other files"
                ) from exc
            raise ModelFileError(
                f"model: {label} must be an ONNX model, got an error: {exc}"
            ) from exc


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
        data = read_model(path)
        count = threads or available_threads()
        digest = hashlib.sha256(data).hexdigest()
        first = "openvino" if execution_provider == "openvino" else "cpu"
        runtime = make_runtime(data, cast(Literal["cpu", "openvino"], first), count, str(path))
        card = ModelCard.from_metadata(dict(runtime.get_modelmeta().custom_metadata_map), str(path))
        _check_contract(runtime, card, str(path))
        _check_outputs(runtime, card, str(path))
        session = cls(runtime, card, digest, first, f"{first} was asked for")
        return choose(session, data, count) if execution_provider == "auto" else session

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


def _check_outputs(runtime: ort.InferenceSession, card: ModelCard, origin: str) -> None:
    """Refuse a graph whose outputs are not of the batch's length or of the card's classes."""
    for count in (1, 2):
        try:
            images = np.zeros((count, *card.input_size, 3), np.uint8)
            outputs = Outputs(*runtime.run(list(OUTPUT_NAMES), {"images": images}))
            outputs.check(count, len(card.classes))
        except Exception as exc:  # ONNX Runtime's classes share no public base
            raise ModelFileError(
                f"model: {origin} must give its card's outputs for {count} pictures, "
                f"got an error: {exc}"
            ) from exc


def choose(session: InspectionSession, data: bytes, threads: int) -> InspectionSession:
    """Take OpenVINO where it is here, faster and of the same verdicts; else say why not."""
    devices, reason = openvino_devices()
    if not devices:
        session.choice = f"cpu, the only provider here: {reason}"
        return session
    probe = _probe(session.input_size)
    try:
        runtime = make_runtime(data, "openvino", threads)
        rival = InspectionSession(runtime, session.card, session.digest, "openvino", "")
        change = _changes(session, rival, probe)
        slow, fast = _median_seconds(session, probe), _median_seconds(rival, probe)
    except Exception as exc:  # a plugin that cannot run this model must not stop the service
        session.choice = f"cpu: OpenVINO cannot run this model ({exc})"
        return session
    if change:
        session.choice = f"cpu: OpenVINO changes {change}"
        return session
    winner = rival if fast < slow else session
    winner.choice = (
        f"{winner.execution_provider}: {len(probe) / slow:.0f} images/s on cpu, "
        f"{len(probe) / fast:.0f} on openvino, the same verdicts"
    )
    return winner


def _probe(size: tuple[int, int]) -> Image:
    """Plain, shaded and noisy pictures from dark to bright, (8, height, width, 3) uint8."""
    height, width = size
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    shaded = np.broadcast_to(ramp, (height, width, 3))
    plain = [np.full((height, width, 3), level, np.uint8) for level in (0, 96, 160, 255)]
    return np.stack([*plain, shaded, shaded[:, ::-1], noise, noise // 4 + 96])


def _changes(session: InspectionSession, rival: InspectionSession, probe: Image) -> str:
    """What the rival answers otherwise; empty where nothing matters."""
    sizes = [session.input_size] * len(probe)
    mine, theirs = session.run(probe), rival.run(probe)
    for before, after in zip(
        decide(mine, session.card, sizes), decide(theirs, session.card, sizes), strict=True
    ):
        if before.verdict is not after.verdict:
            return f"verdicts of this model, {before.verdict} to {after.verdict}"
        if before.defect_class != after.defect_class:
            return f"classes of this model, {before.defect_class} to {after.defect_class}"
    shift = float(np.abs(mine.score - theirs.score).max())
    if not shift <= _MAX_SHIFT:  # also where it is not finite
        return f"scores of this model by {shift:.2g}"
    return ""


def _median_seconds(session: InspectionSession, probe: Image, repeats: int = 5) -> float:
    """Median seconds for one run over ``probe``; the callers have warmed both sessions."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        session.run(probe)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
