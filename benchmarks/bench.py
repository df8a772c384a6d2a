"""The benchmark: a model against manual inspection, on test pictures it was not taught."""

import importlib.metadata
import math
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import twonines
from twonines.benchmarks import claims, evaluate
from twonines.benchmarks.manual import DEFAULT_ACCURACY, DEFAULT_SECONDS, Inspector
from twonines.benchmarks.report import write_report
from twonines.benchmarks.throughput import measure
from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split
from twonines.errors import SettingsError
from twonines.models.session import InspectionSession, available_threads

SENSITIVITY = (0.80, 0.85, 0.90, 0.95)
SCHEMA = 1
_EXAMPLES = 6


def run_bench(
    model: Path,
    dataset: Dataset,
    out: Path,
    *,
    manual_accuracy: float = DEFAULT_ACCURACY,
    manual_seconds: float = DEFAULT_SECONDS,
    seed: int = 0,
    rounds: int = 3,
    throughput: bool = True,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a model and write ``report.html`` and ``report.json`` into ``out``.

    Args:
        model: the model file; its card names the split and the policy.
        dataset: the set that the model was taught on.
        out: folder for the report; made where it is missing.
        manual_accuracy: balanced accuracy of manual inspection to compare with, in (0.5, 1).
        manual_seconds: median seconds a part of manual inspection.
        seed: seeds the bootstrap.
        rounds: measured rounds of speed, at least 1.
        throughput: also measure the service and batch scoring.
        progress: told what is done.

    Returns:
        Everything that ``report.json`` holds.

    Raises:
        DatasetError: the set is not the one that the card names.
        SettingsError: an argument is outside its range.
    """
    if rounds < 1:
        raise SettingsError(f"rounds: must be at least 1, got {rounds}")
    tell = progress or (lambda _: None)
    inspector = Inspector(accuracy=manual_accuracy, seconds=manual_seconds)
    session = InspectionSession.load(model)
    tell("checking the data against the model's card")
    split = evaluate.rebuild_split(session.card, dataset)
    tell(f"inspecting {len(split.test)} test pictures")
    runs = [evaluate.judge_records(session, split.test) for _ in range(rounds + 1)]
    judged = runs[-1]
    result = _result(session, dataset, split, judged, inspector, seed)
    result["seconds_per_part"] = [run.seconds / len(split.test) for run in runs[1:]]
    if throughput:
        result["throughput"] = _measure(model, judged, rounds, progress)
    result["claims"] = _claims(result, inspector)
    slowest = inspector.seconds / result["claims"][-1]["low"]
    # With so much handling a part on the model's side alone, the speed claim is at its limit.
    result["handling_limit_s"] = max(0.0, inspector.seconds / claims.SPEED_TARGET - slowest)
    tell("writing the report")
    names_kinds = session.card.task == "classify"
    write_report(result, _examples(judged, dataset, names_kinds), out)
    return result


def _result(
    session: InspectionSession,
    dataset: Dataset,
    split: Split,
    judged: evaluate.Judged,
    inspector: Inspector,
    seed: int,
) -> dict[str, Any]:
    decides = dataset.has_good and session.card.has_good
    metrics = evaluate.decision_metrics(judged, seed) if decides else None
    if metrics and session.card.task == "anomaly":
        metrics["calibration_error"] = None  # its score is a limit's, not a probability
    prevalence = float(judged.defective.mean())
    return {
        "schema": SCHEMA,
        "meta": _metadata(seed),
        "model": {
            "digest": session.digest,
            "card": session.card.public(),
            "execution_provider": session.execution_provider,
            "choice": session.choice,
        },
        "data": _data(session, dataset, split),
        "decides": decides,
        "metrics": metrics,
        "typing": evaluate.typing_metrics(judged) if session.card.task == "classify" else None,
        "confusion": evaluate.confusion(judged, session.card.classes),
        "manual": inspector.summary(prevalence) if decides else inspector.summary(0.5),
        "sensitivity": _sensitivity(metrics, inspector) if metrics else [],
        "rows": _rows(judged, dataset),
        "throughput": None,
    }


def _data(session: InspectionSession, dataset: Dataset, split: Split) -> dict[str, Any]:
    grouped = any(record.group is not None for record in dataset.records)
    return {
        "name": dataset.card.name,
        "title": dataset.card.title,
        "licence": dataset.card.licence,
        "source": dataset.card.source,
        "traps": dataset.card.traps,
        "digest": session.card.training_data.digest,  # checked against these records
        "counts": dict(sorted(dataset.counts.items())),
        "split": {
            "kind": split.kind,
            "basis": split.basis,
            "seed": split.seed,
            "train": len(split.train),
            "calibration": len(split.calibration),
            "test": len(split.test),
            "dropped": len(split.dropped),
            "leaks": grouped and split.kind == "random",
        },
    }


def _rows(judged: evaluate.Judged, dataset: Dataset) -> list[dict[str, Any]]:
    return [
        {
            "path": _relative(record.path, dataset.root),
            "defect_class": record.defect_class,
            "verdict": inspection.verdict.value,
            "said": inspection.defect_class,
            "score": inspection.score,
            "novelty": inspection.novelty,
            "error": inspection.error,
        }
        for record, inspection in zip(judged.records, judged.inspections, strict=True)
    ]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _accuracy_claim(metrics: dict[str, Any], inspector: Inspector) -> claims.Claim:
    accuracy, balanced = metrics["accuracy"], metrics["balanced_accuracy"]
    return claims.accuracy_claim(
        (accuracy["value"], accuracy["low"], accuracy["high"]),
        (balanced["value"], balanced["low"], balanced["high"]),
        n=accuracy["n"],
        manual=inspector.accuracy_at(metrics["prevalence"]),
        manual_balanced=inspector.accuracy,
    )


def _sensitivity(metrics: dict[str, Any], inspector: Inspector) -> list[dict[str, Any]]:
    """The accuracy claim at other manual accuracies."""
    rows = []
    for manual in SENSITIVITY:
        claim = _accuracy_claim(metrics, Inspector(accuracy=manual, seconds=inspector.seconds))
        rows.append(
            {
                "manual_accuracy": manual,
                "gain": claim.value - claim.target,
                "low": claim.low - claim.target,
                "high": claim.high - claim.target,
                "answer": claim.answer,
            }
        )
    return rows


def _claims(result: dict[str, Any], inspector: Inspector) -> list[dict[str, Any]]:
    """Accuracy and speed; a typing model gets speed alone."""
    made = [_accuracy_claim(result["metrics"], inspector)] if result["decides"] else []
    seconds, pictures = result["seconds_per_part"], result["data"]["split"]["test"]
    if result["throughput"]:
        # The service is what a line would use, and the slower way of the two.
        rounds = result["throughput"]["rows"]["http"]["rounds"]
        seconds = [1 / per_second for per_second in rounds]
        pictures = result["throughput"]["per_round"]
    made.append(
        claims.speed_claim(
            seconds,
            manual_seconds=inspector.seconds,
            n=pictures,
        )
    )
    return [claim.to_json() for claim in made]


def _measure(
    model: Path,
    judged: evaluate.Judged,
    rounds: int,
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    readable = [
        record.path
        for record, inspection in zip(judged.records, judged.inspections, strict=True)
        if inspection.error is None
    ]
    return measure(model, readable, rounds=rounds, progress=progress)


def _examples(judged: evaluate.Judged, dataset: Dataset, names_kinds: bool) -> list[dict[str, Any]]:
    """The worst mistakes, and some that were right, with the paths of their pictures."""
    pairs = list(zip(judged.records, judged.inspections, judged.scores, strict=True))
    escapes = [p for p in pairs if p[0].is_defective and p[1].verdict.value == "OK"]
    overkill = [p for p in pairs if not p[0].is_defective and p[1].verdict.value != "OK"]
    wrong = {id(p[0]) for p in (*escapes, *overkill)}
    mistyped = [
        p for p in pairs
        if names_kinds and p[0].is_defective and id(p[0]) not in wrong
        and p[1].defect_class != p[0].defect_class
    ]  # fmt: skip
    wrong |= {id(p[0]) for p in mistyped}
    right = [p for p in pairs if id(p[0]) not in wrong]
    kinds = {
        "escape": sorted(escapes, key=lambda p: p[2]),
        "overkill": sorted(overkill, key=lambda p: -p[2]),
        "wrong defect": sorted(mistyped, key=lambda p: -p[2]),
        "right": right[:: max(1, math.ceil(len(right) / _EXAMPLES))],
    }
    return [
        {
            "kind": kind,
            "path": record.path,
            "label": _relative(record.path, dataset.root),
            "defect_class": record.defect_class,
            "verdict": inspection.verdict.value,
            "said": inspection.defect_class,
            "score": inspection.score,
        }
        for kind, members in kinds.items()
        for record, inspection, _ in members[:_EXAMPLES]
    ]


def _metadata(seed: int) -> dict[str, Any]:
    names = ("numpy", "onnxruntime", "pillow", "scipy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": seed,
        "versions": {
            "twonines": twonines.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names},
        },
        "cpu": _cpu(),
        "threads": available_threads(),
        "system": platform.platform(),
    }


def _commit() -> str | None:
    """The commit of this source tree, or None where the package is installed without one."""
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A site-packages folder inside somebody else's repository is not ours.
    ours = (root / "pyproject.toml").is_file() and done.returncode == 0
    return done.stdout.strip() or None if ours else None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
