"""Find the fastest way to run a model on this machine that keeps its verdicts.

Providers and precisions first pass the gate: on every calibration picture the verdict and the
class of the default (float32 on the CPU provider). A reduced precision may differ where float32
runs again what is near a limit of the policy, see `models/guard.py`. What passes is timed in
layouts of threads and runs at once, and in batch sizes, rounds alternating, so that whatever else
the machine does meets all of them alike. What was chosen is written beside the model, see
`models/tuning.py`.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np

from twonines.benchmarks.reduce import (
    as_feeds,
    quantise,
    reduced_card,
    why_unreduced,
    write_reduced,
)
from twonines.benchmarks.timing import (
    Candidate,
    Report,
    Timing,
    TuneOptions,
    make_timings,
    open_candidate,
    pick,
    pick_to_serve,
    time_all,
)
from twonines.errors import GateError, ModelFileError, SettingsError, TwoninesError
from twonines.models.card import ModelCard, Reduction
from twonines.models.guard import Guard, can_guard
from twonines.models.image import decode
from twonines.models.inspector import Inspector, Part, Prepared, stack
from twonines.models.outputs import Outputs
from twonines.models.providers import (
    FILE_PRECISIONS,
    Precision,
    ProviderName,
    Variant,
    available_threads,
    precisions_of,
    read_model,
    why_missing,
)
from twonines.models.session import InspectionSession, probe_images
from twonines.models.tuning import (
    Tuned,
    reduced_path,
    this_machine,
    write_tuned,
)
from twonines.types import Inspection, Verdict

Picture = tuple[Path, Path | None]
"""A calibration picture, and its reference where the model compares."""
FEWEST = 50
"""Under so many calibration pictures equal verdicts say too little of a reduced precision."""
_FOR_RANGES = 32
_MOST_RECHECKED = 0.5
"""What runs more pictures again than this in float32 is hardly faster."""


def tune(
    model: Path, pictures: Sequence[Picture], options: TuneOptions, report: Report | None = None
) -> Tuned:
    """Measure, choose, and write ``model.tuned.json`` and the reduced file that was chosen.

    Without pictures the gate runs on generated ones, and only float32 is tried.

    Raises:
        ModelFileError: no model, or its folder cannot be written.
        ImageError: a calibration picture cannot be inspected; the message names it.
    """
    tell = report or (lambda *_: None)
    base = InspectionSession.load(model, execution_provider="cpu")
    folder = model.resolve().parent
    if not os.access(folder, os.W_OK):  # known before minutes are spent on measuring
        raise ModelFileError(f"model: {folder} must be writable, the choice is stored there")
    prepared = list(_prepare(base, pictures, options, tell))
    parts = [(one, tile) for one in prepared for tile in range(len(one))]
    candidates = list(_candidates(base, model, parts, len(prepared) if pictures else 0))
    expected = inspect_anew(base, prepared)
    for number, candidate in enumerate(candidates):
        tell("verdict gate", number, len(candidates))
        _check(base, candidate, prepared, expected)
    tell("verdict gate", len(candidates), len(candidates))
    timings = list(make_timings(base, candidates, options))
    time_all(timings, parts, options, tell)
    return _write(model, base, candidates, timings, len(prepared) if pictures else 0, options)


def _prepare(
    base: InspectionSession, pictures: Sequence[Picture], options: TuneOptions, tell: Report
) -> Iterator[Prepared]:
    inspector = Inspector(base)
    if not pictures:
        for image in probe_images(base.input_size):
            yield inspector.prepare(image, image[:, ::-1].copy() if base.card.reference else None)
        return
    # Also in a hurry: verdicts of few pictures say little of those of the line.
    count = min(options.pictures, len(pictures))
    chosen = [pictures[int(n * len(pictures) / count)] for n in range(count)]
    for number, (path, golden) in enumerate(chosen):
        tell("pictures", number, len(chosen))
        try:
            reference = None if golden is None else decode(golden.read_bytes())
            yield inspector.read(path.read_bytes(), reference)
        except OSError as exc:
            raise SettingsError(f"calibration: {path} cannot be read ({exc.strerror})") from exc
        except TwoninesError as exc:
            raise type(exc)(f"calibration: {path}: {exc}") from exc
    tell("pictures", len(chosen), len(chosen))


def _candidates(
    base: InspectionSession, model: Path, parts: Sequence[Part], count: int
) -> Iterator[Candidate]:
    """All there are, each with its model, or with the reason why it is out."""
    data, made = read_model(model), dict[Precision, Candidate]()
    for provider in get_args(ProviderName):
        missing = why_missing(provider)
        if missing:
            yield Candidate(provider, "float32", out=missing)
            continue
        for precision in precisions_of(provider):
            candidate = Candidate(provider, precision, data)
            candidate.out = _forbids(base, candidate, count)
            if not candidate.out and precision in FILE_PRECISIONS:
                if precision not in made:  # quantising takes long
                    made[precision] = _reduced(model, precision, parts, base)
                candidate.data, candidate.out = made[precision].data, made[precision].out
            yield candidate


def _forbids(base: InspectionSession, candidate: Candidate, count: int) -> str:
    """Why a candidate must not even be tried."""
    certificate = base.card.certificate
    if certificate and candidate.precision != certificate.precision:
        return "another precision voids the certificate"
    if certificate and candidate.provider not in certificate.execution_providers:
        return "the certificate was not made on it"
    if candidate.precision != "float32" and count < FEWEST:
        return f"needs {FEWEST} calibration pictures, got {count}"
    if candidate.precision in FILE_PRECISIONS:
        return "the model is reduced already" if base.card.reduced else why_unreduced()
    return ""


def _reduced(
    model: Path, precision: Precision, parts: Sequence[Part], base: InspectionSession
) -> Candidate:
    candidate = Candidate("cpu", precision)
    count = min(_FOR_RANGES, len(parts))  # spread over all: neighbours are alike
    chosen = [parts[number * len(parts) // count] for number in range(count)]
    try:
        feeds = as_feeds(*stack(chosen, base.card.reference))
        candidate.data = quantise(model, precision, feeds)
    except GateError as exc:
        candidate.out = str(exc)
    return candidate


def inspect_anew(session: InspectionSession, pictures: Sequence[Prepared]) -> list[Inspection]:
    """Inspect pictures that another session may have inspected before."""
    fresh = [replace(picture, merger=None, inspection=None) for picture in pictures]
    return list(Inspector(session).inspect(fresh, 16))


def _check(
    base: InspectionSession,
    candidate: Candidate,
    pictures: Sequence[Prepared],
    expected: Sequence[Inspection],
) -> None:
    """The verdict gate; the candidate says why where it is out."""
    plain = candidate.provider == "cpu" and candidate.precision == "float32"
    if candidate.out or plain:
        return
    variant = Variant(
        execution_provider=candidate.provider,
        precision=candidate.precision,
        threads=available_threads(),
    )
    try:
        found = inspect_anew(open_candidate(base, candidate, variant), pictures)
    except Exception as exc:  # a provider that cannot run this model is only out
        candidate.out = f"cannot run this model ({str(exc).splitlines()[0][:120]})"
        return
    pairs = list(zip(expected, found, strict=True))
    shifts = [abs((a.score or 0.0) - (b.score or 0.0)) for a, b in pairs]
    candidate.score_shift = max(shifts)
    if candidate.precision != "float32" and can_guard(base.card):
        _guard(candidate, base.card, expected, found)
        return
    other = sum(a.verdict is not b.verdict or a.defect_class != b.defect_class for a, b in pairs)
    if other:
        candidate.out = f"changes {other} of {len(pairs)} verdicts"


def _guard(
    candidate: Candidate,
    card: ModelCard,
    expected: Sequence[Inspection],
    found: Sequence[Inspection],
) -> None:
    """Let float32 decide again what is near a limit; the candidate is out where that is not enough.

    A margin holds for pictures that it was not made from, or is none: that of each half of the
    pictures must cover the other half. The one that is kept comes from all of them. Which kind is
    named is not held where only a doubt, as of the light, keeps a part from being OK.
    """
    if any(one.verdict is Verdict.ERROR for one in (*expected, *found)):
        candidate.out = "gives values that are no scores"
        return
    exact, reduced = _as_outputs(expected, card), _as_outputs(found, card)
    first = np.arange(len(found)) % 2 == 0
    for half in (first, ~first):
        margin = Guard.of(exact.take(half), reduced.take(half))
        if not margin.covers(exact.take(~half), reduced.take(~half)):
            candidate.out = (
                f"moves scores by up to {candidate.score_shift:.2g}: in one half of the pictures "
                "further than twice what the other half shows"
            )
            return
    candidate.guard = Guard.of(exact, reduced)
    unsure = candidate.guard.find_unsure(reduced, card)
    candidate.rechecked = float(unsure.mean())
    if candidate.rechecked > _MOST_RECHECKED:
        candidate.out = (
            f"moves scores by up to {candidate.score_shift:.2g}: {candidate.rechecked:.0%} of "
            "pictures would run again in float32"
        )
    changed = [a.verdict is not b.verdict for a, b in zip(expected, found, strict=True)]
    if missed := int((np.array(changed) & ~unsure).sum()):
        candidate.out = f"changes {missed} of {len(changed)} verdicts far from every limit"


def _as_outputs(inspections: Sequence[Inspection], card: ModelCard) -> Outputs:
    """What the decision looked at, without maps."""
    score = np.array([one.score for one in inspections], np.float32)
    novelty = np.array([one.novelty for one in inspections], np.float32)
    classes = [[one.class_scores[name] for name in card.classes] for one in inspections]
    maps = np.zeros((len(score), 1, 1), np.float32)
    return Outputs(score, np.array(classes, np.float32), maps, novelty)


def _write(
    model: Path,
    base: InspectionSession,
    candidates: Sequence[Candidate],
    timings: Sequence[Timing],
    pictures: int,
    options: TuneOptions,
) -> Tuned:
    within = [one for one in timings if one.run_ms <= options.latency_ms]
    least = min(timings, key=lambda one: one.run_ms)
    serve = pick_to_serve(within) if within else least
    batch = pick([one for one in timings if one.variant.streams == 1])
    files = {}
    for one in {id(t.candidate): t.candidate for t in (serve, batch)}.values():
        if one.precision in FILE_PRECISIONS:
            made = Reduction.model_validate(
                {"precision": one.precision, "parent": base.digest, "pictures": pictures,
                 "score_shift": one.score_shift, "guarded": one.guard is not None}
            )  # fmt: skip
            path = reduced_path(model, one.precision)
            write_reduced(one.data, reduced_card(base.card, made), path)
            files[one.precision] = hashlib.sha256(read_model(path)).hexdigest()
    rows = []
    for timing in timings:
        row = timing.row()
        chosen = [name for name, one in (("serve", serve), ("batch", batch)) if one is timing]
        row["note"] = f"chosen for {' and '.join(chosen)}" if chosen else ""
        rows.append(row)
    rows += [
        {"execution_provider": one.provider, "precision": one.precision,
         "score_shift": one.score_shift, "note": one.out}
        for one in candidates if one.out
    ]  # fmt: skip
    tuned = Tuned(
        model=base.digest,
        machine=this_machine(),
        latency_ms=options.latency_ms,
        latency_met=bool(within),
        pictures=pictures,
        serve=serve.choice(),
        batch=batch.choice(),
        files=files,
        rows=tuple(rows),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_tuned(model, tuned)
    return tuned
