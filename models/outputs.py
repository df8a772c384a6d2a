"""What a model gives for a batch."""

from dataclasses import dataclass

from twonines.types import FloatArray


@dataclass(frozen=True, slots=True)
class Outputs:
    """The contract's outputs for N pictures, all float32.

    ``score`` (N,) and ``class_scores`` (N, K) are probabilities, ``defect_map`` (N, h, w) lies in
    [0, 1], ``novelty`` (N,) is 0 at the training pictures' centre and grows without bound.
    """

    score: FloatArray
    class_scores: FloatArray
    defect_map: FloatArray
    novelty: FloatArray

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.score)

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
