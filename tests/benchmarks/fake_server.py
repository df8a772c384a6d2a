"""A server that answers what a test tells it, in its own threads."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeServer(ThreadingHTTPServer):
    """Answers ``{"score": bytes of the body}``; ``status`` and ``delay_s`` go by the request."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status: Callable[[int], int] = lambda number: 200
        self.delay_s: Callable[[int], float] = lambda number: 0.0
        self.chunked = False
        self.bodies: list[bytes] = []
        self.heads: list[dict[str, str]] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return self.server_port

    def note(self, head: dict[str, str], body: bytes) -> int:
        """Keep a request; gives its number."""
        with self._lock:
            self.bodies.append(body)
            self.heads.append(head)
            return len(self.bodies) - 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = self.server.note(dict(self.headers), body)
        time.sleep(self.server.delay_s(number))
        with suppress(OSError):  # the client may have gone
            self._answer(number, body)

    def _answer(self, number: int, body: bytes) -> None:
        answer = json.dumps({"score": float(len(body))}).encode()
        self.send_response(self.server.status(number))
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (answer[:3], answer[3:], b""):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        else:
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running_fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
