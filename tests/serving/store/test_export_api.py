"""Exports over HTTP: what comes, what is refused, and what is left behind."""

import asyncio
import csv
import io
import json
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from tests.images import png
from tests.serving.store.test_export import fill
from tests.serving.test_faults import service, serving
from twonines.datasets.registry import load_dataset
from twonines.errors import StoreError
from twonines.serving.store import coco, export, query
from twonines.serving.store.pictures import digest_of
from twonines.serving.store.records import Records

PATH = "/v1/inspections/export"


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serving(tiny_model, data_dir=tmp_path / "data") as opened:
        yield opened


def records_of(client: TestClient) -> Records:
    records = service(client).records
    assert records
    return records


def test_tables_come_as_files_with_the_filters_of_the_search(client: TestClient) -> None:
    ids = fill(records_of(client))
    answer = client.get(PATH, params={"format": "csv"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="inspections.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["id"] for row in rows] == ids and rows[0]["part_id"] == "'=1+1"
    answer = client.get(PATH, params={"format": "parquet", "lot": "A", "verdict": "NG"})
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"] == 'attachment; filename="inspections.parquet"'
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist()
    assert [row["id"] for row in table] == ids[:1] and table[0]["part_id"] == "=1+1"
    for kind in ("csv", "parquet", "coco"):
        assert client.get(PATH, params={"format": kind, "lot": "none"}).status_code == 200


def test_coco_comes_as_an_archive_that_is_a_data_set(client: TestClient, tmp_path: Path) -> None:
    ng, ok, *_ = fill(records_of(client))
    records_of(client).add_review(ng, reviewer="ann", verdict="NG", defect_class="scratch")
    answer = client.get(PATH, params={"format": "coco"})
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="inspections-coco.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "set")
    (found,) = load_dataset("coco", tmp_path / "set").records
    assert (found.path.stem, found.defect_class) == (digest_of(png(250)), "scratch")
    answer = client.get(PATH, params={"format": "coco", "all_labels": True})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        told = json.loads(archive.read("annotations/records.json"))
    # The last one's picture is not kept.
    assert len(told["images"]) == 2 and told["info"]["left_out"] == 1


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("format", {}),
        ("format", {"format": "xlsx"}),
        ("verdict", {"format": "csv", "verdict": "MAYBE"}),
        ("since", {"format": "csv", "since": "yesterday"}),
        ("until", {"format": "coco", "until": "1900-01-01T00:00:00Z"}),
        ("part", {"format": "csv", "part": "A17"}),
        ("limit", {"format": "csv", "limit": "5"}),
        ("all_labels", {"format": "csv", "all_labels": "true"}),
    ],
)
def test_a_bad_argument_is_422_and_named(
    client: TestClient, name: str, params: dict[str, str]
) -> None:
    answer = client.get(PATH, params=params)
    assert answer.status_code == 422 and name in answer.json()["error"]


def test_a_store_that_fails_at_once_is_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreError("database: disk I/O error")

    monkeypatch.setattr(Records, "query", broken)
    for kind in ("csv", "parquet", "coco"):
        answer = client.get(PATH, params={"format": kind})
        assert answer.status_code == 503 and "I/O" in answer.json()["error"], kind
        assert "content-disposition" not in answer.headers


def test_without_a_data_directory_nothing_is_exported(tiny_model: Path) -> None:
    with serving(tiny_model) as client:
        answer = client.get(PATH, params={"format": "csv"})
        assert answer.status_code == 503 and "--data-dir" in answer.json()["error"]


def test_a_long_search_ends_when_nobody_waits(
    client: TestClient, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(records_of(client))  # nobody has decided: there is nothing to send
    monkeypatch.setattr(coco, "_PATIENCE", 1)
    seen: list[str] = []
    asked = Records.findings_of

    def noting(self: Records, key: str) -> Any:
        seen.append(key)
        return asked(self, key)

    monkeypatch.setattr(Records, "findings_of", noting)
    ask(client, "coco", most=1)
    assert len(seen) < len(ids)
    assert len(opened) == 2 and all(one.closed for one in opened)


def ask(client: TestClient, kind: str, most: int | None = None) -> list[Message]:
    """What is sent to a client that goes away after ``most`` messages."""
    sent: list[Message] = []
    gone = asyncio.Event()
    scope: Scope = {
        "type": "http", "method": "GET", "path": PATH, "raw_path": b"",
        "query_string": f"format={kind}".encode(), "root_path": "", "scheme": "http",
        "http_version": "1.1", "headers": [], "server": ("x", 1), "client": None,
        "app": client.app, "state": {},
    }  # fmt: skip
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == most:
            gone.set()
            await asyncio.sleep(0)

    application: Any = client.app
    asyncio.run(application(scope, receive, send))
    return sent


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every temporary file of an export."""
    found: list[Any] = []
    make = tempfile.TemporaryFile

    def noting(*args: Any, **named: Any) -> Any:
        found.append(make(*args, **named))
        return found[-1]

    monkeypatch.setattr(coco, "TemporaryFile", noting)
    return found


@pytest.mark.parametrize("kind", ["csv", "parquet", "coco"])
def test_a_client_that_leaves_ends_the_export_and_its_files(
    client: TestClient, kind: str, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(records_of(client))
    for key in ids[:3]:
        records_of(client).add_review(key, reviewer="ann", verdict="NG")
    monkeypatch.setattr(query, "MAX_LIMIT", 1)
    monkeypatch.setattr(export, "_ROWS", 1)
    whole = ask(client, kind)
    assert whole[-1]["more_body"] is False
    assert sum("body" in one for one in whole) > 3, "it comes piece by piece"
    left = ask(client, kind, most=2)
    assert len(left) < len(whole)
    assert len(opened) == (4 if kind == "coco" else 0)
    assert all(one.closed for one in opened)


@pytest.mark.parametrize("kind", ["csv", "parquet", "coco"])
def test_a_store_that_fails_later_leaves_no_whole_download(
    client: TestClient, kind: str, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in fill(records_of(client))[:3]:
        records_of(client).add_review(key, reviewer="ann", verdict="NG")
    monkeypatch.setattr(query, "MAX_LIMIT", 1)
    monkeypatch.setattr(export, "_ROWS", 1)
    asked, pages = Records.query, iter(range(9))
    threads = set()

    def failing(self: Records, *args: Any, **named: Any) -> Any:
        threads.add(threading.current_thread())
        if next(pages) == 2:
            raise StoreError("database: disk I/O error")
        return asked(self, *args, **named)

    monkeypatch.setattr(Records, "query", failing)
    sent = ask(client, kind)
    assert sent[0]["status"] == 200
    assert sent[-1].get("more_body") is True, "the server cuts the connection, as it must"
    assert all(one.closed for one in opened)
    assert threading.main_thread() not in threads, "the event loop waits for no database"
