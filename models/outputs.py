"""What a model gives for a batch."""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from twonines.types import FloatArray

OUTPUT_NAMES = ("score", "class_scores", "defect_map", "novelty")
MAP_NAMES = ("map_classes",)
BOX_NAMES = ("boxes", "box_scores", "box_classes")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The contract's outputs for N pictures, all float32.

    ``score`` (N,) and ``class_scores`` (N, K) are probabilities, ``defect_map`` (N, h, w) lies in
    [0, 1], ``novelty`` (N,) is 0 at the training pictures' centre and grows without bound.

    Models that tell kinds apart place by place add ``map_classes`` (N, h, w) int64, the index of
    the likeliest defect class there. Detectors add ``boxes`` (N, M, 4) float32 (x_min, y_min,
    x_max, y_max) in input pixels, ``box_scores`` (N, M) float32, padded with 0, and
    ``box_classes`` (N, M) int64.
    """

    score: FloatArray
    class_scores: FloatArray
    defect_map: FloatArray
    novelty: FloatArray
    map_classes: npt.NDArray[np.int64] | None = None
    boxes: FloatArray | None = None
    box_scores: FloatArray | None = None
    box_classes: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.score)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Outputs":
        """Those of the ``rows`` (N,) that are true."""
        there = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{n: value[rows] for n, value in there.items() if value is not None})

    def put(self, rows: npt.NDArray[np.bool_], others: "Outputs") -> None:
        """Write ``others``, one for each of the ``rows`` (N,) that are true, in their places."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(others, one.name)
            if mine is not None:
                mine[rows] = theirs

    def check(self, count: int, classes: int) -> None:
        """Refuse shapes other than the contract's.

        Args:
            count: pictures in the batch, N.
            classes: classes on the card, K.

        Raises:
            ValueError: an output has another shape; the message names it.
        """
        shapes = (
            ("score", self.score.shape, (count,)),
            ("class_scores", self.class_scores.shape, (count, classes)),
            ("novelty", self.novelty.shape, (count,)),
        )
        for name, got, wanted in shapes:
            if got != wanted:
                raise ValueError(f"{name}: must have shape {wanted}, got {got}")
        got = self.defect_map.shape
        if len(got) != 3 or got[0] != count or 0 in got:
            raise ValueError(f"defect_map: must have shape ({count}, h, w), got {got}")
        if self.map_classes is not None:
            if self.map_classes.shape != got:
                raise ValueError(
                    f"map_classes: must have shape {got}, got {self.map_classes.shape}"
                )
            _check_indices("map_classes", self.map_classes, classes)
        if self.boxes is not None:
            self._check_boxes(count, classes)

    def _check_boxes(self, count: int, classes: int) -> None:
        assert self.boxes is not None
        if self.boxes.ndim != 3 or self.boxes.shape[::2] != (count, 4):
            raise ValueError(f"boxes: must have shape ({count}, M, 4), got {self.boxes.shape}")
        wanted = self.boxes.shape[:2]
        for name in ("box_scores", "box_classes"):
            value = getattr(self, name)
            if value is None or value.shape != wanted:
                shape = None if value is None else value.shape
                raise ValueError(f"{name}: must have shape {wanted}, got {shape}")
        assert self.box_classes is not None
        _check_indices("box_classes", self.box_classes, classes)


def _check_indices(name: str, values: npt.NDArray[np.int64], classes: int) -> None:
    if values.size and not (0 <= values.min() and values.max() < classes):
        raise ValueError(
            f"{name}: must lie in [0, {classes - 1}], got {values.min()} to {values.max()}"
        )
