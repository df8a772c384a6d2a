"""Measure every server: closed loops, then Poisson arrivals, round after round."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from twonines.benchmarks.bench import metadata
from twonines.benchmarks.throughput.aims import judge_aims
from twonines.benchmarks.throughput.contest import (
    COUNTS,
    GRACE_S,
    OVERLOAD_GRACE_S,
    Contest,
    share_of_others,
)
from twonines.benchmarks.throughput.load import TOLERANCE
from twonines.benchmarks.throughput.running import Watch
from twonines.benchmarks.throughput.task import Task, make_task, measure_limits
from twonines.benchmarks.throughput.variants import (
    CompareOptions,
    Tell,
    Variant,
    find_variants,
    label_of,
)
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession, Provider

SCHEMA = 1


def compare(
    model: Path, pictures: Sequence[Path], options: CompareOptions, tell: Tell = lambda _: None
) -> dict[str, Any]:
    """Measure twonines and other servers with one model and the same pictures.

    Args:
        model: the model file.
        pictures: files of sound pictures; at most 128 of them, evenly spread, are used.
        options: what is measured.
        tell: told what is measured.

    Returns:
        ``limits`` by how a session runs, ``servers`` with a row for each load, ``missing`` with
        reasons, ``aims``, and what was measured where. Figures have ``median``, ``low``, ``high``
        and ``rounds``; counts are sums over rounds.

    Raises:
        SettingsError: there are no pictures, or the model needs references or tiles.
    """
    session = InspectionSession.load(model, beside=True)
    task = make_task(model, session, pictures)
    variants, missing = find_variants(options, session, tell)
    started, own = time.time(), time.process_time()
    limits, measured, errors = _run_rounds(variants, task, options, tell)
    result = _facts(task, options) | {
        "limits": {
            label: {name: spread([row[name] for row in rows]) for name in rows[0]}
            for label, rows in limits.items()
        },
        "servers": [
            _sum_up(variant, measured[variant.key], errors.get(variant.key)) for variant in variants
        ],
        "missing": missing,
        "watcher_cpu_seconds": time.process_time() - own,
    }
    result["meta"]["seconds"] = time.time() - started
    return result | {"aims": judge_aims(result)}


def _run_rounds(
    variants: Sequence[Variant], task: Task, options: CompareOptions, tell: Tell
) -> tuple[dict[str, list[dict[str, float]]], dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Bare figures by label, those of the servers by key, and why a server has none.

    A server that failed is not tried again.
    """
    sessions = {one.label: _session(task, one.label) for one in variants}
    bare: dict[str, list[dict[str, float]]] = {label: [] for label in sessions}
    measured: dict[str, list[dict[str, Any]]] = {variant.key: [] for variant in variants}
    errors: dict[str, str] = {}

    def run_bare(number: int) -> None:
        for label, session in sessions.items():
            tell(f"round {number + 1}/{options.rounds}: bare session on {label}")
            with Watch(psutil.Process()) as watch:
                limits = measure_limits(session, task)
            bare[label].append(limits | {"others_share": share_of_others(watch, 0.0)})

    for number in range(options.rounds):
        left = [variant for variant in variants if variant.key not in errors]
        with Contest(left, task, options, number, tell) as contest:
            run_bare(number)
            contest.closed()
            run_bare(number)
            contest.open()
        errors |= contest.errors
        for key, result in contest.results():
            measured[key].append(result)
    return bare, measured, errors


def _facts(task: Task, options: CompareOptions) -> dict[str, Any]:
    """What was measured, with what, and where."""
    session = task.session
    return {
        "schema": SCHEMA,
        "meta": metadata(options.seed),
        "model": {
            "name": session.card.name, "version": session.card.version, "digest": session.digest,
            "input_size": list(session.input_size), "choice": session.choice,
            "execution_provider": session.execution_provider,
            "label": label_of(session),
        },
        "pictures": {"count": len(task.pictures),
                     "mean_bytes": statistics.mean(p.stat().st_size for p in task.pictures)},
        "options": {"clients": list(options.clients), "load": list(options.load),
                    "seconds": options.seconds, "rounds": options.rounds,
                    "tolerance": TOLERANCE, "grace_s": GRACE_S,
                    "overload_grace_s": OVERLOAD_GRACE_S},
        "cores": available_threads(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }  # fmt: skip


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Median and range over rounds; None where a round has no figure."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": statistics.median(known), "low": min(known), "high": max(known),
            "rounds": known}  # fmt: skip


def _session(task: Task, label: str) -> InspectionSession:
    if label == label_of(task.session):
        return task.session
    provider: Provider = "openvino" if label == "openvino" else "cpu"
    return InspectionSession.load(task.model, execution_provider=provider, beside=True)


def _sum_up(
    variant: Variant, rounds: Sequence[dict[str, Any]], error: str | None
) -> dict[str, Any]:
    server = variant.server
    rows = {}
    for name in rounds[0]["rows"] if rounds else ():
        parts = [one["rows"][name] for one in rounds if name in one["rows"]]
        figures = {key: spread([part[key] for part in parts])
                   for key in parts[0] if key not in COUNTS}  # fmt: skip
        rows[name] = figures | {key: sum(part[key] for part in parts) for key in COUNTS}
    return {
        "key": variant.key, "name": server.name, "title": server.title,
        "provider": variant.provider, "label": variant.label, "setup": server.setup,
        "source": server.source, "form": server.form, "tolerance": variant.tolerance,
        "versions": variant.environment.versions, "error": error,
        "ready_s": spread([one["ready_s"] for one in rounds]),
        "capacity": spread([one["capacity"] for one in rounds]), "rows": rows,
        "wrong": sum(row["wrong"] for row in rows.values()),
        "errors": sum(row["errors"] for row in rows.values()),
    }  # fmt: skip
