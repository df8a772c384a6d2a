"""HTTP connections that cannot cost more than a request may: bounded heads, bounded time."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body. httptools has no limit, and joins what comes in pieces."""
MOST_WAITING = 16
"""Requests of a connection behind the one that is answered; each holds kilobytes."""
HEAD_S = 15.0
_SLACK_S = 5.0
_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose requests are too long, too many or too late, or that does not read.

    Uvicorn has a limit for none of it: one endless header would keep the event loop busy for
    seconds, requests that never end would take every file descriptor, and a client that sends
    requests and reads no answers would fill the memory.
    """

    head_s = HEAD_S
    body_s = 30.0
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_head, _head_bytes, _has_ended = True, 0, False
    _loose = 0

    @property
    def is_silent(self) -> bool:
        """Whether no request is being taken or answered, and another may come."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        return not is_busy and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(transport)
        self._end_after(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._end_after(None)
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head or a body, or the end of one and the beginning of the next."""
        if self._in_head and self._timer is None:  # the next request of a connection
            self._end_after(self.head_s)
        self._has_ended = False
        self._loose += len(data)
        super().data_received(data)
        if self._loose > MAX_HEAD and not self._in_head:
            self.transport.abort()  # what is no body: sizes of chunks, and headers behind them
        if self._in_head and not self._has_ended:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD and not self.transport.is_closing():
                self.transport.write(_REFUSED)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the rest of a head that came right behind the last request."""
        if self._timer is None:
            self._end_after(self.head_s)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._in_head, self._head_bytes, self._loose = False, 0, 0
        self._end_after(self.body_s)
        super().on_headers_complete()
        if len(self.pipeline) > MOST_WAITING:
            self.transport.abort()
            raise ConnectionAbortedError("too many requests wait")  # which ends the parser

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next head, as long as uvicorn keeps the connection."""
        self._in_head, self._has_ended = True, True
        self._end_after(None)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._stop_unread()
        self._unread = self.loop.call_later(self.body_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, since it has read."""
        self._stop_unread()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the protocol of websockets."""
        self._end_after(None)
        super().handle_websocket_upgrade()

    def _end_after(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def _has_earlier(self) -> bool:
        """Whether the request that is late has one before it that is still being answered."""
        if self._in_head:
            return self.cycle is not None and not self.cycle.response_complete
        return bool(self.pipeline)

    def _end(self) -> None:
        if self._has_earlier:  # whose answer must not be lost, nor mistaken for this one's
            self._end_after(self.head_s if self._in_head else self.body_s)
            return
        if not self._in_head and not self.cycle.response_started:
            self.transport.write(_LATE)  # a body that no route has answered for
        # Not closed in peace: who does not send may not read either.
        self.transport.abort()


def bounded_protocol(body_s: float) -> type[BoundedProtocol]:
    """The protocol for bodies that must come within ``body_s``, after which routes answer 408.

    It waits somewhat longer, and answers so itself for those that do not.
    """
    return type("_Bounded", (BoundedProtocol,), {"body_s": body_s + _SLACK_S})
