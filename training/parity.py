"""The parity gate: an export exists only if every path gives the same answers.

Pictures stream through in small batches, so that a large test split with large maps takes no
more memory than a small one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from twonines.datasets.record import Record
from twonines.errors import GateError
from twonines.models.image import decode, naming
from twonines.models.inspector import Inspector, Prepared, stack
from twonines.models.outputs import Outputs
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession
from twonines.training.export import TOLERANCE
from twonines.types import FloatArray, Image, Inspection

BATCH = 8
BATCH_SIZES = (1, 2, 7, 32)
"""The session must give the same in any of these; PyTorch runs in batches of :data:`BATCH`."""
MAP_TOLERANCE = 1e-3
"""Of the map, which is looked at and not decided by, and of the scores of boxes."""
NOVELTY_TOLERANCE = 1e-2
"""Of the novelty, relative above 1: near 0 it is the root of a rounding error."""
KIND_TOLERANCE = 1e-3
"""Share of a map's places whose kind may differ: two kinds can be level there."""
BOX_TOLERANCE = 0.5
"""Pixels of the input by which a box may differ."""
LEAST_BOX = 0.05
"""Boxes of a lower score need no counterpart: the weakest are cut off by their number."""
HttpScores = Callable[[Path, Sequence[Record]], tuple[FloatArray, list[str]]]
"""(model, pictures) -> scores (N,) and verdicts that the HTTP service gives."""
Difference = tuple[str, FloatArray, float]
"""What is compared, its difference on each picture (N,), and how large that may be."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences of the scores over all test pictures, and what the session said."""

    pictures: int
    reference: float
    http: float | None
    inspections: tuple[Inspection, ...]


