"""Execution providers and precisions: what this machine has, and sessions on them."""

import json
import os
import platform
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort
from pydantic import Field

from twonines.errors import ModelFileError, SettingsError
from twonines.models.parts import CardPart

ProviderName = Literal["cpu", "openvino", "cuda", "tensorrt"]
Precision = Literal["float32", "tf32", "bf16", "fp16", "int8", "int8-mixed"]
FILE_PRECISIONS: tuple[Precision, ...] = ("int8", "int8-mixed")
"""Precisions that need a model file of their own; the others are options of the provider."""
_OPENVINO_LIBRARY = "twonines_openvino"
_OPENVINO_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_STOP_SPINNING = "session.force_spinning_stop"
_ARM_BF16 = "mlas.enable_gemm_fastmath_arm64_bfloat16"
_IN_ORT = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class Variant(CardPart):
    """A way to run a model: ``threads`` of one run, and ``streams`` runs at once."""

    execution_provider: ProviderName = "cpu"
    precision: Precision = "float32"
    threads: int = Field(ge=1)
    streams: int = Field(default=1, ge=1)

    @property
    def alone(self) -> "Variant":
        """The same for one run at a time, on all the threads together."""
        return self.model_copy(update={"threads": self.threads * self.streams, "streams": 1})


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


def why_missing(execution_provider: ProviderName) -> str:
    """Why a provider cannot be had on this machine; empty where it can."""
    if execution_provider == "openvino":
        return openvino_devices()[1]
    name = _IN_ORT.get(execution_provider)
    if name is None or name in ort.get_available_providers():
        return ""
    return f"this ONNX Runtime has no {name}; the package onnxruntime-gpu brings it"


def precisions_of(execution_provider: ProviderName) -> tuple[Precision, ...]:
    """What a provider can compute in; int8 by a file of its own, the rest by options."""
    if execution_provider == "cpu":
        arm = platform.machine().lower() in ("aarch64", "arm64")
        return ("float32", *(("bf16",) if arm else ()), *FILE_PRECISIONS)
    return {
        "openvino": ("float32", "bf16", "fp16", *FILE_PRECISIONS),
        "cuda": ("float32", "tf32"),
        "tensorrt": ("float32", "tf32", "bf16", "fp16", *FILE_PRECISIONS),
    }[execution_provider]


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
    variant = Variant(execution_provider=execution_provider, threads=threads)
    return open_runtime(model, variant, origin)


def open_runtime(
    model: bytes | Path, variant: Variant, origin: str | None = None
) -> ort.InferenceSession:
    """An ONNX Runtime session of one variant; of ``int8``, ``model`` is that file.

    Raises:
        SettingsError, ModelFileError: as :func:`make_runtime`.
    """
    data = model if isinstance(model, bytes) else read_model(model)
    label = origin or ("bytes" if isinstance(model, bytes) else str(model))
    reason = why_missing(variant.execution_provider)
    if reason:
        name = variant.execution_provider
        raise SettingsError(f"execution_provider: {name!r} cannot be used, {reason}")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and our message says it
    # Runs at once share one pool and bring a thread each, which works too.
    options.intra_op_num_threads = (variant.threads - 1) * variant.streams + 1
    # Between runs idle threads would spin on the cores that decode and answer need.
    options.add_session_config_entry(_STOP_SPINNING, "1")
    # Weights in other files are outside the digest. ONNX Runtime would take them from the working
    # folder; here it finds an empty one.
    with tempfile.TemporaryDirectory(prefix="twonines-") as empty:
        options.add_session_config_entry(_WEIGHTS_FOLDER, empty)
        try:
            return _open(data, variant, options)
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


def _open(data: bytes, variant: Variant, options: ort.SessionOptions) -> ort.InferenceSession:
    if variant.execution_provider == "cpu":
        if variant.precision == "bf16":
            options.add_session_config_entry(_ARM_BF16, "1")
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    if variant.execution_provider == "openvino":
        devices, _ = openvino_devices()
        config = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_HINTS.get(variant.precision, "f32"),
            "INFERENCE_NUM_THREADS": variant.threads * variant.streams,
        }
        if variant.streams > 1:
            config["NUM_STREAMS"] = variant.streams
        options.add_provider_for_devices(devices, {"load_config": json.dumps({"CPU": config})})
        return ort.InferenceSession(data, options)
    name, settings = _gpu_options(variant)
    session = ort.InferenceSession(data, options, providers=[(name, settings)])
    if session.get_providers()[:1] != [name]:  # it falls back to the CPU without a word
        raise SettingsError(
            f"execution_provider: {variant.execution_provider!r} cannot be used, ONNX Runtime "
            f"fell back to {', '.join(session.get_providers())}"
        )
    return session


def _gpu_options(variant: Variant) -> tuple[str, dict[str, Any]]:
    """ONNX Runtime's name of the provider, and its options for the precision."""
    name = _IN_ORT[variant.execution_provider]
    if variant.execution_provider == "cuda":
        return name, {"use_tf32": str(int(variant.precision == "tf32"))}
    switches = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable"}
    switch = switches.get(variant.precision)
    if variant.precision in FILE_PRECISIONS:
        switch = "trt_int8_enable"
    return name, {switch: "True"} if switch else {}
