"""The parity gate: an export exists only if every path gives the same scores and verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from twonines.errors import GateError
from twonines.models.session import InspectionSession, Outputs
from twonines.training.export import TOLERANCE, Reference
from twonines.training.features import image_batches
from twonines.types import FloatArray

HttpScores = Callable[[Path, Sequence[Path]], tuple[FloatArray, list[str]]]
"""(model, pictures) -> scores (N,) and verdicts that the HTTP service gives."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences over all test pictures, and what the session gave."""

    pictures: int
    reference: float
    http: float | None
    outputs: Outputs


def check_parity(
    reference: Reference,
    model: Path,
    pictures: Sequence[Path],
    verdicts: Callable[[Outputs], list[str]],
    http_scores: HttpScores | None,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Compare PyTorch, ONNX and HTTP on every picture.

    Raises:
        GateError: scores differ by more than 1e-4, or a verdict differs; names the picture.
    """
    session = InspectionSession.load(model, execution_provider="cpu")
    parts, references = [], []
    done = 0
    for images in image_batches(pictures, session.input_size, batch_size):
        parts.append(session.run(images))
        with torch.inference_mode():
            references.append([t.numpy() for t in reference(torch.from_numpy(images))])
        done += len(images)
        if progress:
            progress(done, len(pictures))
    outputs = join(parts)
    expected = Outputs(*(np.concatenate(column) for column in zip(*references, strict=True)))
    mine = verdicts(outputs)
    worst = _compare("PyTorch", expected.score, verdicts(expected), outputs.score, mine, pictures)
    over_http = None
    if http_scores is not None:
        scores, answered = http_scores(model, pictures)
        over_http = _compare("HTTP", scores, answered, outputs.score, mine, pictures)
    return Parity(len(pictures), worst, over_http, outputs)


def join(parts: Sequence[Outputs]) -> Outputs:
    """Batches back into one."""
    names = ("score", "class_scores", "defect_map", "novelty")
    return Outputs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _compare(
    label: str,
    theirs: FloatArray,
    their_verdicts: list[str],
    mine: FloatArray,
    my_verdicts: list[str],
    pictures: Sequence[Path],
) -> float:
    """Largest score difference; raises where scores or verdicts part."""
    if len(theirs) != len(mine):
        raise GateError(f"parity: {label} must answer {len(mine)} pictures, got {len(theirs)}")
    difference = np.abs(theirs - mine)
    worst = int(np.argmax(difference))
    if not difference[worst] <= TOLERANCE:
        raise GateError(
            f"parity: {label} and ONNX must agree to {TOLERANCE}, differ by "
            f"{difference[worst]:.2g} on {pictures[worst].name}"
        )
    for path, theirs_says, mine_says in zip(pictures, their_verdicts, my_verdicts, strict=True):
        if theirs_says != mine_says:
            raise GateError(
                f"parity: {label} says {theirs_says} and ONNX {mine_says} for {path.name}"
            )
    return float(difference[worst])
