"""The service ends: whoever has connected is answered, and who says nothing holds nobody up."""

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from tests.service import PATIENCE_S, wait_for
from tests.serving.test_protocol import read_until_closed
from twonines.serving import backlog, server
from twonines.serving.app import create_app
from twonines.serving.protocol import bounded_protocol
from twonines.serving.server import DrainingServer, listen
from twonines.settings import ServeSettings

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Known(DrainingServer):
    """Its loop can be reached."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


class Running:
    """A server that ends by signals given to it."""

    def __init__(self, model: Path, loop: str) -> None:
        app = create_app(ServeSettings(model=model))
        protocol = bounded_protocol(PATIENCE_S)
        config = uvicorn.Config(app, http=protocol, log_config=None, loop=loop)
        self.server = Known(config, app, 0.0)
        self.listener = listen("127.0.0.1", 0)
        self.address = self.listener.getsockname()
        self._thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self._thread.start()
        wait_for(lambda: self.server.started)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The loop does nothing meanwhile, so that it accepts nothing."""
        is_held, may_go_on = threading.Event(), threading.Event()

        def hold() -> None:
            is_held.set()
            may_go_on.wait(PATIENCE_S)

        self.server.loop.call_soon_threadsafe(hold)
        assert is_held.wait(PATIENCE_S)
        try:
            yield
        finally:
            may_go_on.set()

    def connect(self, sends: bytes = b"") -> socket.socket:
        connection = socket.create_connection(self.address, PATIENCE_S)
        connection.sendall(sends)
        return connection

    def signal(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)

    def wait_for_end(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def has(self, connections: int) -> bool:
        return len(self.server.server_state.connections) == connections

    def takes_no_more(self) -> bool:
        return self.listener.fileno() == -1


@pytest.fixture(params=["auto", "asyncio"])
def running(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Running]:
    one = Running(tiny_model, request.param)
    yield one
    one.signal()
    one.wait_for_end()


def is_answered(connection: socket.socket) -> bool:
    with connection:
        answer = read_until_closed(connection)
    return answer.startswith(b"HTTP/1.1 200") and b"\r\nconnection: close\r\n" in answer.lower()


def test_what_waits_to_be_accepted_is_answered(running: Running) -> None:
    with running.held():
        waiting = [running.connect(REQUEST) for _ in range(30)]
        running.signal()
        time.sleep(0.3)  # so that the end is due when the loop goes on
    assert [is_answered(one) for one in waiting] == [True] * 30
    running.wait_for_end()


def test_a_request_is_answered_that_comes_after_the_end_began(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SILENCE_S", PATIENCE_S)
    with running.connect() as new, running.connect(REQUEST) as kept:
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += kept.recv(65536)
        wait_for(lambda: running.has(2))
        running.signal()
        wait_for(running.takes_no_more)
        for connection in (new, kept):
            connection.sendall(REQUEST)
            assert is_answered(connection)
    running.wait_for_end()


def test_who_says_nothing_does_not_hold_the_end(running: Running) -> None:
    with running.connect() as silent:
        wait_for(lambda: running.has(1))
        running.signal()
        running.wait_for_end()
        assert silent.recv(1) == b""


def test_a_second_signal_does_not_wait_for_the_silent(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SILENCE_S", 10 * PATIENCE_S)
    with running.connect():
        wait_for(lambda: running.has(1))
        running.signal()
        wait_for(running.takes_no_more)
        running.signal()
        running.wait_for_end()


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is of Linux")
def test_no_connection_begins_while_those_that_wait_are_taken() -> None:
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        assert backlog.is_empty(listener)
        with socket.create_connection(address, PATIENCE_S) as early:
            backlog.take_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, 0.5)
            early.sendall(b"!")
            assert not backlog.is_empty(listener)
            taken, _ = listener.accept()
            with taken:
                assert taken.recv(1) == b"!" and backlog.is_empty(listener)
