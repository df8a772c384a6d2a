"""What `twonines tune` found for a model on one machine: ``model.tuned.json`` beside the model.

It holds only for the machine and the model that it names. A file that is stale, damaged or of
another machine is ignored with a warning: it can make a service faster, never stop it.
"""

import hashlib
import importlib.metadata
import logging
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from twonines.errors import ModelFileError
from twonines.models.card import ModelCard
from twonines.models.guard import Guard
from twonines.models.onnx_file import read_card
from twonines.models.parts import CardPart
from twonines.models.providers import Precision, Variant, available_threads, read_model
from twonines.models.whole import write_whole

log = logging.getLogger(__name__)
Purpose = Literal["serve", "batch"]
_MAX_BYTES = 1 << 20
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino")


class Machine(CardPart):
    """What a measured choice depends on."""

    cpu: str
    cores: int
    flags: str
    """SHA-256 of the processor's instruction flags, in order."""
    packages: dict[str, str]


class TunedChoice(CardPart):
    """The fastest variant of one purpose: median, range and milliseconds of one run.

    With a ``guard``, pictures near a limit run again in float32: a share ``rechecked`` of the
    calibration pictures, [0, 1], which the pace counts.
    """

    variant: Variant
    max_batch_size: int = Field(ge=1, le=1024)
    per_second: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    run_ms: float = Field(gt=0)
    score_shift: float = Field(ge=0, le=1)
    guard: Guard | None = None
    rechecked: float = Field(default=0.0, ge=0, le=1)

    @property
    def text(self) -> str:
        """The choice in one line."""
        one = self.variant
        again = f", {self.rechecked:.1%} of pictures again in float32" if self.guard else ""
        return (
            f"{one.execution_provider} {one.precision}, {one.threads} threads, "
            f"{one.streams} at once, batches of at most {self.max_batch_size}{again}"
        )


class Tuned(CardPart):
    """The file: ``serve`` keeps the latency bound where one can, ``batch`` knows none."""

    version: Literal[1] = 1
    model: str
    machine: Machine
    latency_ms: float = Field(gt=0)
    latency_met: bool
    pictures: int = Field(ge=0)
    serve: TunedChoice
    batch: TunedChoice
    files: dict[Precision, str] = Field(default_factory=dict)
    """SHA-256 of the files of reduced precision that are chosen."""
    rows: tuple[Mapping[str, Any], ...] = ()
    created: str

    def choice(self, purpose: Purpose) -> TunedChoice:
        """What was chosen for one purpose."""
        return self.serve if purpose == "serve" else self.batch


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = " ".join(sorted(value.split()))
            break
    return Machine(
        cpu=name,
        cores=available_threads(),
        flags=hashlib.sha256(flags.encode()).hexdigest(),
        packages=installed_versions(_PACKAGES),
    )


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def tuned_path(model: Path) -> Path:
    """Where the choice for ``model`` lies."""
    return model.with_name(f"{model.stem}.tuned.json")


def reduced_path(model: Path, precision: Precision) -> Path:
    """Where the file of reduced precision of ``model`` lies."""
    return model.with_name(f"{model.stem}.{precision}.onnx")


def write_tuned(model: Path, tuned: Tuned) -> Path:
    """Write the choice whole or not at all.

    Raises:
        ModelFileError: there is no room, or no permission.
    """
    path = tuned_path(model)
    try:
        write_whole(path, (tuned.model_dump_json(indent=2) + "\n").encode())
    except OSError as exc:
        raise ModelFileError(f"model: {path} must be writable ({exc.strerror or exc})") from exc
    return path


def find_tuned(model: Path, digest: str) -> Tuned | None:
    """The choice for this model on this machine; None where there is none that holds."""
    path = tuned_path(model)
    if not path.exists():
        log.info("%s is not tuned for this machine; `twonines tune` may make it faster", model)
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it must have at most {_MAX_BYTES} bytes")
        tuned = Tuned.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        log.warning("%s is damaged and is ignored: %s: %s", path, place, first["msg"])
        return None
    except (OSError, ValueError) as exc:
        log.warning("%s is damaged and is ignored: %s", path, exc)
        return None
    if tuned.model != digest:
        log.warning("%s is of another model file and is ignored; tune it again", path)
        return None
    if tuned.machine != this_machine():
        log.warning("%s was made on another machine and is ignored; tune it again here", path)
        return None
    return tuned


def find_reduced(tuned: Tuned, model: Path, precision: Precision) -> bytes:
    """The file of reduced precision that was chosen.

    Raises:
        ModelFileError: it is missing, or not the one that was measured.
    """
    path = reduced_path(model, precision)
    data = read_model(path)
    if hashlib.sha256(data).hexdigest() != tuned.files.get(precision):
        raise ModelFileError(f"model: {path} is not the file that was measured")
    check_reduced(read_card(data, str(path)), tuned.model, path)
    return data


def check_reduced(card: ModelCard, parent: str, path: Path) -> None:
    """Refuse a file that was not made from ``parent``."""
    if card.reduced is None or card.reduced.parent != parent:
        made = card.reduced.parent if card.reduced else "none"
        raise ModelFileError(f"model: {path} must be made from {parent}, got {made}")
