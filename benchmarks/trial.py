"""One trial: a model taught on one split by one recipe, with all its figures."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from twonines.benchmarks import statistics as st
from twonines.benchmarks.detection import detection_figures
from twonines.benchmarks.evaluate import decision_metrics, rate_json, typing_metrics
from twonines.benchmarks.leaks import judge_split
from twonines.benchmarks.localisation import Figure, pixel_figures
from twonines.benchmarks.observe import Observed, observe, pictures_per_second
from twonines.benchmarks.recipes import Plan, teach_model
from twonines.benchmarks.worst import rank, write_worst
from twonines.datasets.checks import CheckReport
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split
from twonines.models.card import ModelCard
from twonines.models.session import InspectionSession
from twonines.training.lesson import Report

_DECISION = ("auroc", "average_precision", "accuracy", "balanced_accuracy", "escape_rate",
             "overkill_rate")  # fmt: skip


def run_trial(
    recipe: str,
    dataset: Dataset,
    split: Split,
    check: CheckReport,
    plan: Plan,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Teach in ``folder``, inspect the test pictures, and give every figure as plain JSON types.

    The features are computed anew, so that the seconds are those of a first teaching.
    """
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    try:
        learnt = teach_model(recipe, dataset, split, folder, plan, cache=cache, report=report)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    # The default provider gives the figures; the one that serving would choose gives the speed.
    session = InspectionSession.load(learnt.model, execution_provider="cpu")
    observed = observe(session, split.test, lambda d, t: report("test pictures", d, t))
    card = session.card
    decides = can_decide(card, split.test)
    worst = rank(observed, card, decides=decides)
    write_worst(session, observed, worst, folder / "worst.png")
    fast = InspectionSession.load(learnt.model)
    return {
        "task": card.task,
        "input_size": list(card.input_size),
        "split": asdict(judge_split(check, dataset, split)),
        "seed": split.seed,
        "figures": image_figures(observed, card, decides=decides, seed=split.seed)
        | place_figures(observed, card, seed=split.seed),
        "errors": sum(i.error is not None for i in observed.judged.inspections),
        "seconds": learnt.seconds,
        "per_second": pictures_per_second(fast, split.test),
        "execution_provider": fast.execution_provider,
        "parameters": count_parameters(learnt.model),
        "model": learnt.model,
        "worst": folder / "worst.png",
        "wrong": len(worst),
    }


def can_decide(card: ModelCard, records: Sequence[Record]) -> bool:
    """True where good and defective pictures meet a model that can accept a part."""
    return card.has_good and {record.is_defective for record in records} == {True, False}


def image_figures(
    observed: Observed, card: ModelCard, *, decides: bool, seed: int
) -> dict[str, Any]:
    """Figures of whole pictures: accept or reject where that can be tested, and the kind."""
    judged = observed.judged
    figures: dict[str, Any] = {}
    if decides:
        found = decision_metrics(judged, seed)
        figures |= {name: found[name] for name in _DECISION}
        sure = np.array([record.certainty == 1 for record in judged.records])
        if not sure.all():
            figures["accuracy_sure"] = rate_json(
                st.accuracy(judged.defective[sure], judged.rejected[sure])
            )
    kinds = {record.defect_class for record in judged.records if record.is_defective}
    if len(kinds) > 1 and kinds <= set(card.classes):
        figures["typing_accuracy"] = typing_metrics(judged)
    return figures


def place_figures(observed: Observed, card: ModelCard, *, seed: int) -> dict[str, Any]:
    """Figures of pixels where any are marked, and of boxes where any are marked."""
    records = observed.judged.records
    units = [record.group or str(record.path) for record in records]
    pixels = [(one, unit) for one, unit in zip(observed.tallies, units, strict=True) if one]
    boxes = [(one, unit) for one, unit in zip(observed.boxes, units, strict=True) if one]
    threshold = card.policy.box_threshold if card.task == "detect" else card.policy.region_threshold
    found = pixel_figures(
        [one for one, _ in pixels], [unit for _, unit in pixels], observed.kinds, seed=seed
    ) | detection_figures(
        [one for one, _ in boxes], [unit for _, unit in boxes], observed.kinds,
        threshold=threshold, seed=seed,
    )  # fmt: skip
    return {name: _plain(figure) for name, figure in found.items()}


def _plain(figure: Figure | dict[str, Figure]) -> dict[str, Any]:
    if isinstance(figure, Figure):
        return asdict(figure)
    return {name: asdict(one) for name, one in figure.items()}


def count_parameters(model: Path) -> int:
    """Numbers that were learnt: the elements of the graph's float initialisers."""
    import onnx

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
             onnx.TensorProto.DOUBLE, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)  # fmt: skip
    weights = onnx.load(model).graph.initializer
    return sum(int(np.prod(one.dims)) for one in weights if one.data_type in kinds)
