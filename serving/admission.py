"""Who is let in: by room in the queue, and by the wait that the measured pace predicts."""

from dataclasses import dataclass

from twonines.errors import OverloadedError
from twonines.serving.cost import CostModel, average

_LEAST_RETRY_S = 0.05
_LEAST_PREDICTION_S = 0.02
"""Shorter predictions say little of the model's truth: the machine's noise is as long."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is on its way: pictures in all, those not decoded yet, and inputs for the session."""

    in_flight: int
    undecoded: int
    inputs: int


class Admission:
    """Predicts how long a picture that comes now will take, and refuses what would wait too long.

    The slower of decode and session sets the pace. As both may share the processor, the prediction
    is scaled by the ratio of real to predicted times seen so far.
    """

    def __init__(
        self,
        cost: CostModel,
        *,
        queue_size: int,
        max_batch_size: int,
        decode_workers: int,
        max_predicted_s: float,
    ) -> None:
        """Hold the limits."""
        self._cost, self._queue_size = cost, queue_size
        self._max_batch_size, self._workers = max_batch_size, decode_workers
        self._max_predicted_s = max_predicted_s
        self._decode_seconds = self._tiles = 0.0
        self._truth = 1.0

    def note_decode(self, seconds: float, tiles: int) -> None:
        """Take the decode time of one picture, and its inputs for the session."""
        self._decode_seconds = average(self._decode_seconds, seconds)
        self._tiles = average(self._tiles, tiles)

    def note_answer(self, count: int, load: Load, real_s: float) -> None:
        """Take what one picture took in all, which came as one of ``count`` while ``load`` was.

        Compared with what would be predicted now: the costs have learnt meanwhile, and what they
        know by themselves must not scale them once more.
        """
        predicted_s = self.predict(count, load)
        if predicted_s >= _LEAST_PREDICTION_S:
            ratio = min(4.0, max(0.25, real_s / predicted_s))
            self._truth = average(self._truth, ratio)

    def predict(self, count: int, load: Load) -> float:
        """Seconds until ``count`` more pictures are answered, not yet scaled by what was seen."""
        inputs = load.inputs + (load.undecoded + count) * max(1.0, self._tiles)
        session = self._cost.seconds(inputs, self._max_batch_size)
        decode = (load.undecoded + count) * self._decode_seconds / self._workers
        return max(session, decode) + self._decode_seconds

    def check(self, count: int, load: Load, patience_s: float | None = None) -> None:
        """Let ``count`` pictures in.

        Where nothing is in flight none is refused for its predicted wait, else one slow batch
        could shut an idle service for ever.

        Args:
            count: pictures that come.
            load: what is on its way.
            patience_s: seconds that their client will wait, where it said so.

        Raises:
            OverloadedError: the queue has no room for them, or they would wait too long.
        """
        excess = load.in_flight + count - self._queue_size
        if excess > 0:
            raise OverloadedError(
                f"queue: holds at most {self._queue_size} pictures and has no room for "
                f"{count} more, {load.in_flight} are in flight",
                max(_LEAST_RETRY_S, excess * self._pace()),
            )
        bound = min(self._max_predicted_s, patience_s or self._max_predicted_s)
        wait = self.predict(count, load) * self._truth
        if load.in_flight and wait > bound:
            raise OverloadedError(
                f"queue: an answer may take at most {bound:.3g} s, and is expected after "
                f"{wait:.3g} s, {load.in_flight} pictures are in flight",
                max(_LEAST_RETRY_S, wait - bound),
            )

    def _pace(self) -> float:
        """Seconds from one leaving picture to the next, under load."""
        full = self._cost.seconds(self._max_batch_size, self._max_batch_size)
        session = full / self._max_batch_size * max(1.0, self._tiles)
        return max(session, self._decode_seconds / self._workers) * self._truth
