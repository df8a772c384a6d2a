"""Overload, deadlines, clients that go away, faults, and forms that are broken."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from tests.images import png
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.serving.app import Service, create_app
from twonines.settings import ServeSettings
from twonines.types import Image


class Gate:
    """Holds every run of the session while it is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.poison = False


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, run = Gate(), InspectionSession.run

    def gated(self: InspectionSession, images: Image, *rest: Any, **how: Any) -> Outputs:
        gate.open.wait(20)
        if gate.poison and (images[:, 0, 0, 0] == 13).any():
            raise RuntimeError("secret detail")
        return run(self, images, *rest, **how)

    monkeypatch.setattr(InspectionSession, "run", gated)
    yield gate
    gate.open.set()


@contextmanager
def serving(model: Path, **changes: object) -> Iterator[TestClient]:
    values = {"model": model, "execution_provider": "cpu", **changes}
    app = create_app(ServeSettings.model_validate(values))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def service(client: TestClient) -> Service:
    found = client.app.state.service  # type: ignore[attr-defined]
    assert isinstance(found, Service)
    return found


def ask(client: TestClient, value: int = 0) -> int:
    return client.post("/v1/inspect", files={"file": ("a.png", png(value))}).status_code


def test_full_queue_answers_429_and_when_to_return(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model, queue_size=4, max_files=8) as client, ThreadPoolExecutor(4) as pool:
        gate.open.clear()
        waiting = [pool.submit(ask, client) for _ in range(4)]
        batcher = service(client).batcher
        assert batcher
        while batcher.in_flight < 4:
            threading.Event().wait(0.005)
        answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "no model has room" in answer.json()["error"]
        assert client.get("/readyz").status_code == 200
        gate.open.set()
        assert [w.result(10) for w in waiting] == [200] * 4
        assert ask(client) == 200
        assert (
            'twonines_rejected_total{reason="OverloadedError"} 1.0' in client.get("/metrics").text
        )
        many = [("files", (f"{i}.png", png(0))) for i in range(5)]
        assert client.post("/v1/inspect", files=many).status_code == 413  # can never fit


def test_deadline_is_504_and_the_service_goes_on(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model, request_timeout_s=1) as client:
        gate.open.clear()
        assert ask(client) == 504
        gate.open.set()
        batcher = service(client).batcher
        assert batcher
        while batcher.in_flight:  # what is late still leaves the session first
            threading.Event().wait(0.005)
        assert ask(client) == 200


def test_poisoned_picture_fails_alone_without_its_details(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model) as client:
        gate.poison = True
        files = [("files", (f"{v}.png", png(v))) for v in (0, 13, 250)]
        answer = client.post("/v1/inspect", files=files)
        assert [r["verdict"] for r in answer.json()["results"]] == ["OK", "ERROR", "NG"]
        assert answer.json()["results"][1]["error"]["status"] == 500
        assert "secret" not in answer.text
        assert ask(client, 13) == 500


def test_value_that_is_not_finite_is_a_fault(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = InspectionSession.run

    def broken(self: InspectionSession, images: Image, *rest: Any, **how: Any) -> Outputs:
        found = run(self, images, *rest, **how)
        found.score[:] = np.nan
        return found

    monkeypatch.setattr(InspectionSession, "run", broken)
    with serving(tiny_model) as client:
        answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))})
        assert answer.status_code == 500
        assert answer.json()["results"][0]["verdict"] == "ERROR"


def test_unforeseen_fault_has_a_fixed_text(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model) as client:
        monkeypatch.setattr(Service, "inspect", lambda *_: 1 / 0)
        answer = client.post(
            "/v1/inspect", files={"file": ("a.png", png(0))}, headers={"x-request-id": "r7"}
        )
        assert (answer.status_code, answer.headers["x-request-id"]) == (500, "r7")
        assert answer.json()["request_id"] == "r7"
        assert "division" not in answer.text
        assert client.get("/nothing").json()["error"] == "Not Found"


def test_client_that_goes_away_costs_no_run(tiny_model: Path, gate: Gate) -> None:
    with serving(tiny_model, max_batch_size=1) as client:
        held = service(client)
        gate.open.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, client)
            assert held.batcher
            while not any(stage.inputs for stage in held.batcher._running):
                threading.Event().wait(0.005)
            sent: list[Message] = []
            messages: list[Message] = [
                {"type": "http.request", "body": png(0), "more_body": False},
                {"type": "http.disconnect"},
            ]

            async def receive() -> Message:
                return messages.pop(0)

            async def send(message: Message) -> None:
                sent.append(message)

            scope: Scope = {
                "type": "http", "method": "POST", "path": "/v1/inspect", "raw_path": b"",
                "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
                "headers": [(b"content-type", b"image/png")], "server": ("x", 1), "client": None,
                "app": client.app, "state": {},
            }  # fmt: skip
            application = client.app

            async def call() -> None:
                await application(scope, receive, send)

            asyncio.run(call())
            assert sent == []
            assert held.batcher.in_flight == 1
            gate.open.set()
            assert first.result(10) == 200
        assert "twonines_inference_total 1.0" in client.get("/metrics").text


def form(parts: list[tuple[str, bytes]], end: bytes = b"--x--\r\n") -> bytes:
    body = b""
    for name, data in parts:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + end


def test_form_that_stops_halfway_loses_no_picture_silently(tiny_model: Path) -> None:
    whole = form([("a.png", png(0)), ("b.png", png(0))])
    with serving(tiny_model) as client:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        assert client.post("/v1/inspect", content=whole, headers=headers).status_code == 200
        for cut in range(9, len(whole), 23):
            answer = client.post("/v1/inspect", content=whole[:-cut], headers=headers)
            assert answer.status_code == 400, cut


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "bogus", "zlib", "utf-16"])
def test_odd_charsets_and_names_do_no_harm(tiny_model: Path, charset: str) -> None:
    with serving(tiny_model) as client:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        answer = client.post(
            "/v1/inspect",
            content=form([("\\ud800+2AA-.png", png(0))]),
            headers={"content-type": kind},
        )
        assert answer.status_code < 500, answer.text


def test_300_broken_forms_never_fault_and_never_pass(tiny_model: Path) -> None:
    rng = np.random.default_rng(1)
    whole = form([("a.png", b"no picture"), ("b.png", png(0)[:60])])
    with serving(tiny_model) as client:
        for index in range(300):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 8)):
                data[place] = rng.integers(256)
            if rng.integers(2):
                data = data[: rng.integers(0, len(data))]
            answer = client.post(
                "/v1/inspect",
                content=bytes(data),
                headers={"content-type": "multipart/form-data; boundary=x"},
            )
            assert answer.status_code < 500, (index, answer.text)
            assert '"OK"' not in answer.text, index


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "x"])
def test_strange_content_length_is_no_fault(tiny_model: Path, length: str) -> None:
    with serving(tiny_model) as client:
        headers = {"content-type": "image/png", "content-length": length.encode("latin-1")}
        answer = client.post("/v1/inspect", content=png(0), headers=headers)  # type: ignore[arg-type]
        assert answer.status_code < 500
