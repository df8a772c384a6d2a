"""The task ``segment``: where the defect is, from masks, boxes and labels of whole pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from twonines.datasets.masks import read_mask
from twonines.datasets.record import SEVERAL, Record
from twonines.errors import DatasetError
from twonines.models.maps import LEVEL_NAMES, MapBackbone, MapHead, MapWeights, SegmentHead
from twonines.training.classes import check_split, teach_pictures
from twonines.training.export import Reference, export_backbone, export_model
from twonines.training.features import FeatureExtractor, read_image
from twonines.training.lesson import Lesson, Report, Taught
from twonines.training.marks import (
    LABEL_SHARE,
    choose_pictures,
    cover_of,
    is_located,
    read_marks,
)
from twonines.training.pixels import Samples, fit_map, join_samples, sample_places
from twonines.training.regions import MOST_PLACES, RegionChoice, choose_regions
from twonines.types import GOOD, FloatArray

BATCH = 16
STRIDE = 4
"""Input pixels to a place of the map."""
_WIDEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Levels:
    """One picture's record, its stored size, and the backbone's levels (C, h, w), finest first."""

    record: Record
    size: tuple[int, int]
    values: list[FloatArray]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.values[0].shape[1], self.values[0].shape[2]


def teach_segments(lesson: Lesson) -> Taught:
    """Teach the picture's head as ``classify`` does, the map from what masks and boxes tell.

    Raises:
        DatasetError: no training picture has a mask or a box, or the split lacks pictures.
        MaskError: a mask cannot be read or does not fit its picture.
    """
    if not any(is_located(record) for record in lesson.split.train):
        raise DatasetError(
            "training split: the task 'segment' needs defective pictures with a mask or boxes, "
            "got none; --task classify learns from the classes of whole pictures"
        )
    check_split(lesson.split, lesson.dataset.classes)
    backbone = MapBackbone()
    lesson.report("backbone", 0, 1)
    backbone_onnx = export_backbone(backbone, lesson.size, lesson.cache)
    extract = FeatureExtractor(backbone_onnx, lesson.size, lesson.cache)
    lesson.clock.lap("backbone")
    split, classes = lesson.split, lesson.dataset.classes
    places = learn_places(extract, split.train, classes, split.seed, lesson.report)
    lesson.clock.lap("places")
    chosen = choose_policy(extract, split.calibration, places, split.seed)
    taught = teach_pictures(lesson, extract, backbone.widths)
    lesson.clock.lap("heads")
    head = SegmentHead(taught.weights, places)
    policy, calibration = taught.policy, taught.calibration
    if chosen is not None:
        policy = policy.model_copy(
            update={"region_threshold": chosen.threshold, "min_region_area": chosen.min_area}
        )
        calibration = calibration.model_copy(
            update={"parameters": calibration.parameters | chosen.reached()}
        )
    return Taught(
        task="segment",
        classes=classes,
        reference=Reference(backbone, head),
        graph=export_model(backbone_onnx, head),
        calibration=calibration,
        policy=policy,
    )


def learn_places(
    extract: FeatureExtractor,
    records: Sequence[Record],
    classes: Sequence[str],
    seed: int,
    report: Report = lambda stage, done, total: None,
) -> MapWeights:
    """Choose pictures, sample their places and fit the map."""
    kinds = tuple(i for i, name in enumerate(classes) if name not in (GOOD, SEVERAL))
    index = {classes[i]: k for k, i in enumerate(kinds)}
    chosen = choose_pictures(records, seed)
    sure = [record for record in chosen if is_located(record) or not record.is_defective]
    unsure = [record for record in chosen if record.is_defective and not is_located(record)]
    rng = np.random.default_rng(seed)
    shares: list[float] = []
    parts: list[Samples] = []
    # What masks cover tells how much to look for in pictures without one, so they come last.
    for picture in chain(read_levels(extract, sure), read_levels(extract, unsure)):
        share = min(float(np.median(shares)), _WIDEST_SHARE) if shares else LABEL_SHARE
        marks = read_marks(picture.record, picture.size, picture.grid, index, share)
        if picture.record.is_defective and picture.record.mask is not None:
            shares.append(float(marks.cover.mean()))
        parts.append(sample_places(picture.values, marks, len(parts), rng))
        report("places", len(parts), len(chosen))
    return fit_map(join_samples(parts), kinds, seed)


def read_levels(extract: FeatureExtractor, records: Sequence[Record]) -> Iterator[Levels]:
    """The backbone's levels of each picture, a batch at a time.

    Raises:
        ImageError: a picture cannot be read; the message names the file.
    """
    for start in range(0, len(records), BATCH):
        chunk = records[start : start + BATCH]
        read = [read_image(record.path, extract.size) for record in chunk]
        images = np.stack([image for image, _ in read])
        levels = extract.runtime.run(list(LEVEL_NAMES), {"images": images})
        for i, (record, (_, stored)) in enumerate(zip(chunk, read, strict=True)):
            yield Levels(record, stored, [level[i] for level in levels])


def choose_policy(
    extract: FeatureExtractor, records: Sequence[Record], weights: MapWeights, seed: int
) -> RegionChoice | None:
    """What to list as a region, by the calibration pictures that are good or have a mask.

    At most :data:`MOST_PLACES` places of maps are held: of a large input, fewer pictures.
    """
    told = [record for record in records if record.mask is not None or not record.is_defective]
    head = MapHead(weights).eval()
    places = -(-extract.size[0] // STRIDE) * -(-extract.size[1] // STRIDE)
    chosen = choose_pictures(told, seed, most=max(1, MOST_PLACES // places))

    def maps() -> Iterator[tuple[FloatArray, FloatArray]]:
        for picture in read_levels(extract, chosen):
            with torch.inference_mode():
                logits = head(*(torch.from_numpy(level)[None] for level in picture.values))[0]
            mask = read_mask(picture.record, picture.size) if picture.record.is_defective else None
            blank = np.zeros(picture.grid, np.float32)
            cover = blank if mask is None else cover_of(mask, picture.grid)
            yield torch.sigmoid(logits)[0].numpy(), cover

    return choose_regions(maps())
