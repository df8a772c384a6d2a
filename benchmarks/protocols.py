"""Published protocols: repeated splits or folds of one set, without an export each time.

``python -m twonines.benchmarks.protocols elpv`` and so on. Features, fit and calibration are the
functions of the recipe ``teach``; parity of head and file is that recipe's own gate.
"""

import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from twonines import __version__
from twonines.benchmarks import statistics as st
from twonines.datasets.record import Dataset, Record
from twonines.datasets.registry import load_dataset
from twonines.datasets.splits import Split, folds, make_split
from twonines.models.backbone import Backbone
from twonines.training.export import export_backbone
from twonines.training.features import FeatureExtractor, default_cache
from twonines.training.fit import FeatureLayout, calibrate, fit_head, probabilities
from twonines.types import FloatArray

Method = Literal["grouped", "random"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one figure is made. ``repeats`` is for splits, ``n_folds`` for cross-validation."""

    dataset: str
    question: Literal["accept", "type"]
    method: Method
    input_size: int
    published: str
    n_folds: int | None = None
    repeats: int = 5
    leaks: bool = False


PROTOCOLS: dict[str, Protocol] = {
    "elpv": Protocol("elpv", "accept", "grouped", 300, "88.42 CNN, 82.44 SVM (Deitsch 2019)"),
    "neu-det": Protocol("neu-det", "type", "grouped", 224, "99.0-99.4 CNN transfer", n_folds=5),
    "x-sdd": Protocol("x-sdd", "type", "grouped", 224, "95.10 RepVGG + SA", n_folds=5),
    "magnetic-tile": Protocol(
        "magnetic-tile", "accept", "grouped", 224, "none by tile known", n_folds=5
    ),
    "magnetic-tile-random": Protocol(
        "magnetic-tile", "accept", "random", 224, "about 98 (leaks)", n_folds=5, leaks=True
    ),
}


@dataclass(frozen=True, slots=True)
class Part:
    """The test pictures of one split with the head's calibrated class scores (N, K)."""

    records: tuple[Record, ...]
    class_scores: npt.NDArray[np.float64]
    seconds: float


def run_protocol(
    name: str, *, root: Path | None = None, cache: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Run one protocol; gives its row with counts and intervals.

    For repeated splits the rate is the mean over splits with its standard deviation, since the
    splits share pictures; for folds every picture is tested once and the interval is exact.
    """
    protocol = PROTOCOLS[name]
    dataset = load_dataset(protocol.dataset, root)
    table = _features(dataset, protocol.input_size, cache or default_cache())
    parts = [_fit(dataset, split, table) for split in _splits(dataset, protocol, seed)]
    row: dict[str, Any] = {
        "protocol": name,
        "pictures": len(dataset.records),
        "split": protocol.method,
        "leaks": protocol.leaks,
        "input_size": protocol.input_size,
        "published": protocol.published,
        "fit_seconds": float(np.median([part.seconds for part in parts])),
    }
    if protocol.n_folds:
        joined = Part(
            tuple(record for part in parts for record in part.records),
            np.concatenate([part.class_scores for part in parts]),
            0.0,
        )
        return row | {"folds": protocol.n_folds, **_figures(dataset, joined, protocol)}
    singles = [_figures(dataset, part, protocol) for part in parts]
    values = np.array([single["accuracy"]["value"] for single in singles])
    return row | {
        "repeats": len(parts),
        "accuracy": {
            "value": float(values.mean()),
            "standard_deviation": float(values.std(ddof=1)),
            "each": values.tolist(),
            "n": len(parts[0].records),
        },
        "accuracy_of_sure_labels": float(np.mean([s["accuracy_of_sure_labels"] for s in singles])),
        "balanced_accuracy": {
            "value": float(np.mean([s["balanced_accuracy"]["value"] for s in singles]))
        },
        "auroc": {"value": float(np.mean([s["auroc"]["value"] for s in singles]))},
    }


def _splits(dataset: Dataset, protocol: Protocol, seed: int) -> Iterator[Split]:
    if protocol.n_folds:
        return folds(dataset, n_folds=protocol.n_folds, seed=seed, method=protocol.method)
    return (
        make_split(dataset, seed=seed + repeat, test_fraction=0.25)
        for repeat in range(protocol.repeats)
    )


@dataclass(frozen=True, slots=True)
class _Features:
    rows: dict[Path, FloatArray]
    layout: FeatureLayout

    def of(self, records: Sequence[Record]) -> FloatArray:
        return np.stack([self.rows[record.path] for record in records])


def _features(dataset: Dataset, size: int, cache: Path) -> _Features:
    backbone = Backbone()
    extract = FeatureExtractor(export_backbone(backbone, (size, size), cache), (size, size), cache)
    rows = extract(dataset.records)
    return _Features(
        {record.path: row for record, row in zip(dataset.records, rows, strict=True)},
        FeatureLayout.of(backbone.widths),
    )


def _fit(dataset: Dataset, split: Split, table: _Features) -> Part:
    start = time.perf_counter()
    index = {name: i for i, name in enumerate(dataset.classes)}
    weights = fit_head(
        table.of(split.train),
        np.array([index[r.defect_class] for r in split.train]),
        np.array([r.certainty for r in split.train], np.float32),
        dataset.classes,
        table.layout,
        seed=split.seed,
    )
    held = np.array([index[r.defect_class] for r in split.calibration])
    weights = calibrate(weights, table.of(split.calibration), held)
    seconds = time.perf_counter() - start
    return Part(split.test, probabilities(weights, table.of(split.test)), seconds)


def _figures(dataset: Dataset, part: Part, protocol: Protocol) -> dict[str, Any]:
    """Accept or reject at a probability of 1/2, or the share of kinds named right."""
    truth = np.array([record.is_defective for record in part.records])
    if protocol.question == "type":
        index = {name: i for i, name in enumerate(dataset.classes)}
        labels = np.array([index[record.defect_class] for record in part.records])
        right = part.class_scores.argmax(1) == labels
        return {"accuracy": _rate(st.rate(int(right.sum()), len(right)))}
    scores = 1 - part.class_scores[:, 0]
    said = scores >= 0.5
    sure = np.array([record.certainty == 1.0 for record in part.records])
    return {
        "accuracy": _rate(st.accuracy(truth, said)),
        "accuracy_of_sure_labels": float((truth == said)[sure].mean()),
        "balanced_accuracy": _rate(st.balanced_accuracy(truth, said)),
        "escape_rate": _rate(st.escape_rate(truth, said)),
        "overkill_rate": _rate(st.overkill_rate(truth, said)),
        "auroc": _rate(st.bootstrap(truth, scores, "auroc", seed=0)),
    }


def _rate(figure: st.Rate | st.Estimate) -> dict[str, Any]:
    counts = {"k": figure.k} if isinstance(figure, st.Rate) else {}
    return {
        "value": figure.value,
        "n": figure.n,
        "low": figure.low,
        "high": figure.high,
        **counts,
    }


def main(
    names: Annotated[list[str], typer.Argument(help=f"Some of {', '.join(PROTOCOLS)}.")],
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first split.")] = 0,
) -> None:
    """Run published protocols; data come from their package or below $TWONINES_DATA."""
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown:
        raise typer.BadParameter(f"must be some of {', '.join(PROTOCOLS)}, got {unknown}")
    rows = [run_protocol(name, seed=seed) for name in track(names, console=Console(stderr=True))]
    table = Table("protocol", "n", "split", "accuracy", "balanced", "AUROC", "published")
    for row in rows:
        accuracy = row["accuracy"]
        spread = (
            f"sd {accuracy['standard_deviation']:.4f}"
            if "standard_deviation" in accuracy
            else f"[{accuracy['low']:.4f}, {accuracy['high']:.4f}]"
        )
        table.add_row(
            row["protocol"],
            str(row["pictures"]),
            row["split"] + (" LEAKS" if row["leaks"] else ""),
            f"{accuracy['value']:.4f} {spread}",
            *(
                f"{row[k]['value']:.4f}" if k in row else "-"
                for k in ("balanced_accuracy", "auroc")
            ),
            row["published"],
        )
    Console().print(table)
    if out:
        meta = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "twonines": __version__,
            "python": platform.python_version(),
            "machine": platform.processor() or platform.machine(),
        }
        out.write_text(json.dumps({"meta": meta, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
