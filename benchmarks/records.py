"""Shows of the records: ``python -m twonines.benchmarks.records SHOW``.

``kill`` kills a service under load again and again and looks for what it had acknowledged,
``search`` asks a million records, ``throughput`` compares a service that records with one that
does not. Each prints one JSON object, and ends with 1 where it does not hold.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from twonines.benchmarks.fuzzing import picture
from twonines.benchmarks.kills import kill
from twonines.benchmarks.postgres import postgres
from twonines.benchmarks.stress import running
from twonines.benchmarks.throughput.ways import http_round
from twonines.serving.store.counting import MINUTE_US, Span, tally
from twonines.serving.store.database import Database
from twonines.serving.store.ids import least_id, now_us, time_us_of
from twonines.serving.store.opening import open_records
from twonines.serving.store.purge import analyse
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.serving.store.tables import inspections

Result = tuple[bool, dict[str, Any]]
LIMIT_MS = 200.0
LEAST_SHARE = 0.9
_DAYS, _DAY_US = 30, 86_400_000_000
_BATCH = 20_000
# A busy machine must not turn the measurement into refusals.
_PATIENT = ("--max-predicted-s", "60", "--request-timeout-s", "60")
_VERDICTS, _SHARES = ("OK", "NG", "REVIEW"), (0.94, 0.04, 0.02)


def fill(database: Database, count: int, seed: int = 0) -> None:
    """Write so many inspections of thirty days, of four stations on two lines."""
    rng = np.random.default_rng(seed)
    start = now_us() - _DAYS * _DAY_US
    times = np.sort(rng.integers(start, start + _DAYS * _DAY_US, count))
    verdicts = rng.choice(_VERDICTS, count, p=_SHARES)
    classes = rng.choice(["scratch", "dent", "crack"], count, p=[0.7, 0.29, 0.01])
    for first in range(0, count, _BATCH):
        rows = []
        for number in range(first, min(first + _BATCH, count)):
            verdict, station = str(verdicts[number]), number % 4
            key = f"{least_id(int(times[number]))[:24]}{number:012x}"
            row = _row(key, number, verdict, station, str(classes[number]))
            rows.append(row)
        with database.writing() as connection:
            connection.execute(insert(inspections), rows)
            tally(connection, rows)
    with database.writing() as connection:
        analyse(connection)


def _row(key: str, number: int, verdict: str, station: int, kind: str) -> dict[str, Any]:
    bad = verdict != "OK"
    region = {"box": [10, 20, 60, 80], "area": 900, "score": 0.93, "defect_class": kind}
    decided = verdict == "REVIEW" and number % 10 != 0
    return {
        "id": key, "time_us": time_us_of(key), "request_id": f"{number:032x}",
        "line": f"line {station // 2}", "station": f"station {station}",
        "part_id": f"P{number // 2:08d}", "lot": f"LOT-{number // 2000:05d}",
        "file": f"{number}.jpg", "picture_digest": f"{number:064x}", "reference_digest": None,
        "verdict": verdict, "score": 0.97 if bad else 0.02,
        "defect_class": kind if bad else "good",
        "class_scores": {"good": 0.03, kind: 0.97}, "novelty": 0.4,
        "regions": [region] if bad else [], "reasons": [], "error": None,
        "model_name": "elpv", "model_version": str(number // 400_000 + 1),
        "model_digest": f"{number // 400_000 + 1:064x}", "certificate": "c" * 64,
        "execution_provider": "cpu",
        "timings_ms": {"decode": 1.2, "queue": 3.4, "compute": 20.1, "total": 25.0},
        "due": int(verdict == "REVIEW" and not decided), "decision": "OK" if decided else None,
        "decision_class": None,
    }  # fmt: skip


def _questions(records: Records, count: int) -> dict[str, Callable[[int], object]]:
    now = now_us()

    def live(_: int) -> object:
        hour, day = Span(now - 3600_000_000, now), Span(now - _DAY_US, now)
        since = Filters(since_us=now - _DAY_US)
        return (
            records.counts(hour), records.trend(day, 10 * MINUTE_US), records.decisions(since),
            records.queue(limit=10), records.query(limit=20),
        )  # fmt: skip

    def window(n: int) -> dict[str, Any]:
        since = now - _DAYS * _DAY_US + n % _DAYS * _DAY_US
        return {"since_us": since, "until_us": since + _DAY_US}

    return {
        "part": lambda n: records.query(Filters(part_id=f"P{n * 7919 % count // 2:08d}")),
        "part and verdict": lambda n: records.query(
            Filters(part_id=f"P{n * 7919 % count // 2:08d}", verdict="NG")
        ),
        "time and verdict": lambda n: records.query(
            Filters(verdict=_VERDICTS[n % 3], **window(n)), limit=100
        ),
        "time, station and class": lambda n: records.query(
            Filters(station=f"station {n % 4}", defect_class="crack", **window(n)), limit=100
        ),
        "lot": lambda n: records.query(
            Filters(lot=f"LOT-{n * 31 % (count // 2000 + 1):05d}"), limit=100
        ),
        "model and verdict": lambda n: records.query(
            Filters(model=f"{n % 2 + 1:064x}", verdict="NG"), limit=100
        ),
        "newest": lambda _: records.query(limit=100),
        "live page": live,
        "counts of 30 days": lambda _: records.counts(Span(0, now)),
        "review queue": lambda n: records.queue(reviewer=f"r{n % 3}", limit=50),
    }


def search(folder: Path, *, count: int = 1_000_000, repeats: int = 200) -> Result:
    """How long questions to so many records take on SQLite; new arguments each time."""
    database = Database.in_folder(folder)
    records = open_records(database, folder)
    start = time.perf_counter()
    fill(database, count)
    filled = time.perf_counter() - start
    figures = {}
    for name, ask in _questions(records, count).items():
        seconds = []
        for number in range(repeats):
            begin = time.perf_counter()
            ask(number)
            seconds.append((time.perf_counter() - begin) * 1e3)
        figures[name] = {
            "p50_ms": statistics.median(seconds),
            "p95_ms": float(np.quantile(seconds, 0.95)),
            "max_ms": max(seconds),
        }
    records.close()
    database.close()
    size = sum(path.stat().st_size for path in folder.glob("twonines.db*"))
    return (
        all(one["p95_ms"] < LIMIT_MS for one in figures.values()),
        {"records": count, "repeats": repeats, "fill_s": filled, "bytes": size, "asked": figures},
    )


def throughput(
    model: Path, folder: Path, pictures: Sequence[Path], flags: Sequence[str] = (), *,
    rounds: int = 5, per_round: int = 512, clients: int = 64,
) -> Result:  # fmt: skip
    """Pictures a second with records and without, in turns, on the same machine."""
    rates: dict[str, list[float]] = {"off": [], "on": []}
    p95: dict[str, list[float]] = {"off": [], "on": []}
    with (
        running(model, *_PATIENT) as without,
        running(model, *_PATIENT, "--data-dir", str(folder), *flags) as recording,
    ):
        ports = {"off": without.port, "on": recording.port}
        for number in range(rounds + 1):
            # The first round warms up; the order changes, so that neither is always second.
            for name in sorted(ports, reverse=bool(number % 2)):
                answer = http_round(ports[name], pictures, per_round, clients)
                if number:
                    rates[name].append(answer["per_second"])
                    p95[name].append(answer["latency_s"]["p95"] * 1e3)
        wait = recording.metric("record_duration_seconds_sum")
        waits = recording.metric("record_duration_seconds_count")
    ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
    share = statistics.median(ratios)
    return share >= LEAST_SHARE, {
        "per_second": rates,
        "p95_ms": p95,
        "on_over_off": {"median": share, "low": min(ratios), "high": max(ratios)},
        "mean_wait_for_disk_ms": wait / waits * 1e3,
        "flags": list(flags),
    }


@contextmanager
def _database(name: str) -> Iterator[str | None]:
    """The URL of what was named: None for SQLite, a server of our own for ``postgresql``."""
    with postgres() if name == "postgresql" else nullcontext() as server:
        yield server.create("records") if server else None if name == "sqlite" else name


def _made(folder: Path) -> list[Path]:
    paths = [folder / f"{level}.png" for level in (0, 60, 120, 250)]
    for path in paths:
        path.write_bytes(picture(int(path.stem)))
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one show; 0 where it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("show", choices=("kill", "search", "throughput"))
    parser.add_argument("--model", type=Path, help="for kill and throughput")
    parser.add_argument("--times", type=int, default=50, help="kills")
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql or a URL")
    parser.add_argument("--count", type=int, default=1_000_000, help="records to search")
    parser.add_argument("--repeats", type=int, default=200, help="of each question")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-round", type=int, default=512, help="pictures")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to send")
    parser.add_argument("--keep-pictures", default="ng-review")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.show != "search" and given.model is None:
        parser.error("--model is needed")
    with tempfile.TemporaryDirectory() as made:
        holds, figures = _run(given, Path(made))
    json.dump({"show": given.show, "holds": holds, **figures}, sys.stdout, indent=2)
    print()
    return 0 if holds else 1


def _run(given: argparse.Namespace, folder: Path) -> Result:
    data = folder / "data"
    data.mkdir()
    if given.show == "search":
        return search(data, count=given.count, repeats=given.repeats)
    with _database(given.database) as url:
        if given.show == "kill":
            return kill(given.model, data, times=given.times, url=url, seed=given.seed)
        pictures = sorted(given.pictures.iterdir()) if given.pictures else _made(folder)
        flags = ["--keep-pictures", given.keep_pictures]
        flags += ["--database-url", url] if url else []
        return throughput(
            given.model, data, pictures, flags, rounds=given.rounds, per_round=given.per_round
        )


if __name__ == "__main__":
    sys.exit(main())
