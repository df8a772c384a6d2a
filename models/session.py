"""A loaded model on one execution provider."""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnxruntime as ort

from twonines.errors import ModelFileError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.certificate import find_fault
from twonines.models.decision import decide
from twonines.models.guard import Guard
from twonines.models.image import preprocessing_digest
from twonines.models.onnx_file import graph_digest
from twonines.models.outputs import BOX_NAMES, MAP_NAMES, OUTPUT_NAMES, Outputs
from twonines.models.providers import (
    FILE_PRECISIONS,
    Precision,
    ProviderName,
    Variant,
    available_threads,
    make_runtime,
    open_runtime,
    openvino_devices,
    read_model,
)
from twonines.models.tuning import Purpose, TunedChoice, find_reduced, find_tuned
from twonines.models.withdrawal import find_withdrawal
from twonines.types import Image

log = logging.getLogger(__name__)
Provider = Literal["auto", "cpu", "openvino"]
PROVIDERS: tuple[Provider, ...] = ("auto", "cpu", "openvino")
SLOW_RUNS = 2
"""Slow runs of a batch size: ONNX Runtime plans its memory in one, and takes it in the next."""
_MAX_SHIFT = 1e-3


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
        self.precision: Precision = card.reduced.precision if card.reduced else "float32"
        self.tuned: TunedChoice | None = None
        """What `twonines tune` chose for this machine, where this session runs as it says."""
        self.certificate_fault: str | None = None
        """Why the card's certificate does not hold here; None where it does or there is none."""
        self.streams = 1
        """Runs at once for which the model is open ``beside``; 1 where it is not."""
        self._runtime = self._beside = runtime
        self._names = _offered(runtime)
        self.rechecked = 0
        """Pictures or tiles that ran again in float32, since they were near a limit."""
        self._counting = threading.Lock()
        self._guard: Guard | None = None
        self._exact: InspectionSession | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) that :meth:`run` takes."""
        return self.card.input_size

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        execution_provider: Provider = "auto",
        threads: int | None = None,
        purpose: Purpose | None = "serve",
        other_files: bool = True,
        beside: bool = False,
    ) -> "InspectionSession":
        """Load a model file and check its card and contract.

        ``auto`` runs as `twonines tune` has chosen for ``purpose`` on this machine. Where it has
        not, or ``threads`` are given or ``purpose`` is None, it measures the providers that this
        machine has, and takes the fastest that gives the verdicts of the default one. ``choice``
        says what was chosen and why. ``digest`` is that of ``path``, whatever runs. Without
        ``other_files`` nothing but ``path`` runs, no int8 file that was made from it. ``beside``
        also opens the model for several runs at once, as it was tuned or, where it was not and no
        ``threads`` are given, for two on half of the cores each: one run on all cores answers a
        single picture soonest, several at once lose no time to waiting for each other's threads.

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
        if card.reduced and card.reduced.guarded:
            raise ModelFileError(
                f"model: {path} must be used through the float32 file that it was made from: alone "
                "it gives other verdicts near a limit"
            )
        _check_contract(runtime, card, str(path))
        _check_outputs(runtime, card, str(path))
        session = cls(runtime, card, digest, first, f"{first} was asked for")
        if execution_provider == "auto":
            tuned = None
            if purpose is not None and not threads:
                tuned = _tuned(session, data, path, purpose, other_files, beside)
            session = tuned or choose(session, data, count)
        if beside and not session.tuned and not threads and count > 1:
            half = Variant(
                execution_provider=cast(ProviderName, session.execution_provider),
                threads=count // 2, streams=2,
            )  # fmt: skip
            session.open_beside(data, half, str(path))
        session.certificate_fault = _certificate_fault(session, data, path.parent)
        return session

    @property
    def output_names(self) -> tuple[str, ...]:
        """The contract's outputs that this model gives."""
        return self._names

    def open_beside(self, model: bytes, variant: Variant, origin: str) -> None:
        """Open the model for ``variant.streams`` runs at once too, where it answers the same so.

        Where it does not, or cannot be opened twice, one run at a time goes on, with a warning.
        """
        try:
            runtime = open_runtime(model, variant, origin)
            _check_outputs(runtime, self.card, origin)
            rival = InspectionSession(runtime, self.card, self.digest, "", "")
            if change := _changes(self, rival, probe_images(self.input_size)):
                raise ModelFileError(f"it changes {change}")
        except Exception as exc:  # what only makes it faster must not stop the service
            log.warning("%s runs one batch at a time, not several at once: %s", origin, exc)
            return
        self._beside, self.streams = runtime, variant.streams

    def run(
        self, images: Image, references: Image | None = None, *, beside: bool = False
    ) -> Outputs:
        """Inspect a batch.

        Args:
            images: (N, height, width, 3) uint8 RGB, N >= 1, of ``input_size``.
            references: the same shape, aligned parts without defects; needed exactly where the
                card says ``reference``.
            beside: other runs go on meanwhile, of at most ``streams``; takes a part of the cores.

        Raises:
            ValueError: an array has another shape or dtype, or ``references`` is missing or not
                wanted.
        """
        if not len(images):
            raise ValueError("images: must hold at least one picture, got 0")
        feed = {"images": images}
        if (references is not None) != self.card.reference:
            wanted = "must be given for" if self.card.reference else "must not be given for"
            raise ValueError(f"references: {wanted} this model")
        if references is not None:
            feed["references"] = references
        height, width = self.input_size
        for name, value in feed.items():
            if value.dtype != np.uint8 or value.shape != (len(images), height, width, 3):
                raise ValueError(
                    f"{name}: must be uint8 ({len(images)}, {height}, {width}, 3), "
                    f"got {value.dtype} {value.shape}"
                )
        runtime = self._beside if beside else self._runtime
        outputs = self.name_outputs(runtime.run(list(self._names), feed))
        if self._guard is not None and self._exact is not None:
            unsure = self._guard.find_unsure(outputs, self.card)
            if count := int(unsure.sum()):
                with self._counting:
                    self.rechecked += count
                golden = None if references is None else references[unsure]
                outputs.put(unsure, self._exact.run(images[unsure], golden, beside=beside))
        return outputs

    def guard_by(self, exact: "InspectionSession", guard: Guard) -> None:
        """Let ``exact`` run again what ``guard`` is unsure of; it must run as many at once."""
        self._exact, self._guard = exact, guard

    def name_outputs(self, values: Sequence[Any]) -> Outputs:
        """Arrays in the order of the graph's outputs, as the contract calls them."""
        return Outputs(**dict(zip(self._names, values, strict=True)))