def check_parity(
    reference: nn.Module,
    model: Path,
    records: Sequence[Record],
    http_scores: HttpScores | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Compare PyTorch, ONNX and HTTP on every picture, and the session's batch sizes on some.

    Verdicts are those of the model's card, by the pictures' own features too, as it is served.

    Raises:
        GateError: scores, class scores, map, kinds, novelty or boxes differ by more than they
            may, or a verdict differs; names the picture.
        ImageError: a picture or its reference cannot be read or does not suit the model.
    """
    session = InspectionSession.load(model, execution_provider="cpu")
    inspector = Inspector(session)
    _check_batch_sizes(reference, session, _spread(records, max(BATCH_SIZES)), inspector)
    worst, scores, mine = 0.0, [], []
    batches = _prepared(records, inspector, BATCH)
    for pictures, part in zip(batches, _parts(records, BATCH), strict=True):
        images = _feed(pictures, inspector)
        outputs, expected = session.run(*images), _ask(reference, session, images)
        paths = [record.path for record in part]
        worst = max(worst, _compare("PyTorch", expected, outputs, paths))
        decided = inspector.decide(outputs, pictures)
        theirs = inspector.decide(expected, pictures)
        _same_verdicts("PyTorch", _verdicts(theirs), _verdicts(decided), paths)
        scores.append(outputs.score)
        mine += decided
        if progress:
            progress(len(mine), len(records))
    over_http = None
    if http_scores is not None:
        over_http = _check_http(http_scores, model, records, np.concatenate(scores), mine)
    return Parity(len(records), worst, over_http, tuple(mine))


def _check_http(
    http_scores: HttpScores,
    model: Path,
    records: Sequence[Record],
    scores: FloatArray,
    mine: Sequence[Inspection],
) -> float:
    """Largest difference of the scores over HTTP."""
    answered, verdicts = http_scores(model, records)
    if len(answered) != len(mine):
        raise GateError(f"parity: HTTP must answer {len(mine)} pictures, got {len(answered)}")
    paths = [record.path for record in records]
    worst = _check("HTTP", np.abs(answered - scores), TOLERANCE, paths)
    _same_verdicts("HTTP", verdicts, _verdicts(mine), paths)
    return worst


def _check_batch_sizes(
    reference: nn.Module,
    session: InspectionSession,
    records: Sequence[Record],
    inspector: Inspector,
) -> None:
    """Give the session the same pictures in every batch size; few pictures come repeatedly."""
    feeds = [_feed(pictures, inspector) for pictures in _prepared(records, inspector, BATCH)]
    expected = join([_ask(reference, session, feed) for feed in feeds])
    columns = [np.concatenate(column) for column in zip(*feeds, strict=True)]
    for size in BATCH_SIZES:
        order = np.resize(np.arange(len(records)), max(size, len(records)))
        for chosen in np.split(order, range(size, len(order), size)):
            outputs = session.run(*(column[chosen] for column in columns))
            paths = [records[i].path for i in chosen]
            _compare("PyTorch", take(expected, chosen), outputs, paths, f" in a batch of {size}")


def _spread(records: Sequence[Record], most: int) -> list[Record]:
    """At most so many records, evenly over all: a set's classes often lie in a row."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).round())
    return [records[int(i)] for i in chosen]


def _parts(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    return (records[start : start + size] for start in range(0, len(records), size))


def _prepared(
    records: Sequence[Record], inspector: Inspector, size: int
) -> Iterator[list[Prepared]]:
    """Batches of pictures as the service prepares them, with aligned references."""

    def prepare(record: Record) -> Prepared:
        golden = None
        if inspector.card.reference and record.reference is not None:
            with naming(record.reference):
                golden = decode(record.reference.read_bytes())
        with naming(record.path):
            return inspector.read(record.path.read_bytes(), golden)

    with ThreadPoolExecutor(available_threads()) as pool:
        for part in _parts(records, size):
            yield list(pool.map(prepare, part))


def _feed(pictures: Sequence[Prepared], inspector: Inspector) -> tuple[Image, ...]:
    """What the service gives the session of them; a model of the gate has no tiles."""
    return stack([(picture, 0) for picture in pictures], inspector.card.reference)


def _ask(reference: nn.Module, session: InspectionSession, feed: tuple[Image, ...]) -> Outputs:
    with torch.inference_mode():
        answer = reference(*(torch.from_numpy(images) for images in feed))
    return session.name_outputs([t.numpy() for t in answer])


def join(parts: Sequence[Outputs]) -> Outputs:
    """Batches back into one."""
    given = [f.name for f in fields(Outputs) if getattr(parts[0], f.name) is not None]
    return Outputs(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in given})


def take(outputs: Outputs, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Outputs:
    """Some pictures' rows of a batch."""
    given = {f.name: getattr(outputs, f.name) for f in fields(Outputs)}
    return replace(outputs, **{k: v[rows] for k, v in given.items() if v is not None})


def _compare(
    label: str, theirs: Outputs, mine: Outputs, pictures: Sequence[Path], where: str = ""
) -> float:
    """Largest difference of scores and class scores; raises where anything differs too much."""
    first, *others = differences(theirs, mine)
    for name, difference, tolerance in others:
        _check(f"{label}'s {name}", difference, tolerance, pictures, where)
    return _check(label, first[1], first[2], pictures, where)


def differences(theirs: Outputs, mine: Outputs) -> Iterator[Difference]:
    """Everything that two answers of the same N pictures must agree in; the scores come first."""
    # Of a set without good parts every score is 1: kinds and maps must agree too.
    apart = np.abs(theirs.score - mine.score)
    yield "scores", np.maximum(apart, np.abs(theirs.class_scores - mine.class_scores).max(1)), (
        TOLERANCE
    )  # fmt: skip
    yield "map", np.abs(theirs.defect_map - mine.defect_map).max((1, 2)), MAP_TOLERANCE
    far = np.abs(theirs.novelty - mine.novelty) / np.maximum(np.abs(mine.novelty), 1)
    yield "novelty", far, NOVELTY_TOLERANCE
    if mine.map_classes is not None:
        assert theirs.map_classes is not None
        other = (theirs.map_classes != mine.map_classes).mean((1, 2), dtype=np.float32)
        yield "kinds of the map", other, max(KIND_TOLERANCE, 1 / mine.map_classes[0].size)
    if mine.boxes is not None:
        lost = np.array([_farthest_box(theirs, mine, row) for row in range(len(mine))], np.float32)
        yield "boxes", lost, BOX_TOLERANCE


def _farthest_box(theirs: Outputs, mine: Outputs, row: int) -> float:
    """Pixels from any box to the nearest one like it in the other answer; inf where none is.

    Boxes are alike where they are of one kind and of one score; their order does not matter,
    since equal scores may be sorted either way.
    """
    sides = [
        (np.asarray(o.boxes)[row], np.asarray(o.box_scores)[row], np.asarray(o.box_classes)[row])
        for o in (theirs, mine)
    ]
    (boxes, scores, kinds), (others, other_scores, other_kinds) = sides
    apart = np.abs(boxes[:, None] - others[None]).max(2)  # (M, M')
    alike = kinds[:, None] == other_kinds[None]
    alike &= np.abs(scores[:, None] - other_scores[None]) <= MAP_TOLERANCE
    apart = np.where(alike & np.isfinite(apart), apart, np.inf)
    worst = 0.0
    for nearest, own in ((apart.min(1, initial=np.inf), scores),
                         (apart.min(0, initial=np.inf), other_scores)):  # fmt: skip
        listed = ~(own < LEAST_BOX)  # a score that is not a number is listed
        worst = max(worst, float(nearest[listed].max(initial=0.0)))
    return worst


def _check(
    label: str,
    difference: FloatArray,
    tolerance: float,
    pictures: Sequence[Path],
    where: str = "",
) -> float:
    """Largest difference; raises where it is too large."""
    worst = int(np.argmax(difference))
    if not difference[worst] <= tolerance:
        raise GateError(
            f"parity: {label} and ONNX must agree to {tolerance:g}{where}, differ by "
            f"{difference[worst]:.2g} on {pictures[worst].name}"
        )
    return float(difference[worst])


def _verdicts(inspections: Sequence[Inspection]) -> list[str]:
    return [inspection.verdict.value for inspection in inspections]


def _same_verdicts(
    label: str, theirs: Sequence[str], mine: Sequence[str], pictures: Sequence[Path]
) -> None:
    for path, other, own in zip(pictures, theirs, mine, strict=True):
        if other != own:
            raise GateError(f"parity: {label} says {other} and ONNX {own} for {path.name}")
