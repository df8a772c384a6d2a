"""The task ``anomaly``: a memory of patches, from good pictures alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from twonines.datasets.record import Record
from twonines.datasets.splits import Split
from twonines.errors import DatasetError
from twonines.models.card import Calibration, Policy
from twonines.models.patches import PatchBackbone, PatchHead
from twonines.models.providers import available_threads, make_runtime
from twonines.training.export import Reference, export_backbone, export_model
from twonines.training.features import image_batches
from twonines.training.lesson import Lesson, Taught
from twonines.training.memory import (
    MIN_CALIBRATION,
    find_limit,
    fit_memory,
    picture_distances,
    sample_patches,
)
from twonines.types import DEFECTIVE, GOOD, FloatArray

BATCH = 16


class PatchStream:
    """Patches of pictures by the ONNX session, a batch at a time.

    They are not cached: a picture has some 200 of them, 0.3 MB, and reading it again with the
    picture's digest saves little over the session.
    """

    def __init__(self, backbone: Path, size: tuple[int, int]) -> None:
        """Load the backbone."""
        self.runtime = make_runtime(backbone.read_bytes(), "cpu", available_threads())
        self.size = size

    def __call__(
        self,
        records: Sequence[Record],
        *,
        views: Sequence[int] = (0,),
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[FloatArray]:
        """Patches (n, h, w, C) float32 of the records in order, all of them for each view.

        Raises:
            ImageError: a picture cannot be read; the message names the file.
        """
        done, total = 0, len(records) * len(views)
        paths = [record.path for record in records]
        for view in views:
            for images in image_batches(paths, self.size, BATCH, view=view):
                yield self.runtime.run(["patches"], {"images": images})[0]
                done += len(images)
                progress(done, total)


def teach_good(lesson: Lesson) -> Taught:
    """Sample patches, choose the memory, set the limit on held-out good pictures, and export.

    Raises:
        DatasetError: there is no good picture to learn from, or too few to set the limit.
    """
    split, report, seed = lesson.split, lesson.report, lesson.split.seed
    _check_split(split)
    backbone = PatchBackbone()
    report("backbone", 0, 1)
    backbone_onnx = export_backbone(backbone, lesson.size, lesson.cache)
    stream = PatchStream(backbone_onnx, lesson.size)
    lesson.clock.lap("backbone")
    views = lesson.views
    batches = stream(split.train, views=views, progress=lambda d, t: report("features", d, t))
    patches = sample_patches(batches, len(split.train) * len(views), seed=seed)
    lesson.clock.lap("features")
    weights = fit_memory(patches, seed=seed)
    held = stream(split.calibration, progress=lambda d, t: report("calibration", d, t))
    distances = np.concatenate([picture_distances(weights, batch) for batch in held])
    found = find_limit(distances, lesson.options.overkill_aim)
    weights = replace(weights, limit=found.limit, scale=found.scale)
    lesson.clock.lap("heads")
    head = PatchHead(weights, lesson.size)
    return Taught(
        task="anomaly",
        classes=(GOOD, DEFECTIVE),
        reference=Reference(backbone, head),
        graph=export_model(backbone_onnx, head),
        calibration=Calibration(
            method="limit on held-out good pictures",
            n=len(distances),
            parameters={
                "limit": found.limit,
                "scale": found.scale,
                "overkill_aim": lesson.options.overkill_aim,
                "expected_overkill": found.expected_overkill,
                "memory": float(len(weights.memory)),
            },
        ),
        # Score and novelty are one distance here: a novelty limit above the threshold would turn
        # the surest NG into REVIEW, one below it would never be asked.
        policy=Policy(threshold=lesson.options.threshold, novelty_limit=None),
    )


def _check_split(split: Split) -> None:
    """Before anything is computed; the limit checks its own count again."""
    if not split.train:
        raise DatasetError(
            "training split: the task 'anomaly' learns from good pictures, it holds none; "
            "the folder of good parts must be called good, ok, normal or free"
        )
    if len(split.calibration) < MIN_CALIBRATION:
        find_limit(np.empty(len(split.calibration)), 0.01)