def _certificate_fault(session: InspectionSession, data: bytes, folder: Path) -> str | None:
    """Compare the certificate with what was loaded, and look whether it was withdrawn."""
    certificate = session.card.certificate
    if certificate is None:
        return None
    fault = find_fault(
        certificate,
        graph=graph_digest(data),
        preprocessing=preprocessing_digest(session.input_size),
        decision=session.card.decision_digest(),
        execution_provider=session.execution_provider,
        precision=session.precision,
    )
    return fault or find_withdrawal(folder, certificate.digest)


def _offered(runtime: ort.InferenceSession) -> tuple[str, ...]:
    """Names of the contract's outputs that the graph gives, in the contract's order."""
    there = {output.name for output in runtime.get_outputs()}
    return tuple(n for n in (*OUTPUT_NAMES, *MAP_NAMES, *BOX_NAMES) if n in there)


def _check_contract(runtime: ort.InferenceSession, card: ModelCard, origin: str) -> None:
    """Refuse a graph whose inputs or outputs are not the contract's."""
    inputs = [(i.name, i.type, list(i.shape[1:])) for i in runtime.get_inputs()]
    names = ("images", "references") if card.reference else ("images",)
    wanted = [(name, "tensor(uint8)", [*card.input_size, 3]) for name in names]
    if inputs != wanted:
        raise ModelFileError(f"model: {origin} must take {wanted}, got {inputs}")
    outputs = {output.name: output.type for output in runtime.get_outputs()}
    missing = [name for name in OUTPUT_NAMES if outputs.get(name) != "tensor(float)"]
    if missing:
        raise ModelFileError(
            f"model: {origin} must give float32 outputs {', '.join(missing)}, "
            f"got {', '.join(sorted(outputs)) or 'none'}"
        )
    boxes = [name for name in BOX_NAMES if name in outputs]
    if len(boxes) != (len(BOX_NAMES) if card.task == "detect" else 0):
        raise ModelFileError(
            f"model: {origin} must give {', '.join(BOX_NAMES)} exactly where its task is 'detect', "
            f"got {', '.join(boxes) or 'none'} for {card.task!r}"
        )


