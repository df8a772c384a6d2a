"""What a model says of test pictures beside what is marked on them."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twonines.benchmarks.detection import Boxes
from twonines.benchmarks.evaluate import Judged, prepare_record
from twonines.benchmarks.localisation import Tally, tally
from twonines.datasets.masks import Mask, read_mask
from twonines.datasets.record import Record
from twonines.errors import ImageError
from twonines.models.card import ModelCard
from twonines.models.decision import find_regions
from twonines.models.inspector import Inspector, Prepared
from twonines.models.outputs import Outputs
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession
from twonines.types import Inspection, Verdict

_BATCH = 32
_SPEED_PICTURES = 64
_SPEED_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Observed:
    """Test pictures in order; ``tallies`` and ``boxes`` are None where a picture cannot tell.

    A defective picture whose pixels or boxes nobody marked says nothing of where the defect is.
    """

    judged: Judged
    tallies: tuple[Tally | None, ...]
    boxes: tuple[Boxes | None, ...]
    kinds: tuple[str, ...]


def observe(
    session: InspectionSession,
    records: Sequence[Record],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Observed:
    """Inspect pictures by the stored policy, and count their maps and boxes.

    A picture that cannot be read is ``ERROR``.

    Raises:
        MaskError: a mask that the set names cannot be had.
    """
    kinds = _kinds(session.card, records)
    inspections: list[Inspection] = []
    tallies: list[Tally | None] = []
    boxes: list[Boxes | None] = []
    inspector = Inspector(session)
    start = time.perf_counter()
    for first in range(0, len(records), _BATCH):
        batch = records[first : first + _BATCH]
        loaded = load_pictures(batch, inspector)
        said = _said_of(inspector, [one for one in loaded if isinstance(one, Prepared)])
        for record, one in zip(batch, loaded, strict=True):
            if not isinstance(one, Prepared):
                inspections.append(Inspection(Verdict.ERROR, error=str(one)))
                tallies.append(None)
                boxes.append(None)
                continue
            outputs, row, inspection = next(said)
            inspections.append(inspection)
            tallies.append(_tally(outputs, row, session.card, kinds, record, one.size))
            boxes.append(_boxes(outputs, row, session.card, kinds, record, one.size))
        progress(len(inspections), len(records))
    seconds = time.perf_counter() - start
    judged = Judged(tuple(records), tuple(inspections), seconds)
    return Observed(judged, tuple(tallies), tuple(boxes), kinds)


def load_pictures(records: Sequence[Record], inspector: Inspector) -> list[Prepared | ImageError]:
    """Prepared pictures in order; the error stands where one cannot be read."""
    with ThreadPoolExecutor(available_threads()) as pool:
        return list(pool.map(lambda record: _load(record, inspector), records))


def _load(record: Record, inspector: Inspector) -> Prepared | ImageError:
    try:
        return prepare_record(inspector, record)
    except OSError as exc:
        return ImageError(f"image: {record.path} cannot be read ({exc.strerror or exc})")
    except ImageError as exc:
        return exc


def _said_of(
    inspector: Inspector, pictures: Sequence[Prepared]
) -> Iterator[tuple[Outputs, int, Inspection]]:
    """What the model says of each picture, tiles merged: outputs, the row in them, the verdict."""
    if inspector.card.tiling is None and pictures:
        batches = [(inspector.run([(picture, 0) for picture in pictures]), pictures)]
    else:
        batches = [(inspector.outputs(picture), [picture]) for picture in pictures]
    for outputs, members in batches:
        decided = inspector.decide(outputs, members)
        yield from ((outputs, row, inspection) for row, inspection in enumerate(decided))


def pictures_per_second(session: InspectionSession, records: Sequence[Record]) -> float:
    """Median rate of the bare session over decoded test pictures in batches of 32."""
    inspector = Inspector(session)
    loaded = load_pictures(records[:_SPEED_PICTURES], inspector)
    parts = [(one, n) for one in loaded if isinstance(one, Prepared) for n in range(len(one))]
    rates = []
    for _ in range(_SPEED_ROUNDS + 1):
        start = time.perf_counter()
        for first in range(0, len(parts), _BATCH):
            inspector.run(parts[first : first + _BATCH])
        rates.append(len(loaded) / (time.perf_counter() - start))
    return float(np.median(rates[1:]))  # the first round warms up


def _kinds(card: ModelCard, records: Sequence[Record]) -> tuple[str, ...]:
    """The model's kinds of defect, then those marked with boxes that it does not know.

    A model of one kind finds defects without naming them: then there is only that kind.
    """
    kinds = card.classes[1:] if card.has_good and len(card.classes) > 1 else card.classes
    if len(kinds) == 1:
        return kinds
    marked = {box.defect_class for record in records for box in record.boxes}
    return (*kinds, *sorted(marked - set(kinds)))


def _true_kind(kinds: Sequence[str], name: str) -> int | None:
    if len(kinds) == 1:
        return 0
    return kinds.index(name) if name in kinds else None


def _said(outputs: Outputs, index: int, card: ModelCard) -> int | npt.NDArray[np.int64]:
    """Kind that the model says, of each place or of the picture."""
    first = 1 if card.has_good and len(card.classes) > 1 else 0
    if outputs.map_classes is not None:
        places: npt.NDArray[np.int64] = np.maximum(outputs.map_classes[index] - first, 0)
        return places
    return int(np.argmax(outputs.class_scores[index][first:]))


def _tally(
    outputs: Outputs, index: int, card: ModelCard, kinds: Sequence[str], record: Record,
    size: tuple[int, int],
) -> Tally | None:  # fmt: skip
    mask: Mask | None = read_mask(record, size)
    if mask is None and not record.is_defective:
        mask = np.zeros(size, bool)
    if mask is None or (record.is_defective and not mask.any()):
        return None
    return tally(
        outputs.defect_map[index],
        mask,
        threshold=card.policy.region_threshold,
        classes=len(kinds),
        true_class=_true_kind(kinds, record.defect_class),
        said_class=_said(outputs, index, card),
    )


def _boxes(
    outputs: Outputs, index: int, card: ModelCard, kinds: Sequence[str], record: Record,
    size: tuple[int, int],
) -> Boxes | None:  # fmt: skip
    """Marked boxes beside the detector's, or beside those of the map's regions."""
    if record.is_defective and not record.boxes:
        return None
    true = [(b.x_min, b.y_min, b.x_max, b.y_max) for b in record.boxes]
    true_kinds = [_true_kind(kinds, box.defect_class) for box in record.boxes]
    found, scores, said = _found(outputs, index, card, kinds, size)
    return Boxes(
        np.array(true, float).reshape(-1, 4), np.array(true_kinds, int),
        np.asarray(found, float).reshape(-1, 4), np.asarray(scores, float), np.asarray(said, int),
    )  # fmt: skip


def _found(
    outputs: Outputs, index: int, card: ModelCard, kinds: Sequence[str], size: tuple[int, int]
) -> tuple[Any, Any, Any]:
    first = 1 if card.has_good and len(card.classes) > 1 else 0
    if outputs.boxes is None:
        said = _said(outputs, index, card)
        one = kinds[said] if isinstance(said, int) else ""
        by_place = None if outputs.map_classes is None else outputs.map_classes[index]
        regions = find_regions(outputs.defect_map[index], card, size, one, by_place)
        return (
            [region.box for region in regions],
            [region.score for region in regions],
            [kinds.index(region.defect_class) for region in regions],
        )
    assert outputs.box_scores is not None and outputs.box_classes is not None
    there = outputs.box_scores[index] > 0  # padding has score 0
    height, width = size
    scale = np.array([width / card.input_size[1], height / card.input_size[0]] * 2)
    return (
        outputs.boxes[index][there] * scale,
        outputs.box_scores[index][there],
        np.maximum(outputs.box_classes[index][there] - first, 0),
    )
