"""Connections that the kernel has taken for a listening socket, and the service has not yet."""

import ctypes
import selectors
import socket
import struct
import sys
from contextlib import suppress

_SO_ATTACH_FILTER = 26
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06
_FLAGS_AT, _SYN, _ALL = 13, 0x02, 0xFFFFFFFF
# Operation, jump if true, jump if false, operand: a segment that opens a connection is dropped.
_DROP_SYN = (
    (_LOAD_BYTE, 0, 0, _FLAGS_AT),
    (_JUMP_IF_SET, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _ALL),
)


def take_no_more(listener: socket.socket) -> None:
    """Begin no connection any more; those begun are completed, and wait to be accepted.

    Closing resets what waits, and so does ``shutdown``: between the last accept and the close
    another client could connect. Linux alone can drop what opens a connection (a filter in the
    kernel, see its ``Documentation/networking/filter.rst``), so elsewhere this does nothing. A
    client that is dropped tries again after a second, and is refused if the socket is closed then.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *one) for one in _DROP_SYN)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(kept))
    with suppress(OSError):  # a sandbox without filters
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def is_empty(listener: socket.socket) -> bool:
    """Whether nothing waits to be accepted."""
    # The default, epoll, takes a file descriptor: where none is left, most is waiting.
    kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
    with kind() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return not selector.select(0)