def _check_outputs(runtime: ort.InferenceSession, card: ModelCard, origin: str) -> None:
    """Refuse a graph whose outputs are not of the batch's length or of the card's classes."""
    for count in (1, 2):
        try:
            images = np.zeros((count, *card.input_size, 3), np.uint8)
            feed = {"images": images} | ({"references": images} if card.reference else {})
            names = _offered(runtime)
            outputs = Outputs(**dict(zip(names, runtime.run(list(names), feed), strict=True)))
            outputs.check(count, len(card.classes))
        except Exception as exc:  # ONNX Runtime's classes share no public base
            raise ModelFileError(
                f"model: {origin} must give its card's outputs for {count} pictures, "
                f"got an error: {exc}"
            ) from exc


def _tuned(
    session: InspectionSession,
    data: bytes,
    path: Path,
    purpose: Purpose,
    other_files: bool,
    beside: bool,
) -> InspectionSession | None:
    """The session as it was tuned for this machine; None where that cannot be had."""
    found = find_tuned(path, session.digest)
    if found is None:
        return None
    choice = found.choice(purpose)
    variant = choice.variant
    reduced = variant.precision in FILE_PRECISIONS
    if reduced and not other_files:
        log.warning(
            "the tuned choice for %s is not used: persons approve that file alone, and its %s file "
            "is another one", path, variant.precision,
        )  # fmt: skip
        return None
    try:
        model = find_reduced(found, path, variant.precision) if reduced else data
        runtime = open_runtime(model, variant.alone, str(path))
        _check_contract(runtime, session.card, str(path))
        _check_outputs(runtime, session.card, str(path))
        fast = InspectionSession(runtime, session.card, session.digest, variant.execution_provider,
                                 f"{choice.text}, as tuned on {found.created}")  # fmt: skip
        if variant.precision == "float32" and (
            change := _changes(session, fast, probe_images(session.input_size))
        ):
            raise ModelFileError(f"it changes {change}")
        if beside and variant.streams > 1:
            fast.open_beside(model, variant, str(path))
            if choice.guard is not None and fast.streams > 1:
                plain = {"execution_provider": session.execution_provider, "precision": "float32"}
                session.open_beside(data, variant.model_copy(update=plain), str(path))
                fast.streams = session.streams
        if choice.guard is not None:
            fast.guard_by(session, choice.guard)
    except Exception as exc:  # what was tuned must not stop the service
        log.warning("the tuned choice for %s is not used: %s; tune it again", path, exc)
        return None
    fast.precision, fast.tuned = variant.precision, choice
    return fast


def choose(session: InspectionSession, data: bytes, threads: int) -> InspectionSession:
    """Take OpenVINO where it is here, faster and of the same verdicts; else say why not."""
    devices, reason = openvino_devices()
    if not devices:
        session.choice = f"cpu, the only provider here: {reason}"
        return session
    certificate = session.card.certificate
    certified = certificate.execution_providers if certificate else ("cpu", "openvino")
    if "openvino" not in certified:
        session.choice = "cpu: the certificate was not made on openvino"
        return session
    probe = probe_images(session.input_size)
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
    winner = rival if fast < slow or "cpu" not in certified else session
    winner.choice = (
        f"{winner.execution_provider}: {len(probe) / slow:.0f} images/s on cpu, "
        f"{len(probe) / fast:.0f} on openvino, the same verdicts"
    )
    return winner


def probe_images(size: tuple[int, int]) -> Image:
    """Plain, shaded and noisy pictures from dark to bright, (8, height, width, 3) uint8."""
    height, width = size
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    shaded = np.broadcast_to(ramp, (height, width, 3))
    plain = [np.full((height, width, 3), level, np.uint8) for level in (0, 96, 160, 255)]
    return np.stack([*plain, shaded, shaded[:, ::-1], noise, noise // 4 + 96])


def _run_probe(session: InspectionSession, probe: Image) -> Outputs:
    """The probe, compared with itself mirrored where the model wants references."""
    return session.run(probe, probe[:, :, ::-1].copy() if session.card.reference else None)


def _changes(session: InspectionSession, rival: InspectionSession, probe: Image) -> str:
    """What the rival answers otherwise; empty where nothing matters."""
    sizes = [session.input_size] * len(probe)
    mine, theirs = _run_probe(session, probe), _run_probe(rival, probe)
    for before, after in zip(
        decide(mine, session.card, sizes, fault=None),
        decide(theirs, session.card, sizes, fault=None),
        strict=True,
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
        _run_probe(session, probe)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
