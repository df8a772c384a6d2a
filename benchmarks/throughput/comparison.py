"""Measure every server in turn: closed loops, then Poisson arrivals, round after round."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from twonines.benchmarks.bench import metadata
from twonines.benchmarks.throughput.aims import judge_aims
from twonines.benchmarks.throughput.load import TOLERANCE
from twonines.benchmarks.throughput.running import (
    Watch,
    command_of,
    free_port,
    generate_load,
    post,
    running,
)
from twonines.benchmarks.throughput.task import Task, make_task, measure_limits
from twonines.benchmarks.throughput.variants import (
    CompareOptions,
    Tell,
    Variant,
    find_variants,
    label_of,
)
from twonines.benchmarks.throughput.wire import build_upload, find_score
from twonines.errors import GateError
from twonines.models.providers import available_threads
from twonines.models.session import InspectionSession, Provider

SCHEMA = 1
WARM_UP, WARM_UP_CLIENTS = 96, 32
GRACE_S, OVERLOAD_GRACE_S = 10.0, 2.0
"""How long answers are waited for after the last request; in overload a queue would last long."""
_FAULT_LIMIT_S = 30.0
"""A server that still answers nothing but faults so long after its start will not do better."""
COUNTS = ("sent", "answered", "refused", "errors", "unanswered", "wrong")


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
    for number in range(options.rounds):
        head = f"round {number + 1}/{options.rounds}"
        for label, session in sessions.items():
            tell(f"{head}: bare session on {label}")
            with Watch(psutil.Process()) as watch:
                limits = measure_limits(session, task)
            bare[label].append(limits | {"others_share": _share_of_others(watch, 0.0)})
        for variant in variants if number % 2 == 0 else reversed(variants):
            if variant.key in errors:
                continue
            tell(f"{head}: {variant.key}")
            try:
                measured[variant.key].append(_measure(variant, task, options, number))
            except GateError as exc:
                errors[variant.key] = str(exc)
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


def _measure(variant: Variant, task: Task, options: CompareOptions, number: int) -> dict[str, Any]:
    """All loads on one fresh server."""
    server, port = variant.server, free_port()
    assert variant.environment.python is not None
    words, environment = command_of(
        server, variant.environment.python, task.model, task.session.input_size,
        variant.asked, port,
    )  # fmt: skip
    first = build_upload(server.form, server.field, f"127.0.0.1:{port}", server.path,
                         task.pictures[0].read_bytes())  # fmt: skip
    job = {
        "host": "127.0.0.1", "port": port, "path": server.path, "form": server.form,
        "field": server.field, "place": list(server.place), "expected": list(task.expected),
        "pictures": [str(path) for path in task.pictures], "grace_s": GRACE_S,
        "tolerance": variant.tolerance,
    }  # fmt: skip

    start = time.perf_counter()

    def probe() -> bool:
        answer = post(port, first)
        if answer is None or find_score(answer[1], server.place) is not None:
            return answer is not None
        if time.perf_counter() - start > _FAULT_LIMIT_S:
            said = answer[1].decode(errors="replace")[:400]
            raise GateError(f"server: must answer a score, got {answer[0]}: {said}")
        return False

    rows: dict[str, dict[str, Any]] = {}
    with running(words, environment, probe) as process:
        ready = time.perf_counter() - start
        generate_load(job | {"clients": WARM_UP_CLIENTS, "total": WARM_UP})
        for clients in options.clients:
            given = {"clients": clients, "seconds": options.seconds}
            rows[f"closed {clients}"] = _row(process, job | given)
        capacity = max(row["per_second"] for row in rows.values())
        for percent in options.load if capacity else ():
            given = {"rate": capacity * percent / 100, "seconds": options.seconds,
                     "seed": options.seed + number,
                     "grace_s": OVERLOAD_GRACE_S if percent > 100 else GRACE_S}  # fmt: skip
            rows[f"open {percent}"] = _row(process, job | given) | {"offered": given["rate"]}
    return {"ready_s": ready, "capacity": capacity, "rows": rows}


def _row(process: psutil.Process, job: dict[str, Any]) -> dict[str, Any]:
    """One load, with what the server took meanwhile."""
    with Watch(process) as watch:
        found = generate_load(job)
    return {
        "per_second": found["per_second"],
        **{f"{name}_s": value for name, value in found["latency_s"].items()},
        "refusal_p99_s": found["refusal_s"]["p99"],
        "cpu_per_picture_s": watch.cpu_seconds / found["answered"] if found["answered"] else None,
        "memory_bytes": watch.peak_bytes,
        "generator_share": found["cpu_share"],
        "others_share": _share_of_others(watch, found["process_cpu_seconds"]),
        "late_p99_s": found["late_p99_s"],
        **{name: found[name] for name in COUNTS},
    }


def _share_of_others(watch: Watch, generator_seconds: float) -> float:
    """Share of all cores that neither the server nor the benchmark took, while it was watched."""
    cores = psutil.cpu_count() or 1
    others = watch.machine_seconds - watch.cpu_seconds - generator_seconds
    return max(0.0, others / watch.wall_seconds / cores)


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
