"""Teach with every gate: the recipe, the parity over HTTP, metrics and the worst mistakes."""

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from twonines.benchmarks.evaluate import (
    Judged,
    confusion,
    decision_metrics,
    typing_metrics,
)
from twonines.benchmarks.pictures import write_confusion, write_mistakes
from twonines.benchmarks.throughput import INSPECT_PATH, served
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split, make_split
from twonines.errors import GateError
from twonines.models.card import Metric, ModelCard
from twonines.models.decision import decide
from twonines.models.session import Outputs
from twonines.training.features import default_cache
from twonines.training.teach import Report, TeachOptions, TeachResult, teach
from twonines.types import FloatArray


def teach_and_measure(
    dataset: Dataset,
    out: Path,
    options: TeachOptions | None = None,
    *,
    seed: int = 0,
    split_method: str = "auto",
    cache: Path | None = None,
    report: Report = lambda stage, done, total: None,
) -> TeachResult:
    """Teach a model on its training split; write it, its card, metrics and worst mistakes.

    Raises:
        GateError: PyTorch, ONNX and HTTP disagree on a test picture; no model is left then.
        DatasetError: the set cannot be split or lacks a class.
    """
    split: Split = make_split(dataset, seed=seed, method=split_method)  # type: ignore[arg-type]
    result = teach(
        dataset,
        split,
        out,
        options or TeachOptions(),
        cache=cache or default_cache(),
        http_scores=http_scores,
        metrics=_metrics,
        report=report,
    )
    judged = judge(result.parity.outputs, split.test, result.card)
    _write_run(result, judged, out)
    return result


def judge(outputs: Outputs, records: Sequence[Record], card: ModelCard) -> Judged:
    """Decide on outputs that the session gave before; regions are in the model's pixels."""
    inspections = decide(outputs, card, [card.input_size] * len(outputs))
    return Judged(tuple(records), tuple(inspections), float("nan"))


def _metrics(outputs: Outputs, records: Sequence[Record], card: ModelCard) -> dict[str, Metric]:
    judged = judge(outputs, records, card)
    found: dict[str, dict[str, Any]] = {}
    if card.task == "classify":
        found["typing_accuracy"] = typing_metrics(judged)
    if card.has_good:
        figures = decision_metrics(judged, card.training_data.seed)
        for name in (
            "accuracy", "balanced_accuracy", "escape_rate", "overkill_rate", "auroc",
            "average_precision", "review",
        ):  # fmt: skip
            found[name] = figures[name]
    return {
        name: Metric(
            value=figure["value"],
            n=figure["n"],
            low=figure["low"],
            high=figure["high"],
            count=figure.get("k"),
        )
        for name, figure in found.items()
        # With one class in the test set, some figures do not exist.
        if figure["n"] and all(np.isfinite(figure[key]) for key in ("value", "low", "high"))
    }


def _write_run(result: TeachResult, judged: Judged, out: Path) -> None:
    table = confusion(judged, result.card.classes)
    metrics = {
        "metrics": {name: m.model_dump() for name, m in result.card.metrics.items()},
        "confusion": table,
        "parity": result.card.parity | {"pictures": result.parity.pictures},
        "split": {
            "kind": result.split.kind,
            "basis": result.split.basis,
            "seed": result.split.seed,
            "dropped_from_test": [record.path.name for record in result.split.dropped],
        },
        "seconds": result.seconds,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    write_confusion(table, out / "confusion.png")
    write_mistakes(judged, out / "mistakes.png")


def http_scores(model: Path, pictures: Sequence[Path]) -> tuple[FloatArray, list[str]]:
    """Scores and verdicts that the real service, in its own process, gives over HTTP.

    Raises:
        GateError: an answer is not 200 or has no score; the message names the picture.
    """
    with served(model) as port, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: _post(port, path), pictures))
    scores = np.array([answer["score"] for answer in answers], np.float32)
    return scores, [str(answer["verdict"]) for answer in answers]


def _post(port: int, path: Path) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("POST", INSPECT_PATH, path.read_bytes(), headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise GateError(f"parity: HTTP must answer 200 for {path.name}, got {response.status}")
    result: dict[str, Any] = json.loads(body)["results"][0]
    if result.get("score") is None:
        raise GateError(f"parity: HTTP must give a score for {path.name}, got {result}")
    return result
