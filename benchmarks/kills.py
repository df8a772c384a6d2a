"""Kill a service under load, start it again, and look for what it had acknowledged."""

import http.client
import json
import random
import sqlite3
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from twonines.benchmarks.fuzzing import picture
from twonines.benchmarks.stress import Service, running
from twonines.serving.store.database import FILE_NAME
from twonines.serving.store.opening import open_database, open_records
from twonines.serving.store.pictures import digest_of
from twonines.serving.store.tables import hour_tallies, inspections, tallies
from twonines.types import Verdict

_BOUNDARY = b"----twonines"
_CLIENTS = 8
_LEVELS = (0, 60, 128, 200, 250)


class _Load:
    """Clients that send two pictures a request and remember what was acknowledged."""

    def __init__(self, port: int, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.pictures: dict[str, str] = {}
        self.unrecorded = 0
        self._port, self._end = port, threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(seed + number),))
            for number in range(_CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """End the clients."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _client(self, rng: random.Random) -> None:
        while not self._end.is_set():
            # Sides differ, so that each picture is a new one and must be stored.
            sent = [picture(rng.choice(_LEVELS), rng.randint(32, 400)) for _ in range(2)]
            try:
                body = _post(self._port, sent)
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.01)
                continue
            if not body.get("recorded"):
                self.unrecorded += 1
                continue
            for data, result in zip(sent, body["results"], strict=True):
                self.acknowledged[result["id"]] = result["verdict"]
                if result["verdict"] in (Verdict.NG, Verdict.REVIEW):
                    self.pictures[result["id"]] = digest_of(data)


def _post(port: int, sent: list[bytes]) -> dict[str, Any]:
    head = b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = b"".join(b"--" + _BOUNDARY + b"\r\n" + head + data + b"\r\n" for data in sent)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/inspect",
        body + b"--" + _BOUNDARY + b"--\r\n",
        {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def kill(
    model: Path, folder: Path, *, times: int, url: str | None = None, seed: int = 0
) -> tuple[bool, dict[str, Any]]:
    """Kill the service ``times`` times at random moments under load (SIGKILL).

    Holds where after each start every acknowledged inspection is there with its verdict and, where
    it is NG or REVIEW, its picture; every request has both its rows or none; and the counts agree
    with the rows.
    """
    rng = random.Random(seed)
    flags = ["--data-dir", str(folder), *(["--database-url", url] if url else [])]
    acknowledged: dict[str, str] = {}
    kept: dict[str, str] = {}
    faults: list[str] = []
    starts: list[float] = []
    unrecorded = 0
    for number in range(times + 1):
        begin = time.perf_counter()
        with running(model, *flags) as service:
            starts.append(time.perf_counter() - begin)
            faults += _check_over_http(service, dict(list(acknowledged.items())[-20:]))
            if number == times:
                break
            load = _Load(service.port, seed + 1000 * number)
            while not load.acknowledged and service.process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 1.0))
            service.process.kill()
            load.join()
        acknowledged |= load.acknowledged
        kept |= load.pictures
        unrecorded += load.unrecorded
        faults += _check(folder, url, load.acknowledged, load.pictures)
    rows = _check_all(folder, url, acknowledged, kept, faults)
    return not faults and not unrecorded, {
        "times": times,
        "database": "postgresql" if url else "sqlite",
        "acknowledged": len(acknowledged),
        "pictures": len(kept),
        "rows": rows,
        "unrecorded": unrecorded,
        "slowest_start_s": max(starts),
        "faults": faults[:20],
    }


def _check_over_http(service: Service, wanted: dict[str, str]) -> list[str]:
    faults = []
    for key, verdict in wanted.items():
        found = json.loads(service.get(f"/v1/inspections/{key}"))
        if found["verdict"] != verdict:
            faults.append(f"{key}: {found['verdict']} over HTTP, was {verdict}")
    return faults


def _check(
    folder: Path, url: str | None, acknowledged: dict[str, str], kept: dict[str, str]
) -> list[str]:
    """What is missing or wrong, by the store itself, while no service runs."""
    database = open_database(folder, url)
    records = open_records(database, folder)
    faults = []
    try:
        with database.reading() as connection:
            query = select(inspections.c.id, inspections.c.verdict)
            rows = dict(
                connection.execute(query.where(inspections.c.id >= min(acknowledged))).all()
            )
        for key, verdict in acknowledged.items():
            if rows.get(key) != verdict:
                faults.append(f"{key}: {rows.get(key)} in the store, was {verdict}")
        for key, digest in kept.items():
            if digest_of(records.picture(key)[0]) != digest:
                faults.append(f"{key}: another picture")
    finally:
        records.close()
        database.close()
    return faults


def _check_all(
    folder: Path, url: str | None, acknowledged: dict[str, str], kept: dict[str, str],
    faults: list[str],
) -> int:  # fmt: skip
    faults += _check(folder, url, acknowledged, kept)
    with closing(open_database(folder, url)) as database, database.reading() as connection:
        requests = Counter(connection.scalars(select(inspections.c.request_id)))
        faults += [f"request {key}: {n} rows of 2" for key, n in requests.items() if n != 2]
        sums = [select(func.sum(one.c.count)) for one in (tallies, hour_tallies)]
        counted = [connection.scalar(one) for one in sums]
    rows = sum(requests.values())
    if counted != [rows, rows]:
        faults.append(f"tallies of minutes and hours: {counted} for {rows} rows")
    if url is None:
        with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
            said = raw.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            faults.append(f"integrity: {said}")
    return rows
