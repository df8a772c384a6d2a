"""Teach with every gate: the recipe, the parity over HTTP, metrics and the worst mistakes."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from twonines.benchmarks.evaluate import (
    Judged,
    confusion,
    decision_metrics,
    typing_metrics,
)
from twonines.benchmarks.pictures import write_confusion, write_mistakes
from twonines.benchmarks.throughput import served
from twonines.client import Client, ClientError
from twonines.datasets.content import relative
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split, make_split
from twonines.errors import GateError
from twonines.models.card import Metric, ModelCard
from twonines.models.onnx_file import read_card
from twonines.models.providers import read_model
from twonines.training.features import default_cache
from twonines.training.teach import Report, TeachResult, teach
from twonines.training.teach_options import TeachOptions
from twonines.types import FloatArray, Inspection

_SENDERS = 8


def teach_and_measure(
    dataset: Dataset,
    out: Path,
    options: TeachOptions | None = None,
    *,
    seed: int = 0,
    split_method: str = "auto",
    split: Split | None = None,
    cache: Path | None = None,
    report: Report = lambda stage, done, total: None,
) -> TeachResult:
    """Teach a model on its training split; write it, its card, metrics and worst mistakes.

    A ``split`` that is given, such as a fold, stands in for ``seed`` and ``split_method``.

    Raises:
        GateError: PyTorch, ONNX and HTTP disagree on a test picture; no model is left then.
        DatasetError: the set cannot be split or lacks a class.
    """
    if split is None:
        split = make_split(dataset, seed=seed, method=split_method)  # type: ignore[arg-type]
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
    judged = judge(result.parity.inspections, split.test)
    _write_run(result, judged, out, dataset.root)
    return result


def judge(inspections: Sequence[Inspection], records: Sequence[Record]) -> Judged:
    """What the session said before, for the figures; nothing was timed."""
    return Judged(tuple(records), tuple(inspections), float("nan"))


def _metrics(
    inspections: Sequence[Inspection], records: Sequence[Record], card: ModelCard
) -> dict[str, Metric]:
    judged = judge(inspections, records)
    found: dict[str, dict[str, Any]] = {}
    if card.names_kinds:
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


def _write_run(result: TeachResult, judged: Judged, out: Path, root: Path) -> None:
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
            "test": [
                {"path": relative(record.path, root), "class": record.defect_class}
                for record in result.split.test
            ],
        },
        "seconds": result.seconds,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    write_confusion(table, out / "confusion.png")
    write_mistakes(judged, out / "mistakes.png")


def http_scores(model: Path, records: Sequence[Record]) -> tuple[FloatArray, list[str]]:
    """Scores and verdicts that the real service, in its own process, gives over HTTP.

    A picture is sent with its reference where it has one and the model compares.

    Raises:
        GateError: the service refuses a picture or gives no score; the message names the picture.
    """
    compares = read_card(read_model(model), str(model)).reference
    # A proxy of the environment is not for this machine.
    with (
        served(model) as port,
        Client(f"http://127.0.0.1:{port}", timeout_s=60, transport=httpx.HTTPTransport()) as client,
        ThreadPoolExecutor(_SENDERS) as pool,
    ):
        found = list(pool.map(lambda record: _send(client, record, compares), records))
    return np.array([score for score, _ in found], np.float32), [verdict for _, verdict in found]


def _send(client: Client, record: Record, compares: bool) -> tuple[float, str]:
    try:
        answer = client.inspect(record.path, reference=record.reference if compares else None)[0]
    except ClientError as exc:
        raise GateError(f"parity: HTTP must answer for {record.path.name}, but {exc}") from exc
    if answer.score is None:
        raise GateError(
            f"parity: HTTP must give a score for {record.path.name}, got {answer.error}"
        )
    return answer.score, answer.verdict.value
