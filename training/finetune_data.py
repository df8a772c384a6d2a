"""Training pictures, decoded once, and the batches that are made of them."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from twonines.datasets.record import Record
from twonines.models.align import check_view, lay_on
from twonines.models.image import naming
from twonines.models.network import Layout
from twonines.models.providers import available_threads
from twonines.training.features import read_image
from twonines.training.finetune_augment import AugmentPlan, build, cut_to_canvas
from twonines.training.finetune_labels import (
    UNKNOWN,
    KindMap,
    PictureTarget,
    box_table,
    kind_map,
    picture_target,
)
from twonines.training.lesson import Report
from twonines.types import FloatArray, Image

MEMORY_BYTES = 2 * 2**30
"""Larger sets are kept in a file that the system pages in."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """N pictures at the model's size with what they teach; ``folder`` holds them if they are many.

    ``images`` and ``references`` (N, H, W, 3) uint8 RGB, ``kinds`` (N, H, W) uint8 (see
    :data:`twonines.training.finetune_labels.KindMap`), boxes of each picture in its pixels.
    """

    records: tuple[Record, ...]
    layout: Layout
    images: Image
    references: Image | None
    kinds: KindMap
    boxes: list[tuple[FloatArray, FloatArray]]
    targets: list[PictureTarget]
    folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.records)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: what lies in a file is opened there, not sent."""
        parts = (_sent(self.images), _sent(self.references), _sent(self.kinds))
        return _received, (self.records, self.layout, parts, self.boxes, self.targets)

    def tensors(self, members: range) -> tuple[Tensor, Tensor | None]:
        """Pictures as they are, (n, H, W, 3) uint8, and their references where there are any."""
        chosen = slice(members.start, members.stop)
        others = None if self.references is None else torch.from_numpy(self.references[chosen])
        return torch.from_numpy(self.images[chosen]), others

    @property
    def exposure(self) -> float:
        """How much the brightness of whole pictures varies, a standard deviation in [0, 1]."""
        means = [float(image[::4, ::4].mean()) for image in self.images]
        return float(np.std(means)) / 255


def open_gallery(
    records: Sequence[Record],
    layout: Layout,
    size: tuple[int, int],
    report: Report = lambda stage, done, total: None,
    *,
    cache: Path | None = None,
    stage: str = "pictures",
) -> Gallery:
    """Decode and resize pictures, references, masks and boxes, as the service would.

    Raises:
        ImageError: a picture cannot be read; the message names the file.
        MaskError: a mask cannot be read or does not fit its picture.
    """
    layers = 3 * (1 + layout.reference) + 1
    folder = None
    if len(records) * size[0] * size[1] * layers > MEMORY_BYTES:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=cache, prefix="pictures-")
    images = _room(folder, "images", (len(records), *size, 3))
    references = _room(folder, "references", images.shape) if layout.reference else None
    kinds = _room(folder, "kinds", images.shape[:3])
    boxes = box_table(records, layout)

    def fill(index: int) -> None:
        record = records[index]
        images[index], full = read_image(record.path, size)
        if references is not None and record.reference is not None:
            other = read_image(record.reference, size)
            with naming(record.reference):
                check_view(full, other.size)
            references[index] = lay_on(images[index], other.image)
        kinds[index] = shrink(kind_map(record, layout, full), size)
        boxes[index][0][:] *= np.array([size[1] / full[1], size[0] / full[0]] * 2, np.float32)

    with ThreadPoolExecutor(available_threads()) as pool:
        for done, _ in enumerate(pool.map(fill, range(len(records))), start=1):
            report(stage, done, len(records))
    targets = [picture_target(record, layout) for record in records]
    return Gallery(tuple(records), layout, images, references, kinds, boxes, targets, folder)


def _sent(pictures: Any) -> Any:
    if isinstance(pictures, np.memmap) and pictures.filename is not None:
        return Path(pictures.filename)
    return pictures


def _received(
    records: tuple[Record, ...], layout: Layout, parts: tuple[Any, ...], boxes: Any, targets: Any
) -> Gallery:
    images, references, kinds = (
        np.lib.format.open_memmap(part, "r") if isinstance(part, Path) else part for part in parts
    )
    return Gallery(records, layout, images, references, kinds, boxes, targets)


def _room(
    folder: "tempfile.TemporaryDirectory[str] | None", name: str, shape: tuple[int, ...]
) -> Any:
    if folder is None:
        return np.zeros(shape, np.uint8)
    path = Path(folder.name) / f"{name}.npy"
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def shrink(kinds: KindMap, size: tuple[int, int]) -> KindMap:
    """A kind map at another size; where it gets smaller, a defect wins over good in its cell.

    So a scratch of one pixel is still there in a picture of half the size.
    """
    height, width = kinds.shape
    if (height, width) == size:
        return kinds
    rows = np.linspace(0, height, size[0] + 1)
    columns = np.linspace(0, width, size[1] + 1)
    nearest = kinds[np.ix_(_middles(rows, height), _middles(columns, width))]
    if not kinds.any() or height <= size[0] or width <= size[1]:
        return nearest
    # Unknown must not swallow known: it counts as good here and is laid on afterwards.
    known = np.where(kinds == UNKNOWN, 0, kinds)
    cells = np.maximum.reduceat(known, rows[:-1].astype(int), axis=0)
    cells = np.maximum.reduceat(cells, columns[:-1].astype(int), axis=1)
    return np.where(cells > 0, cells, nearest).astype(np.uint8)


def _middles(edges: Any, limit: int) -> Any:
    return np.clip(((edges[:-1] + edges[1:]) / 2).astype(int), 0, limit - 1)


