"""What passes from stage to stage: one item for each picture taken, and its answer."""

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from twonines.errors import DeadlineError
from twonines.models.inspector import Part as SessionPart
from twonines.models.inspector import Prepared
from twonines.serving.admission import Load
from twonines.serving.logs import current_ids
from twonines.types import Inspection


@dataclass(frozen=True, slots=True)
class Answer:
    """An inspection, its largest batch, and what each stage took in milliseconds.

    Of a picture in tiles, ``compute`` and ``decision`` are of all the batches that held some.
    ``compute_s`` is the picture's share of its batches: seconds over inputs, summed over its own.
    ``outputs`` holds the model's outputs that the item wanted, each without the batch axis.
    """

    inspection: Inspection
    batch_size: int
    timings_ms: dict[str, float]
    compute_s: float = 0.0
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """One picture on its way; times are in seconds of ``time.perf_counter``.

    ``came_with`` pictures were sent with it, itself among them, while ``load`` was on its way;
    ``renewed`` says that the session was replaced for its sake, which happens once, ``is_counted``
    that it counts as decoded, ``wanted`` which of the model's outputs go with the answer, ``ids``
    whose request it is, for the log.
    """

    data: bytes
    reference: bytes | None
    future: "Future[Answer]"
    arrived: float
    deadline: float | None = None
    came_with: int = 1
    load: Load = Load(0, 0, 0)
    picture: Prepared | None = None
    next_tile: int = 0
    batch_size: int = 0
    compute_s: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=dict)
    ready: float = 0.0
    renewed: bool = False
    is_counted: bool = False
    wanted: Sequence[str] = ()
    ids: dict[str, str] = field(default_factory=current_ids)

    @property
    def tiles_left(self) -> int:
        """Tiles that are in no batch yet."""
        return 0 if self.picture is None else len(self.picture) - self.next_tile

    def is_late(self, now: float) -> bool:
        """Whether nobody waits for it any more."""
        return self.deadline is not None and now >= self.deadline

    def fail(self, exc: BaseException) -> None:
        """Answer with an error; nothing happens where there is an answer."""
        with suppress(InvalidStateError, CancelledError):
            self.future.set_exception(exc)

    def fail_late(self) -> None:
        """Answer that the deadline has passed."""
        self.fail(DeadlineError("the picture was not answered before its deadline"))

    def drop(self) -> None:
        """Let go of the bytes and pixels: the shell may wait in a queue for long."""
        self.data, self.reference, self.picture = b"", None, None


@dataclass(frozen=True, slots=True)
class Part:
    """One input of the session: an item, its picture, and the number of the tile."""

    item: Item
    picture: Prepared
    tile: int

    @property
    def input(self) -> SessionPart:
        """What the inspector takes."""
        return self.picture, self.tile
