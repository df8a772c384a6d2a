"""Inference requests of the Open Inference Protocol v2, read within their limits.

JSON as https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol has it,
with the binary tensor data extension,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import asyncio
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twonines.errors import SettingsError, TooLargeError
from twonines.serving.intake import PLACE_FIELDS, Picture, Upload, clean_text, read_bounded
from twonines.serving.room import Held
from twonines.serving.v2_tensors import Tensor, read_pictures
from twonines.settings import ServeSettings

HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_JSON = 4 * 2**20
"""Nothing else runs while JSON is parsed: so much takes about 0.15 s. Binary has no such limit."""
_MAX_PARTS = 2**18
"""Lists and objects in it, which take longest: a picture of 512 x 512 nested to the pixel."""
_JSON_COST = 24
"""Bytes of memory that one byte of JSON may take: ``{}`` and a comma become 72."""
_INLINE = 16 * 2**10
"""Less JSON than this is read faster than a thread can be asked to."""
_DIGITS = re.compile(r"[0-9]{1,20}")
M = TypeVar("M", bound=BaseModel)
_Text = Annotated[str, Field(max_length=200)]


class _Part(BaseModel):
    # What is not known is refused: shared memory or a classification would change the answer.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _OutputParameters(_Part):
    binary_data: bool | None = None


class _Output(_Part):
    name: _Text
    parameters: _OutputParameters = _OutputParameters()


class _Parameters(_Part):
    binary_data_output: bool = False
    timeout: int | None = Field(default=None, ge=1)  # microseconds, as in Triton
    reference_id: _Text | None = None
    line: str | None = None
    station: str | None = None
    part_id: str | None = None
    lot: str | None = None


class _Body(_Part):
    id: _Text = ""
    inputs: list[Tensor] = Field(min_length=1, max_length=2)
    outputs: list[_Output] | None = Field(default=None, max_length=32)
    parameters: _Parameters = _Parameters()


@dataclass(frozen=True, slots=True)
class Call:
    """An inference request, understood.

    ``references`` are those of the pictures, in order, where they came along. ``outputs`` are the
    wanted names, and whether each goes out as binary; None for all of them, which then go out as
    ``binary`` says. ``timeout_s`` are the seconds that the client will wait.
    """

    id: str
    upload: Upload
    references: list[Picture] | None
    outputs: dict[str, bool] | None
    binary: bool
    timeout_s: float | None


async def read_call(request: Request, settings: ServeSettings, held: Held) -> Call:
    """Read an inference request.

    Args:
        request: what came.
        settings: the limits.
        held: takes the body's bytes, and what its JSON may become; the caller gives them back.

    Raises:
        SettingsError: an argument is missing, malformed, unknown or of the wrong type or shape.
        TooLargeError: too many bytes, pixels or pictures.
        ImageTypeError: the body is compressed.
        OverloadedError: the uploads in flight leave no room for it.
        UploadTimeoutError: it did not end in time.
    """
    most_json = min(_MAX_JSON, settings.max_inflight_bytes // (1 + _JSON_COST))
    length = _header_length(request, most_json)
    limit = min(settings.max_body_bytes, settings.max_inflight_bytes)
    if length == 0:  # a raw binary request: the body is the one picture
        body = await read_bounded(request, settings, min(limit, settings.max_bytes), held)
        return Call("", Upload([Picture("images[0]", body)]), None, None, False, None)
    if length is None:
        limit = min(limit, most_json)
    body = await read_bounded(request, settings, limit, held)
    size = len(body) if length is None else length
    if size > len(body):
        raise SettingsError(
            f"{HEADER_LENGTH}: must be at most the {len(body)} bytes sent, got {size}"
        )
    held.grow_to(len(body) + _JSON_COST * size)
    if size > _INLINE:
        return await asyncio.to_thread(parse, body, size, settings)
    return parse(body, size, settings)


def _header_length(request: Request, limit: int) -> int | None:
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not _DIGITS.fullmatch(given):
        raise SettingsError(f"{HEADER_LENGTH}: must be whole bytes, got {given[:80]!r}")
    if int(given) > limit:
        raise TooLargeError(f"{HEADER_LENGTH}: at most {limit} bytes are taken, got {given}")
    return int(given)


def parse(body: bytes, json_size: int, settings: ServeSettings) -> Call:
    """Understand a body whose first ``json_size`` bytes are JSON and the rest tensors.

    Raises:
        SettingsError, TooLargeError: as :func:`read_call`.
    """
    parts = body.count(b"[", 0, json_size) + body.count(b"{", 0, json_size)
    if parts > _MAX_PARTS:
        raise TooLargeError(
            f"body: its JSON may hold {_MAX_PARTS} lists and objects, got {parts}; send data flat "
            "or binary"
        )
    asked = validated(_Body, body[:json_size])
    names = [tensor.name for tensor in asked.inputs]
    if sorted(names) not in (["images"], ["images", "references"]):
        raise SettingsError(f"inputs: must be images, and references of some models, got {names}")
    found = dict(zip(names, read_pictures(asked.inputs, body, json_size, settings), strict=True))
    references = found.get("references")
    count = len(found["images"])
    if references is not None and len(references) != count:
        if len(references) != 1:
            raise SettingsError(
                f"references: must be one for all images or one for each of {count}, "
                f"got {len(references)}"
            )
        references *= count
    timeout = asked.parameters.timeout
    return Call(
        asked.id,
        Upload(found["images"], _fields(asked.parameters)),
        references,
        _outputs(asked),
        asked.parameters.binary_data_output,
        None if timeout is None else min(timeout, 10**12) / 1e6,
    )


def _fields(parameters: _Parameters) -> dict[str, str]:
    """What is said of the pictures beside them, as the fields of a form."""
    fields: dict[str, str] = {}
    for name in (*PLACE_FIELDS, "reference_id"):
        value = getattr(parameters, name)
        if value is not None:
            fields |= clean_text(name, value)
    return fields


def validated(kind: type[M], text: bytes) -> M:
    """JSON as a model of pydantic.

    Raises:
        SettingsError: it is none; the message names the argument.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise SettingsError(
            f"{where[:200]}: {first['msg'][:300]}, got {reprlib.repr(first['input'])}"
        ) from exc


def _outputs(asked: _Body) -> dict[str, bool] | None:
    if not asked.outputs:
        return None
    wanted: dict[str, bool] = {}
    for output in asked.outputs:
        if output.name in wanted:
            raise SettingsError(f"outputs: must be named once each, got {output.name!r} twice")
        binary = output.parameters.binary_data
        wanted[output.name] = asked.parameters.binary_data_output if binary is None else binary
    return wanted


def choose_outputs(call: Call, offered: Mapping[str, object]) -> dict[str, bool]:
    """The outputs to give, the verdict always among them, and whether each is binary.

    Raises:
        SettingsError: one is not offered.
    """
    if call.outputs is None:
        return dict.fromkeys(offered, call.binary)
    for name in call.outputs:
        if name not in offered:
            raise SettingsError(f"outputs: must be of {', '.join(offered)}, got {name!r}")
    return {"verdict": call.binary, **call.outputs}
