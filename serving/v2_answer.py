"""Inference answers of the Open Inference Protocol v2."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twonines.errors import TwoninesError
from twonines.models.session import InspectionSession
from twonines.serving.answers import settled
from twonines.serving.batcher import Answer
from twonines.serving.recording import Noted
from twonines.types import Verdict

Array = npt.NDArray[Any]
WORDS = ("verdict", "reason", "inspection_id")
"""Outputs that the service adds to the model's; ``verdict`` goes with every answer."""
_MAP_NAMES = ("defect_map", "map_classes")
_PIECE = 10_000
"""Values that become JSON at once."""
_INTEGERS = ("map_classes", "box_classes")


def offered(session: InspectionSession) -> dict[str, dict[str, Any]]:
    """Metadata of every output that can be asked for, by its name.

    A model that looks at pictures in tiles offers no map: each picture would have one of its own
    size, with no bound.
    """
    shapes = {
        "score": [-1],
        "class_scores": [-1, len(session.card.classes)],
        "defect_map": [-1, -1, -1],
        "novelty": [-1],
        "map_classes": [-1, -1, -1],
        "boxes": [-1, -1, 4],
        "box_scores": [-1, -1],
        "box_classes": [-1, -1],
    }
    found = {word: {"name": word, "datatype": "BYTES", "shape": [-1]} for word in WORDS}
    for name in session.output_names:
        if session.card.tiling is None or name not in _MAP_NAMES:
            datatype = "INT64" if name in _INTEGERS else "FP32"
            found[name] = {"name": name, "datatype": datatype, "shape": shapes[name]}
    return found


def first_error(outcomes: Sequence[Answer | TwoninesError]) -> TwoninesError | None:
    """The first error where no picture at all was inspected: the request then has its status."""
    errors = []
    for outcome in outcomes:
        if isinstance(outcome, TwoninesError):
            errors.append(outcome)
        elif outcome.inspection.error:
            errors.append(TwoninesError(outcome.inspection.error))
        else:
            return None
    return errors[0]


def encode(
    head: Mapping[str, Any],
    outcomes: Sequence[Answer | TwoninesError],
    noted: Noted,
    outputs: Mapping[str, bool],
) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where tensors follow.

    Args:
        head: the fields beside the outputs.
        outcomes: of each picture, in order; at least one has an answer.
        noted: what was recorded of them.
        outputs: the names to give, and whether each is binary.
    """
    outcomes = [
        outcome if isinstance(outcome, TwoninesError) else settled(outcome, noted.fault)
        for outcome in outcomes
    ]
    shown, tail = [], []
    for name, binary in outputs.items():
        values = words(name, outcomes, noted) if name in WORDS else stack(name, outcomes)
        entry, data = _tensor(name, values, binary)
        shown.append(entry)
        tail.append(data)
    text = f'{json.dumps(head)[:-1]}, "outputs": [{", ".join(shown)}]}}'.encode()
    if not any(outputs.values()):
        return text, None
    return b"".join([text, *tail]), len(text)


def words(name: str, outcomes: Sequence[Answer | TwoninesError], noted: Noted) -> list[str]:
    """Verdicts; why they are what they are; or the ids of the inspections, empty without one.

    Reasons are those of the decision, or what went wrong; empty where there are none.
    """
    if name == "verdict":
        return [_verdict(outcome).value for outcome in outcomes]
    if name == "inspection_id":
        return [key or "" for key in noted.ids]
    return [
        str(outcome)
        if isinstance(outcome, TwoninesError)
        else outcome.inspection.error or "; ".join(outcome.inspection.reasons)
        for outcome in outcomes
    ]


def _verdict(outcome: Answer | TwoninesError) -> Verdict:
    return Verdict.ERROR if isinstance(outcome, TwoninesError) else outcome.inspection.verdict


def stack(name: str, outcomes: Sequence[Answer | TwoninesError]) -> Array:
    """One output of all pictures, (N, ...).

    Boxes are padded with score 0 to the most of any picture. A picture whose verdict is ``ERROR``
    has NaN, or -1 in integers, whatever the model gave, so that nobody takes it for a value; but
    its ``score`` is 1, so that who compares that alone with a threshold does not let it pass.
    """
    rows = [
        None
        if isinstance(outcome, TwoninesError) or _verdict(outcome) is Verdict.ERROR
        else outcome.outputs[name]
        for outcome in outcomes
    ]
    there = [row for row in rows if row is not None]
    shape = tuple(max(sides) for sides in zip(*(row.shape for row in there), strict=True))
    dtype, nothing = (np.int64, -1.0) if name in _INTEGERS else (np.float32, math.nan)
    if name == "score":
        nothing = 1.0
    stacked = np.zeros((len(rows), *shape), dtype)
    for index, row in enumerate(rows):
        if row is None:
            stacked[index] = nothing
        else:
            place: tuple[int | slice, ...] = (index, *(slice(side) for side in row.shape))
            stacked[place] = row
    return stacked


def _tensor(name: str, values: list[str] | Array, binary: bool) -> tuple[str, bytes]:
    """The JSON of one output, and what follows it in binary."""
    shape, datatype = [len(values)], "BYTES"
    if isinstance(values, np.ndarray):
        shape = list(values.shape)
        datatype = "INT64" if name in _INTEGERS else "FP32"
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if not binary:
        return f'{json.dumps(entry)[:-1]}, "data": {_json_values(values)}}}', b""
    data = _binary(values)
    return json.dumps({**entry, "parameters": {"binary_data_size": len(data)}}), data


def _json_values(values: list[str] | Array) -> str:
    """In row-major order; JSON has no NaN, so null stands for it and for what is infinite.

    Piece by piece: nothing else runs while JSON is made of one.
    """
    if not isinstance(values, np.ndarray):
        return json.dumps(values)
    flat = values.ravel()
    pieces = [
        json.dumps([value if math.isfinite(value) else None for value in part.tolist()])[1:-1]
        for part in np.split(flat, range(_PIECE, len(flat), _PIECE))
    ]
    return f"[{', '.join(pieces)}]"


def _binary(values: list[str] | Array) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
