"""The pictures in the input tensors of the Open Inference Protocol v2."""

import base64
import binascii
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from twonines.errors import SettingsError, TooLargeError
from twonines.models.formats.ppm import make_ppm
from twonines.serving.intake import Picture
from twonines.settings import ServeSettings

_Side = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    binary_data_size: int | None = Field(default=None, ge=0, le=2**62)


class Tensor(BaseModel):
    """One input as the JSON tells it; its values are there too, or in binary after the JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(max_length=200)]
    shape: list[_Side] = Field(min_length=1, max_length=4)
    datatype: Literal["UINT8", "BYTES"]
    parameters: _Parameters = _Parameters()
    data: list[Any] | None = None


def read_pictures(
    tensors: Sequence[Tensor], body: bytes, start: int, settings: ServeSettings
) -> list[list[Picture]]:
    """The pictures of every tensor, as if they had been uploaded.

    ``UINT8`` (N, H, W, 3) are decoded pictures, RGB, of any one size, and become PPM. ``BYTES``
    (N,) or (N, 1) are encoded ones; in JSON, base64.

    Args:
        tensors: as the JSON tells them.
        body: the whole body.
        start: where its binary part begins.
        settings: the limits.

    Raises:
        SettingsError: a shape, a size or a value is wrong.
        TooLargeError: too many pictures or pixels.
    """
    sizes = [tensor.parameters.binary_data_size or 0 for tensor in tensors]
    if start + sum(sizes) != len(body):
        raise SettingsError(
            f"binary_data_size: must add up to the {len(body) - start} bytes after the JSON, "
            f"got {sum(sizes)}"
        )
    found = []
    for tensor, size in zip(tensors, sizes, strict=True):
        _check(tensor, settings)
        part = memoryview(body)[start : start + size]
        read = _read_pixels if tensor.datatype == "UINT8" else _read_encoded
        found.append(read(tensor, part, settings))
        start += size
    return found


def _check(tensor: Tensor, settings: ServeSettings) -> None:
    shape, name = tensor.shape, tensor.name
    if (tensor.data is None) == (tensor.parameters.binary_data_size is None):
        raise SettingsError(f"{name}: must have either data or binary_data_size")
    if tensor.datatype == "UINT8":
        fits = len(shape) == 4 and shape[3] == 3 and min(shape) > 0
        wanted = "(N, H, W, 3) with no side 0 for UINT8"
    else:
        fits = shape[0] > 0 and (len(shape) == 1 or shape[1:] == [1])
        wanted = "(N,) or (N, 1) with N from 1 on for BYTES"
    if not fits:
        raise SettingsError(f"{name}: shape must be {wanted}, got {shape}")
    if shape[0] > settings.max_files:
        raise TooLargeError(
            f"{name}: at most {settings.max_files} pictures are taken at once, got {shape[0]}"
        )
    if tensor.datatype == "UINT8" and shape[1] * shape[2] > settings.max_pixels:
        raise TooLargeError(
            f"{name}: at most {settings.max_pixels} pixels are taken, got {shape[2]} x {shape[1]}"
        )


def _read_pixels(tensor: Tensor, part: memoryview, _: ServeSettings) -> list[Picture]:
    if tensor.data is not None:
        part = memoryview(_bytes_of(tensor, _flatten(tensor, tensor.data)))
    count, height, width, channels = tensor.shape
    each = height * width * channels
    if len(part) != count * each:
        raise SettingsError(
            f"{tensor.name}: shape {tensor.shape} must have {count * each} values, got {len(part)}"
        )
    return [
        Picture(
            f"{tensor.name}[{index}]",
            make_ppm(part[index * each : (index + 1) * each], height, width),
        )
        for index in range(count)
    ]


def _bytes_of(tensor: Tensor, values: list[Any]) -> bytes:
    try:
        if set(map(type, values)) <= {int}:  # true would else be taken as 1
            return bytes(values)
    except ValueError:  # out of range
        pass
    raise SettingsError(f"{tensor.name}: data must be whole numbers from 0 to 255 for UINT8")


def _read_encoded(tensor: Tensor, part: memoryview, settings: ServeSettings) -> list[Picture]:
    if tensor.data is None:
        pieces = _split(tensor, part)
    else:
        pieces = [_decode_text(tensor, value) for value in _flatten(tensor, tensor.data)]
        if len(pieces) != tensor.shape[0]:
            raise SettingsError(
                f"{tensor.name}: shape {tensor.shape} must have {tensor.shape[0]} values, "
                f"got {len(pieces)}"
            )
    return [
        _picture(f"{tensor.name}[{index}]", piece, settings.max_bytes)
        for index, piece in enumerate(pieces)
    ]


def _picture(name: str, piece: memoryview, limit: int) -> Picture:
    if len(piece) > limit:
        error = TooLargeError(f"{name}: at most {limit} bytes are taken, got {len(piece)}")
        return Picture(name, error=error)
    return Picture(name, bytes(piece))


def _split(tensor: Tensor, part: memoryview) -> list[memoryview]:
    """Each element is its length, four bytes little-endian, and then its bytes."""
    pieces, place = [], 0
    for index in range(tensor.shape[0]):
        end = place + 4
        size = struct.unpack_from("<I", part, place)[0] if end <= len(part) else 0
        if end + size > len(part):
            raise SettingsError(
                f"{tensor.name}: must hold {tensor.shape[0]} elements, got {len(part)} bytes, "
                f"which end within element {index}"
            )
        pieces.append(part[end : end + size])
        place = end + size
    if place != len(part):
        raise SettingsError(
            f"{tensor.name}: must end with element {tensor.shape[0] - 1}, got "
            f"{len(part) - place} bytes more"
        )
    return pieces


def _decode_text(tensor: Tensor, value: object) -> memoryview:
    try:
        if isinstance(value, str):
            return memoryview(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        pass
    raise SettingsError(f"{tensor.name}: data must be strings of base64 for BYTES")


def _flatten(tensor: Tensor, data: list[Any]) -> list[Any]:
    """The values in row-major order; the protocol lets them come flat or nested as the shape."""
    if not data or not isinstance(data[0], list):
        return data
    sides, level = list(tensor.shape), data
    fits = len(level) == sides[0]
    for side in sides[1:]:
        fits = fits and all(isinstance(row, list) and len(row) == side for row in level)
        if not fits:
            raise SettingsError(f"{tensor.name}: data must be flat or nested as {tensor.shape}")
        level = list(chain.from_iterable(level))
    return level
