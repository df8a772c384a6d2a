"""The recipe ``finetune``: the whole network is trained, from pretrained weights."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from twonines import __version__
from twonines.datasets.content import content_digest, label_digest
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import make_split
from twonines.errors import DatasetError
from twonines.models.card import Calibration, Policy
from twonines.models.finetuned import FinetunedModel, Finish
from twonines.models.network import DefectNetwork, Layout
from twonines.models.whole import write_whole
from twonines.training.classes import NOVELTY_MARGIN
from twonines.training.export import export_whole
from twonines.training.finetune_augment import AugmentPlan
from twonines.training.finetune_data import Exercises, Gallery, collate, open_gallery
from twonines.training.finetune_finish import (
    Answers,
    ask,
    box_threshold,
    fit_finish,
)
from twonines.training.finetune_labels import choose_layout
from twonines.training.finetune_module import Course, Lessons, Trainee, choose_precision, fit
from twonines.training.finetune_neighbours import fit_neighbours
from twonines.training.finetune_options import FinetuneOptions
from twonines.training.lesson import Lesson, Taught
from twonines.training.regions import RegionChoice, choose_regions

Indices = npt.NDArray[np.int64]
BATCH = 16
DETECT_BATCH = 8
"""More and smaller steps frame boxes better in the same time."""
DETECT_CROP = 320
LEAST_WATCHED = 8
"""Fewer pictures cannot say when to stop."""
SMOOTH = 0.02
"""Exposure that varies less than this needs no change of brightness in training."""


def finetune(lesson: Lesson) -> Taught:
    """Read the pictures, train, calibrate on the held-out split, and export.

    Training that was killed goes on from its last epoch, where options and pictures are the same.

    Raises:
        DatasetError: the split leaves the task without the pictures that it needs.
        GateError: the network tells nothing apart on the calibration split.
    """
    options, split = lesson.options, lesson.split
    assert isinstance(options, FinetuneOptions)
    layout = choose_layout(split, lesson.task)
    if not split.calibration:
        raise DatasetError("calibration split: must not be empty")
    kept = lesson.cache / "finetune"
    gallery = open_gallery(split.train, layout, lesson.size, lesson.report, cache=kept)
    held = open_gallery(
        split.calibration, layout, lesson.size, lesson.report, cache=kept, stage="calibration"
    )
    lesson.clock.lap("pictures")
    network = train(lesson, options, layout, gallery)
    lesson.clock.lap("training")
    neighbours = fit_neighbours(
        network, gallery, lambda d, t: lesson.report("neighbours", d, t), seed=split.seed
    )
    answers = ask(network, held, lambda d, t: lesson.report("answers", d, t))
    finish, novelty = fit_finish(network, neighbours, answers, _labels(split.calibration, layout))
    model = FinetunedModel(network, finish, lesson.size)
    regions = choose_regions(answers.maps)
    policy = _policy(options, novelty * NOVELTY_MARGIN, answers, held, regions)
    lesson.clock.lap("calibration")
    return Taught(
        task=lesson.task,
        classes=layout.classes,
        reference=model,
        graph=export_whole(model, lesson.size, pairs=layout.reference),
        calibration=_calibration(finish, layout, len(held), regions),
        policy=policy,
        pairs=layout.reference,
    )


def train(
    lesson: Lesson, options: FinetuneOptions, layout: Layout, gallery: Gallery
) -> DefectNetwork:
    """Train a network and give its averaged weights, ready to answer."""
    seed = lesson.split.seed
    members, held = inner_split(lesson.dataset, gallery.records, options.validation, seed)
    plan = augment_plan(lesson, options, gallery)
    torch.manual_seed(seed)
    network = DefectNetwork(layout)
    batch_size = options.batch_size or (DETECT_BATCH if layout.detect else BATCH)
    folder = lesson.out / "checkpoints"
    processes = count_processes()
    key = _open_run(folder, lesson, options, network, processes)
    precision = key.get("precision")
    if precision is None:
        few = members[: min(batch_size, BATCH)].tolist()
        batch = collate([Exercises(gallery, few, plan, seed)[i] for i in range(len(few))])
        precision = choose_precision(network, batch)
        note = json.dumps(key | {"precision": precision}) + "\n"
        write_whole(folder / "run.json", note.encode())
    lessons = Lessons(gallery, members.tolist(), held.tolist(), plan, batch_size, seed, processes)
    course = Course(
        epochs=options.most_epochs,
        steps=lessons.steps * options.most_epochs,
        lr=options.lr,
        seconds=None if options.minutes is None else options.minutes * 60,
        seed=seed,
    )
    trainee = Trainee(network, course)
    fit(
        trainee, lessons, folder,
        precision=precision, patience=options.patience, report=lesson.report,
    )  # fmt: skip
    averaged = trainee.average.module
    assert isinstance(averaged, DefectNetwork)
    return averaged.settle()


def count_processes() -> int:
    """One for each accelerator, else one."""
    return max(1, torch.cuda.device_count())


def inner_split(
    dataset: Dataset, records: Sequence[Record], share: float, seed: int
) -> tuple[Indices, Indices]:
    """Indices to train on and to watch, whole groups on one side; few pictures all train.

    Calibration and test pictures take no part, so neither has seen when training stopped.
    """
    everything = np.arange(len(records))
    if share * len(records) < LEAST_WATCHED:
        return everything, everything[:0]
    part = Dataset(dataset.card, dataset.root, tuple(records))
    split = make_split(
        part, seed=seed, test_fraction=share, calibration_fraction=0.0, method="grouped"
    )
    place = {record.path: index for index, record in enumerate(records)}
    held = np.array(sorted(place[record.path] for record in split.test), np.int64)
    return np.setdiff1d(everything, held), held


def augment_plan(lesson: Lesson, options: FinetuneOptions, gallery: Gallery) -> AugmentPlan:
    """What the set's card and its pictures allow.

    A picture whose only label is of the whole is never cut far: the cut may lose what it shows.
    Nor is one that a detector sees whole: boxes that are cut, and always larger than at
    inspection, teach wrong sides.
    """
    card, detect = lesson.dataset.card, lesson.task == "detect"
    drawn = any(r.mask is not None or r.boxes for r in gallery.records if r.is_defective)
    most = options.crop or (DETECT_CROP if detect else max(lesson.size))
    crop = (min(lesson.size[0], most), min(lesson.size[1], most))
    whole = crop == lesson.size
    far = drawn and not (whole and detect)
    zoom = (0.7 if far else 0.85, 1.0 if whole else 1.3)
    pairs = gallery.layout.reference
    exposure = 0.0 if pairs or gallery.exposure < SMOOTH else min(0.4, 2.5 * gallery.exposure)
    return AugmentPlan(
        crop=crop,
        zoom=(1.0, 1.0) if pairs else zoom,
        flips=card.flips_allowed,
        turns=lesson.turns,
        exposure=exposure,
    )


def _open_run(
    folder: Path,
    lesson: Lesson,
    options: FinetuneOptions,
    network: DefectNetwork,
    processes: int,
) -> dict[str, str]:
    """Keep checkpoints of the same run, clear those of another; what is known of the run."""
    split = lesson.split
    told = {
        "options": asdict(options),
        "layout": asdict(network.layout),
        "network": {name: list(value.shape) for name, value in network.state_dict().items()},
        "size": lesson.size,
        "seed": split.seed,
        "processes": processes,  # a step's number says how far training is
        "pictures": content_digest(split.train, lesson.dataset.root),
        "labels": label_digest(split.train, lesson.dataset.root),
        "versions": (__version__, torch.__version__),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    try:
        known = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):  # none, or no note of ours: nothing to go on from
        known = None
    if isinstance(known, dict) and known.get("digest") == digest:
        return known
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return {"digest": digest}


def _labels(records: Sequence[Record], layout: Layout) -> Indices:
    """Indices into the layout's classes; of a picture with boxes, its commonest kind."""
    names = []
    for record in records:
        boxed = [box.defect_class for box in record.boxes if box.defect_class in layout.kinds]
        own = record.defect_class in layout.classes
        names.append(record.defect_class if own or not boxed else max(boxed, key=boxed.count))
    known = {name: index for index, name in enumerate(layout.classes)}
    return np.array([known.get(name, -1) for name in names], np.int64)


def _policy(
    options: FinetuneOptions,
    novelty_limit: float,
    answers: Answers,
    held: Gallery,
    regions: RegionChoice | None,
) -> Policy:
    found: dict[str, float] = {}
    if regions is not None:
        found |= {"region_threshold": regions.threshold, "min_region_area": regions.min_area}
    if answers.boxes:
        box = box_threshold(answers, held)
        if box is not None:
            found["box_threshold"] = box
    return Policy(threshold=options.threshold, novelty_limit=novelty_limit, **found)


def _calibration(
    finish: Finish, layout: Layout, count: int, regions: RegionChoice | None
) -> Calibration:
    reached = {} if regions is None else regions.reached()
    return Calibration(
        method="platt and temperature" if layout.has_good else "temperature",
        n=count,
        parameters={
            "picture_slope": float(finish.reject[0]),
            "map_slope": float(finish.reject[1]),
            "box_slope": float(finish.reject[2]),
            "neighbours_slope": float(finish.reject[3]),
            "bias": float(finish.reject[4]),
            "temperature": float(finish.temperature[0]),
            **reached,
        },
    )
