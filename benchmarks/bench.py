"""The benchmark: a model against manual inspection, on test pictures it was not taught."""

import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import twonines
from twonines.benchmarks import acceptance, claims, evaluate
from twonines.benchmarks.manual import DEFAULT_ACCURACY, DEFAULT_SECONDS, Inspector
from twonines.benchmarks.report import write_json, write_report
from twonines.benchmarks.throughput.ways import measure
from twonines.datasets.record import Dataset
from twonines.datasets.splits import Split
from twonines.errors import InputError, SettingsError
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession
from twonines.models.tuning import this_machine

SENSITIVITY = (0.80, 0.85, 0.90, 0.95)
SCHEMA = 2
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
    study: Path | None = None,
    measured: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a model and write ``report.html``, ``report.json`` and ``measured.json`` to ``out``.

    ``measured.json`` holds what no second run gives again: speeds, machine and date. With it the
    same model, data and study give the same ``report.json`` to the byte.

    Args:
        model: the model file; its card names the split and the policy.
        dataset: the set that the model was taught on.
        out: folder for the report; made where it is missing.
        manual_accuracy: balanced accuracy of manual inspection to compare with, in (0.5, 1).
        manual_seconds: median seconds a part of manual inspection.
        seed: seeds the bootstrap.
        rounds: measured rounds of speed, at least 1.
        throughput: also measure the service and batch scoring.
        study: folder of a study with people on test pictures of the model.
        measured: ``measured.json`` of an earlier report; nothing is timed then.
        progress: told what is done.

    Returns:
        Everything that ``report.json`` holds.

    Raises:
        DatasetError: the set is not the one that the card names.
        InputError: the study or ``measured`` cannot be read.
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
    judged = evaluate.judge_records(session, split.test)
    calibration = evaluate.judge_records(session, split.calibration)
    result = _result(session, dataset, split, judged, inspector, seed)
    result["typing_alone"] = acceptance.typing_of(session.card, calibration, judged)
    if study is not None:
        tell("analysing the study")
        result["study"] = acceptance.study_of(study, model, dataset, seed)
    if measured is None:
        taken = _time(model, session, split, judged, seed, rounds, throughput, progress)
    else:
        taken = read_measured(measured, session.digest, result["data"]["digest"])
    result |= taken["figures"]
    if result["decides"]:
        tell("people behind the model")
        result["review"] = acceptance.review_of(
            session, calibration, judged, inspector, result["study"], seed
        )
        result["cell"] = acceptance.cell_of(
            result["review"], inspector, result["study"], _pace(result), seed
        )
    made = _claims(result, inspector)
    result["claims"] = [claim.to_json() for claim in made]
    if result["decides"]:
        result["headline"] = acceptance.headline_of(made, inspector.accuracy)
    slowest = inspector.seconds / result["claims"][-1]["low"]
    # With so much handling a part on the model's side alone, the speed claim is at its limit.
    result["handling_limit_s"] = max(0.0, inspector.seconds / claims.SPEED_TARGET - slowest)
    tell("writing the report")
    names_kinds = result["typing"] is not None
    write_report(result, _examples(judged, dataset, names_kinds), out)
    write_json(taken, out / "measured.json")
    return result


def _time(
    model: Path,
    session: InspectionSession,
    split: Split,
    judged: evaluate.Judged,
    seed: int,
    rounds: int,
    throughput: bool,
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    """What depends on the machine and the moment, and of what it was taken."""
    runs = [evaluate.judge_records(session, split.test) for _ in range(rounds)]
    return {
        "model": session.digest,
        "data": session.card.training_data.digest,
        "figures": {
            "meta": metadata(seed),
            "seconds_per_part": [run.seconds / len(split.test) for run in runs],
            "throughput": _measure(model, judged, rounds, progress) if throughput else None,
        },
    }


def read_measured(path: Path, model: str, data: str) -> dict[str, Any]:
    """What an earlier report measured.

    Raises:
        InputError: the file cannot be read, or is of another model or other data.
    """
    try:
        taken: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found, figures = (taken["model"], taken["data"]), taken["figures"]
        complete = {"meta", "seconds_per_part", "throughput"} <= figures.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InputError(f"measured: {path} must be the measured.json of a report ({exc})") from exc
    if not complete:
        raise InputError(f"measured: {path} must be the measured.json of a report, parts lack")
    if found != (model, data):
        raise InputError(
            f"measured: {path} must be of model {model[:16]} on data {data[:16]}, got "
            f"{str(found[0])[:16]} on {str(found[1])[:16]}"
        )
    return taken


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
        "model": {
            "digest": session.digest,
            "card": session.card.public(),
            "execution_provider": session.execution_provider,
            "choice": session.choice,
            "certificate_fault": session.certificate_fault,
        },
        "data": _data(session, dataset, split),
        "decides": decides,
        "metrics": metrics,
        "typing": evaluate.typing_metrics(judged) if session.card.names_kinds else None,
        "confusion": evaluate.confusion(judged, session.card.classes),
        "manual": inspector.summary(prevalence) if decides else inspector.summary(0.5),
        "sensitivity": _sensitivity(metrics, inspector) if metrics else [],
        "rows": _rows(judged, dataset),
        "study": None,
        "review": None,
        "cell": None,
        "headline": None,
        "typing_alone": None,
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


def _pace(result: dict[str, Any]) -> list[float]:
    """Seconds a part, one a round: the service's, which a line would use, where it was measured."""
    seconds: list[float] = result["seconds_per_part"]
    if result["throughput"]:
        seconds = [1 / rate for rate in result["throughput"]["rows"]["http"]["rounds"]]
    return seconds


def _claims(result: dict[str, Any], inspector: Inspector) -> list[claims.Claim]:
    """Accuracy, with people, the cell and speed; a typing model gets speed alone."""
    made = []
    if result["decides"]:
        made = [
            _accuracy_claim(result["metrics"], inspector),
            *acceptance.claims_of(result["review"], result["cell"]),
        ]
    pictures = result["data"]["split"]["test"]
    if result["throughput"]:
        pictures = result["throughput"]["per_round"]
    made.append(claims.speed_claim(_pace(result), manual_seconds=inspector.seconds, n=pictures))
    return made


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


def metadata(seed: int) -> dict[str, Any]:
    """When, from what commit and where a benchmark ran."""
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
        "cpu": this_machine().cpu,
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
