"""Changes of a training picture that its label survives, by torchvision's transforms v2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from twonines.datasets.record import Turns

FOCUS = 0.7
"""Share of the crops that are laid over a defect where there is one."""
LEAST_VISIBLE = 0.4
"""A box that a crop leaves less of is not taught: its rest may look like nothing."""


@dataclass(frozen=True, slots=True)
class AugmentPlan:
    """What may be done to the pictures of one set.

    ``crop`` (height, width) is what training sees, cut from pictures of the model's input size;
    ``zoom`` are the least and the largest side of a cut in units of ``crop``; ``exposure`` in
    [0, 1] is how much brightness, contrast and gamma vary. ``flips`` mirrors left and right,
    ``turns`` is in how many ways a part may lie: 1, 2 by half turns, or 4 by quarter turns,
    which need a square ``crop``.
    """

    crop: tuple[int, int]
    zoom: tuple[float, float]
    flips: bool
    turns: Turns
    exposure: float


def build(plan: AugmentPlan) -> v2.Compose:
    """The transform for a dict with ``image``, and ``reference``, ``kinds``, ``boxes``.

    All parts of one call get the same geometry.
    """
    steps: list[Any] = [FocusedCrop(plan.crop, plan.zoom)]
    if plan.flips:
        steps.append(v2.RandomHorizontalFlip())
    if plan.turns > 1:
        steps.append(Turn(plan.turns))
    if plan.exposure > 0:
        e = plan.exposure
        steps += [v2.ColorJitter(brightness=e, contrast=e), Gamma(e)]
    return v2.Compose(steps)


class FocusedCrop(v2.Transform):  # type: ignore[misc]
    """A crop of random place and size, often laid over a marked defect, resized to ``crop``."""

    def __init__(self, crop: tuple[int, int], zoom: tuple[float, float]) -> None:
        """See :class:`AugmentPlan`."""
        super().__init__()
        self.crop, self.zoom = crop, zoom

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Top, left, height and width of the cut."""
        low, high = self.zoom
        scale = low + (high - low) * float(torch.rand(()))
        height, width = v2.functional.get_size(flat_inputs[0])
        sides = [min(full, round(side * scale)) for full, side in
                 zip((height, width), self.crop, strict=True)]  # fmt: skip
        point = _marked_point(flat_inputs) if float(torch.rand(())) < FOCUS else None
        corner = []
        for axis, (full, side) in enumerate(zip((height, width), sides, strict=True)):
            first, last = 0, full - side
            if point is not None:  # keep the marked point inside
                first = max(first, min(last, point[axis] - side + 1))
                last = max(first, min(last, point[axis]))
            corner.append(int(torch.randint(first, last + 1, ())))
        return {"top": corner[0], "left": corner[1], "height": sides[0], "width": sides[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut and resize one part."""
        if (params["height"], params["width"]) == self.crop:
            return v2.functional.crop(inpt, **params)
        return v2.functional.resized_crop(inpt, **params, size=list(self.crop))


def _marked_point(flat_inputs: Sequence[Any]) -> tuple[int, int] | None:
    """A random marked pixel as (row, column); None where nothing is marked."""
    for part in flat_inputs:
        if isinstance(part, tv_tensors.BoundingBoxes) and len(part):
            x1, y1, x2, y2 = part[int(torch.randint(len(part), ()))].tolist()
            return int((y1 + y2) / 2), int((x1 + x2) / 2)
    for part in flat_inputs:
        if isinstance(part, tv_tensors.Mask):
            marked = torch.nonzero((part > 0) & (part < 255))
            if len(marked):
                row = marked[int(torch.randint(len(marked), ()))].tolist()
                return int(row[-2]), int(row[-1])
    return None


class Turn(v2.Transform):  # type: ignore[misc]
    """One of ``turns`` exact turns; see :attr:`twonines.training.lesson.Lesson.turns`."""

    def __init__(self, turns: Turns) -> None:
        """See :class:`AugmentPlan`."""
        super().__init__()
        self.turns = turns

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The angle."""
        return {"angle": 360.0 / self.turns * int(torch.randint(self.turns, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn one part."""
        return v2.functional.rotate(inpt, params["angle"]) if params["angle"] else inpt


class Gamma(v2.Transform):  # type: ignore[misc]
    """A random gamma of the picture; masks and boxes stay."""

    def __init__(self, amount: float) -> None:
        """``amount`` is the largest change of the exponent's logarithm."""
        super().__init__()
        self.amount = amount

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The exponent."""
        return {"gamma": float(torch.exp((2 * torch.rand(()) - 1) * self.amount))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change pictures alone."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        return v2.functional.adjust_gamma(inpt, params["gamma"])


def cut_to_canvas(boxes: tv_tensors.BoundingBoxes) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (B, 4) cut at the picture's edge; which are kept and which cut too far, (B,) bool.

    A kept one shows enough of itself; one of neither kind lies wholly outside.
    ``boxes`` must have gone through the transform with ``clamping_mode=None``, so that what lies
    outside is still known.
    """
    whole = boxes.as_subclass(Tensor)
    height, width = boxes.canvas_size
    limit = torch.tensor([width, height] * 2, dtype=whole.dtype)
    inside = torch.minimum(whole.clamp(min=0), limit)
    area = (whole[:, 2:] - whole[:, :2]).prod(1)
    left = (inside[:, 2:] - inside[:, :2]).clamp(min=0).prod(1)
    kept = (left > 1.0) & (left >= LEAST_VISIBLE * area)
    return inside, kept, (left > 0.0) & ~kept
