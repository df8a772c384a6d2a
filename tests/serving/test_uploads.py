"""What uploads may cost: bytes in flight, and the time that reading takes."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from tests.images import png
from tests.serving.test_faults import Gate, ask, gate, service, serving
from twonines.errors import OverloadedError
from twonines.serving.room import UploadRoom

__all__ = ["gate"]


def send_slowly(
    client: TestClient,
    kind: bytes,
    body: bytes,
    *,
    declared: bytes = b"",
    path: str = "/v1/inspect",
    query: bytes = b"",
) -> int:
    """Send ``body`` and then nothing more; gives the answer's status."""
    sent: list[Message] = []
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": True}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", kind)]
    if declared:
        headers.append((b"content-length", declared))
    scope: Scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": b"",
        "query_string": query, "root_path": "", "scheme": "http", "http_version": "1.1",
        "headers": headers, "server": ("x", 1), "client": None, "app": client.app, "state": {},
    }  # fmt: skip

    async def call() -> None:
        await asyncio.wait_for(client.app(scope, receive, send), 10)

    asyncio.run(call())
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"image/png", b"half a pic"),
        (b"multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; "
         b'name="file"; filename="a"\r\n\r\n' + bytes(2_000_000)),
    ],
)  # fmt: skip
def test_upload_that_stalls_is_408_and_gives_its_room_back(
    tiny_model: Path, kind: bytes, body: bytes
) -> None:
    with serving(tiny_model, upload_timeout_s=0.5) as client:
        assert send_slowly(client, kind, body) == 408
        assert service(client).uploads.used == 0
        assert ask(client) == 200


@pytest.mark.parametrize("path", ["/v1/inspect", "/v2/models/tiny/infer"])
def test_a_compressed_body_is_refused_by_name(tiny_model: Path, path: str) -> None:
    headers = {"content-type": "image/png", "content-encoding": "gzip"}
    with serving(tiny_model) as client:
        answer = client.post(path, content=gzip.compress(png(0)), headers=headers)
    assert answer.status_code == 415 and "content-encoding: must be identity" in answer.text


def test_uploads_above_the_room_are_429_before_they_are_read(tiny_model: Path, gate: Gate) -> None:
    size = len(png(0))
    with (
        serving(tiny_model, max_inflight_bytes=3 * size) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        headers = {"content-type": "image/png"}

        def post() -> int:
            return client.post("/v1/inspect", content=png(0), headers=headers).status_code

        gate.open.clear()
        held = [pool.submit(post) for _ in range(2)]
        while service(client).uploads.used < 2 * size:
            threading.Event().wait(0.005)
        declared = str(2 * size).encode()
        assert send_slowly(client, b"image/png", b"", declared=declared) == 429
        assert send_slowly(client, b"image/png", bytes(2 * size)) == 429  # nothing declared
        answer = client.post("/v1/inspect", content=png(0) * 2, headers=headers)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "uploads in flight" in answer.json()["error"]
        gate.open.set()
        assert [h.result(10) for h in held] == [200, 200]
        assert service(client).uploads.used == 0
        assert post() == 200
        # What can never fit is told so.
        answer = client.post("/v1/inspect", content=png(0) * 4, headers=headers)
        assert answer.status_code == 413


def test_chunks_without_a_declared_length_are_counted(tiny_model: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield png(0)[:40]
        yield png(0)[40:]

    with serving(tiny_model, max_inflight_bytes=len(png(0))) as client:
        headers = {"content-type": "image/png"}
        answer = client.post("/v1/inspect", content=chunks(), headers=headers)
        assert answer.status_code == 200
        assert service(client).uploads.used == 0


def test_room_counts_what_each_request_holds() -> None:
    room = UploadRoom(10)
    with room.hold() as first, room.hold() as second:
        first.grow_to(6)
        first.grow_to(4)
        assert room.used == 6
        with pytest.raises(OverloadedError, match="no room for 5 more, they hold 6"):
            second.grow_to(5)
        second.grow_to(4)
        assert room.used == 10
    assert room.used == 0


def test_the_picture_of_a_finding_has_the_limits_of_uploads(
    tiny_model: Path, tmp_path: Path
) -> None:
    limits = {"upload_timeout_s": 0.5, "max_bytes": 1000, "max_inflight_bytes": 1500}
    with serving(tiny_model, data_dir=tmp_path, **limits) as client:
        assert ask(client) == 200
        shown = client.get("/v1/inspections").json()["inspections"][0]
        report = {"kind": "escape", "picture_digest": shown["picture_digest"]}
        path = f"/v1/findings/{client.post('/v1/findings', json=report).json()['id']}/pictures"

        def send(body: bytes, declared: bytes = b"") -> int:
            query = b"model=tiny"
            return send_slowly(
                client, b"image/png", body, declared=declared, path=path, query=query
            )

        assert send(b"half a pic") == 408
        assert send(b"", declared=b"1001") == 413  # before it is read
        assert send(bytes(1001)) == 413
        with service(client).uploads.hold() as other:
            other.grow_to(1000)
            assert send(b"", declared=b"900") == 429
        assert service(client).uploads.used == 0
        told = client.get("/openapi.json").json()["paths"]["/v1/findings/{finding_id}/pictures"]
        assert {"408", "413", "415", "429"} <= told["post"]["responses"].keys()
        answer = client.post(path, params={"model": "tiny"}, content=png(5))
        assert answer.status_code == 201