@dataclass(slots=True)
class Batch:
    """N pictures with what they teach (n kinds); see the classes that these come from.

    ``boxes`` (B, 4) and ``box_kinds`` (B,) are of all pictures, ``owners`` (B,) says whose;
    ``boxed`` (N,) whether a picture's boxes are known.
    """

    images: Tensor
    references: Tensor | None
    kinds: Tensor
    defect: Tensor
    kind_shares: Tensor
    bags: Tensor
    weight: Tensor
    boxes: Tensor
    box_kinds: Tensor
    owners: Tensor
    boxed: Tensor

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The batch on a device; Lightning calls this."""
        moved: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            moved[name] = None if value is None else value.to(device, non_blocking=non_blocking)
        return Batch(**moved)


class Exercises(Dataset[dict[str, Any]]):
    """Pictures of a gallery, changed at random; the same seed and epoch give the same changes."""

    def __init__(
        self, gallery: Gallery, members: Sequence[int], plan: AugmentPlan | None, seed: int
    ) -> None:
        """``members`` are the indices that take part; without a plan nothing is changed."""
        self.gallery, self.members, self.seed = gallery, list(members), seed
        self.change = build(plan) if plan is not None else None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.members)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """One picture with its targets, after the change."""
        gallery, index = self.gallery, self.members[place]
        parts = _parts(gallery, index)
        if self.change is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, index)))
                parts = self.change(parts)
        return _finish(parts, gallery, index)


def _parts(gallery: Gallery, index: int) -> dict[str, Any]:
    size = (gallery.images.shape[1], gallery.images.shape[2])
    corners, kinds = gallery.boxes[index]
    parts: dict[str, Any] = {
        "image": tv_tensors.Image(_channels_first(gallery.images[index])),
        "kinds": tv_tensors.Mask(torch.from_numpy(np.array(gallery.kinds[index]))),
        "boxes": tv_tensors.BoundingBoxes(
            torch.from_numpy(corners.copy()), format="XYXY", canvas_size=size, clamping_mode=None
        ),
        "box_kinds": torch.from_numpy(kinds.copy()),
    }
    if gallery.references is not None:
        parts["reference"] = tv_tensors.Image(_channels_first(gallery.references[index]))
    return parts


def _channels_first(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _finish(parts: dict[str, Any], gallery: Gallery, index: int) -> dict[str, Any]:
    """Say anew what the picture teaches: a crop may have lost its defects."""
    record, target = gallery.records[index], gallery.targets[index]
    boxes, kept, cut = cut_to_canvas(parts["boxes"])
    kinds = parts["kinds"].as_subclass(Tensor)
    marked = bool(((kinds > 0) & (kinds < UNKNOWN)).any()) or bool(kept.any())
    drawn = record.mask is not None or bool(record.boxes)
    defect, shares, bags, weight = target.defect, target.kinds, target.bags, 1.0
    if record.is_defective and drawn and not marked and not bool((kinds == UNKNOWN).all()):
        # Nothing that was drawn is left: the crop shows a good part, unless its rim is open.
        open_rim = bool((kinds == UNKNOWN).any()) or bool(cut.any())
        defect, shares = 0.0, np.zeros_like(shares)
        bags, weight = np.full_like(bags, -1.0 if open_rim else 0.0), 0.0 if open_rim else 1.0
    elif len(boxes):
        shares, bags = _kinds_left(target, parts["box_kinds"].long(), kept, cut)
    return {
        "image": parts["image"].as_subclass(Tensor),
        "reference": parts["reference"].as_subclass(Tensor) if "reference" in parts else None,
        "kinds": kinds,
        "defect": defect,
        "shares": torch.from_numpy(shares),
        "bags": torch.from_numpy(bags),
        "weight": weight,
        "boxes": boxes[kept],
        "box_kinds": parts["box_kinds"][kept].long(),
        "boxed": bool(record.boxes) or not record.is_defective,
    }


def _kinds_left(
    target: PictureTarget, box_kinds: Tensor, kept: Tensor, cut: Tensor
) -> tuple[FloatArray, FloatArray]:
    """Shares and bags of a crop by the boxes that it still shows; of half a box nobody knows."""
    shares, bags = np.zeros_like(target.kinds), np.zeros_like(target.bags)
    bags[box_kinds[cut].numpy()] = -1.0
    shares[box_kinds[kept].numpy()] = bags[box_kinds[kept].numpy()] = 1.0
    # What the whole picture does not tell, a part of it does not tell either.
    bags[(target.bags < 0) & (bags == 0)] = -1.0
    return shares / max(float(shares.sum()), 1.0), bags


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Stack pictures (N, H, W, 3) and put the boxes of all of them in one table."""
    owners = [torch.full((len(item["boxes"]),), i) for i, item in enumerate(items)]
    paired = items[0]["reference"] is not None
    return Batch(
        images=_stack_images(items, "image"),
        references=_stack_images(items, "reference") if paired else None,
        kinds=torch.stack([item["kinds"] for item in items]),
        defect=torch.tensor([item["defect"] for item in items], dtype=torch.float32),
        kind_shares=torch.stack([item["shares"] for item in items]),
        bags=torch.stack([item["bags"] for item in items]),
        weight=torch.tensor([item["weight"] for item in items], dtype=torch.float32),
        boxes=torch.cat([item["boxes"] for item in items]),
        box_kinds=torch.cat([item["box_kinds"] for item in items]),
        owners=torch.cat(owners).long(),
        boxed=torch.tensor([item["boxed"] for item in items]),
    )


def _stack_images(items: Sequence[dict[str, Any]], name: str) -> Tensor:
    return torch.stack([item[name] for item in items]).permute(0, 2, 3, 1)
