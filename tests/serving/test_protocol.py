"""Connections: long heads, slow heads and slow bodies end, all others go on."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tests.serving.test_server import free_port
from twonines.serving.protocol import (
    MAX_HEAD,
    MOST_WAITING,
    BoundedProtocol,
    bounded_protocol,
)

PATIENCE_S = 60.0
LARGE = 64 * 2**20


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    """Answers how many bytes the body had."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    text = str(length).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def answer_late(scope: Any, receive: Any, send: Any) -> None:
    """Answers after longer than the protocol waits for a head or a body."""
    await asyncio.sleep(2.5)
    await echo_length(scope, receive, send)


async def answer_much(scope: Any, receive: Any, send: Any) -> None:
    """Answers more than the buffers of both sides hold."""
    headers = [(b"content-length", str(LARGE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(LARGE // 2**16):
        await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
    await send({"type": "http.response.body"})


class Hasty(BoundedProtocol):
    head_s, body_s = 1.0, 1.0


def run(protocol: type[asyncio.Protocol], app: Any = echo_length) -> Iterator[int]:
    port = free_port()
    config = uvicorn.Config(
        app, port=port, http=protocol, log_config=None, lifespan="off",
        timeout_keep_alive=60,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def patient() -> Iterator[int]:
    yield from run(bounded_protocol(PATIENCE_S))


@pytest.fixture(scope="module")
def hasty() -> Iterator[int]:
    yield from run(Hasty)


@pytest.fixture(scope="module")
def slow() -> Iterator[int]:
    yield from run(Hasty, answer_late)


@pytest.fixture(scope="module")
def large() -> Iterator[int]:
    yield from run(Hasty, answer_much)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def read_until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def test_an_endless_head_is_refused(patient: int) -> None:
    with connect(patient) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
        try:
            for _ in range(3 * MAX_HEAD // 1024):
                connection.sendall(b"a" * 1024)
        except (BrokenPipeError, ConnectionResetError):
            pass
        # Its answer may be lost, since what was still on its way resets the connection.
        assert read_until_closed(connection)[:12] in (b"HTTP/1.1 431", b"")


def test_many_small_headers_are_one_long_head(patient: int) -> None:
    with connect(patient) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        line = b"X-A: " + b"a" * 200 + b"\r\n"
        connection.sendall(line * (MAX_HEAD // len(line) - 1))
        time.sleep(0.2)
        connection.sendall(line * 3)
        assert read_until_closed(connection).startswith(b"HTTP/1.1 431")


def test_large_bodies_and_the_next_requests_pass(patient: int) -> None:
    """Also where a body ends, or a head begins, in the midst of what comes at once."""
    body = bytes(4 * MAX_HEAD)
    one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with connect(patient) as connection:
        for _ in range(3):
            connection.sendall(one)
            answer = connection.recv(65536)
            while not answer.endswith(str(len(body)).encode()):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(one + one + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answers = read_until_closed(connection)
        assert answers.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("sent", [
    b"",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1GET / HTTP/1.1\r\n",
])  # fmt: skip
def test_what_never_comes_is_not_waited_for(hasty: int, sent: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(sent)
        answer = read_until_closed(connection)
        assert answer.count(b"HTTP/1.1 200") == (b"1GET" in sent)
        # Whose body does not come is told, even where the route would wait for it for ever.
        assert answer.count(b"HTTP/1.1 408") == (b"\r\n12" in sent)


def test_a_slow_drip_does_not_keep_it_open(hasty: int) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(600):
                connection.sendall(b"a")
                time.sleep(0.1)


def test_a_connection_rests_between_requests(hasty: int) -> None:
    with connect(hasty) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(1.5)


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"


@pytest.mark.parametrize("behind", [POST[:-1], b"GET / HTTP/1.1\r\n"])
def test_what_is_late_behind_a_request_takes_no_answer_from_it(slow: int, behind: bytes) -> None:
    with connect(slow) as connection:
        connection.sendall(POST + behind)
        answer = read_until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 408") == (behind in POST)


def test_requests_without_end_do_not_pile_up(slow: int) -> None:
    with connect(slow) as connection:
        connection.sendall(POST * 2 * MOST_WAITING)
        assert read_until_closed(connection) == b""


def test_as_many_as_may_wait_are_answered(patient: int) -> None:
    with connect(patient) as connection:
        last = POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        connection.sendall(POST * MOST_WAITING + last)
        assert read_until_closed(connection).count(b"HTTP/1.1 200") == MOST_WAITING + 1


def test_who_reads_nothing_is_let_go(large: int) -> None:
    with connect(large) as connection:
        connection.sendall(POST)
        time.sleep(2.5)
        answer = read_until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200") and len(answer) < LARGE


@pytest.mark.parametrize("one", [b"X-A: b\r\n", b"X-A: " + b"b" * 1000])
def test_endless_headers_behind_a_body_are_cut(patient: int, one: bytes) -> None:
    with connect(patient) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"1\r\na\r\n0\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(4000):
                connection.sendall(one * 100)


def test_a_body_in_many_pieces_passes(patient: int) -> None:
    with connect(patient) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n")
        connection.sendall(b"Connection: close\r\n\r\n" + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
        assert read_until_closed(connection).endswith(b"50000")
