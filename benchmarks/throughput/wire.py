"""HTTP as the load generator speaks it: requests made beforehand, answers barely parsed."""

import json
import socket
from typing import Any

Form = str
"""How a server takes a picture: ``multipart``, ``raw`` or ``oip`` (Open Inference Protocol)."""
_BOUNDARY = "twonines-7f3b1c9e5d"


def build_request(
    host: str,
    path: str,
    data: bytes,
    content_type: str = "application/octet-stream",
    headers: str = "",
) -> bytes:
    """One complete keep-alive POST; ``headers`` are whole lines."""
    header = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return header.encode() + data


def build_upload(form: Form, field: str, host: str, path: str, data: bytes) -> bytes:
    """A request with one picture, as the server wants it.

    Args:
        form: ``multipart``, ``raw`` or ``oip``.
        field: name of the form field, or of the tensor.
        host: host and port.
        path: where to post.
        data: bytes of the picture's file.
    """
    if form == "raw":
        return build_request(host, path, data)
    if form == "oip":
        return _build_tensor(field, host, path, data)
    kind = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="part"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return build_request(host, path, body, f"multipart/form-data; boundary={_BOUNDARY}")


def _build_tensor(field: str, host: str, path: str, data: bytes) -> bytes:
    """A BYTES tensor (1, 1), whose one value is preceded by its length."""
    value = len(data).to_bytes(4, "little") + data
    tensor = {"name": field, "shape": [1, 1], "datatype": "BYTES",
              "parameters": {"binary_data_size": len(value)}}  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return build_request(host, path, head + value, headers=length)


def split_answer(kept: bytes) -> tuple[int, bytes, bytes] | None:
    """Status, body and what follows of the first answer in ``kept``; None where it is not whole.

    Raises:
        ConnectionError: the answer has neither a Content-Length nor chunks.
    """
    end = kept.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = kept[:end].lower()
    status = int(head.split(b" ", 2)[1])
    place = head.find(b"\r\ncontent-length:")
    if place >= 0:
        length = int(head[place + 17 :].split(b"\r\n", 1)[0])
        last = end + 4 + length
        return (status, kept[end + 4 : last], kept[last:]) if len(kept) >= last else None
    if b"chunked" not in head:
        raise ConnectionError("the server must send a Content-Length or chunks, got neither")
    chunks = _join_chunks(kept[end + 4 :])
    return None if chunks is None else (status, *chunks)


def _join_chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while (line := rest.find(b"\r\n")) >= 0:
        size = int(rest[:line].split(b";")[0], 16)
        if len(rest) < line + 2 + size + 2:
            return None
        body += rest[line + 2 : line + 2 + size]
        rest = rest[line + 2 + size + 2 :]
        if size == 0:
            return body, rest
    return None


def read_answer(connection: socket.socket, kept: bytes) -> tuple[int, bytes]:
    """Read one answer from a blocking connection; gives its status and what came after it."""
    while (answer := split_answer(kept)) is None:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the service closed a kept-alive connection")
        kept += data
    return answer[0], answer[2]


def find_score(body: bytes, place: tuple[str | int, ...]) -> float | None:
    """The score at ``place`` in a JSON answer; None where there is none."""
    try:
        found: Any = json.loads(body)
        for key in place:
            found = found[key]
        return float(found)
    except (ValueError, KeyError, IndexError, TypeError):
        return None
