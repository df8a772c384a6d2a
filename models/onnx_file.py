"""The bytes of an ONNX file, without the package ``onnx``: its graph's digest and its card.

Only the outermost message is read (onnx.proto3: ``ModelProto``). Its fields stand one after the
other, each with its number and length; ``metadata_props`` is field 14. Everything else is hashed
or copied as it is.
"""

import hashlib
from collections.abc import Iterator

from twonines.errors import ModelFileError
from twonines.models.card import CARD_KEY, ModelCard

_METADATA = 14
_KEY, _VALUE = 1, 2  # StringStringEntryProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def graph_digest(data: bytes) -> str:
    """SHA-256 over the model but its metadata: the same before and after a card is written.

    Raises:
        ModelFileError: the bytes are no protobuf message.
    """
    digest = hashlib.sha256()
    for number, start, _, end in _fields(data):
        if number != _METADATA:
            digest.update(memoryview(data)[start:end])
    return digest.hexdigest()


def replace_card(data: bytes, card: ModelCard) -> bytes:
    """The model with another card; the graph and the other metadata stay as they are.

    Raises:
        ModelFileError: the bytes are no protobuf message.
    """
    kept = [
        data[start:end]
        for number, start, body, end in _fields(data)
        if number != _METADATA or _entry_text(data[body:end], _KEY) != CARD_KEY
    ]
    entry = _field(_KEY, CARD_KEY.encode()) + _field(_VALUE, card.to_json().encode())
    return b"".join([*kept, _field(_METADATA, entry)])


def read_card(data: bytes, origin: str) -> ModelCard:
    """The card, without loading the graph.

    Raises:
        ModelFileError: the bytes are no model with a valid card; the message names ``origin``.
    """
    entries = [data[body:end] for number, _, body, end in _fields(data) if number == _METADATA]
    metadata = {_entry_text(entry, _KEY): _entry_text(entry, _VALUE) for entry in entries}
    return ModelCard.from_metadata(metadata, origin)


def _entry_text(entry: bytes, wanted: int) -> str:
    for number, _, body, end in _fields(entry):
        if number == wanted:
            return entry[body:end].decode("utf-8", "replace")
    return ""


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(number, start, start of the body, end) of every field."""
    place = 0
    while place < len(data):
        start = place
        tag, place = _read_varint(data, place)
        kind = tag & 7
        body = place
        if kind == _VARINT:
            _, place = _read_varint(data, place)
        elif kind == _BYTES:
            size, body = _read_varint(data, place)
            place = body + size
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ModelFileError(f"model: must be an ONNX file, got wire type {kind} in it")
        if place > len(data):
            raise ModelFileError("model: must be a whole ONNX file, got one that ends early")
        yield tag >> 3, start, body, place


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ModelFileError("model: must be a whole ONNX file, got one that ends early")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(body)) + body
