"""Read an upload within its limits."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from twonines.errors import (
    ImageTypeError,
    InputError,
    SettingsError,
    TooLargeError,
    UploadTimeoutError,
)
from twonines.serving.room import Held
from twonines.settings import ServeSettings

FILE_FIELDS = ("file", "files")
REFERENCE_FIELD = "reference"
PLACE_FIELDS = ("line", "station", "part_id", "lot")
TEXT_FIELDS = (*PLACE_FIELDS, "reference_id", "model")
TIMEOUT_HEADER = "x-request-timeout-ms"
_MAX_TEXT = 200
_DIGITS = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Picture:
    """One uploaded file: its bytes, or the error that refused it."""

    name: str
    data: bytes = b""
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request brought; ``reference`` is that of all its pictures."""

    pictures: list[Picture]
    fields: dict[str, str] = field(default_factory=dict)
    reference: Picture | None = None


class _Parser(MultiPartParser):
    """Knows whether the form came to its end; the library drops an unfinished part silently."""

    ended = False

    def on_end(self) -> None:
        """The closing boundary was read."""
        self.ended = True
        super().on_end()

    async def parse(self) -> FormData:
        """Read the whole form, or raise ``MultiPartException``."""
        try:
            form = await super().parse()
            if not self.ended:
                raise MultiPartException("The closing boundary is missing.")
        except BaseException:  # also a timeout: the files may hold room on the disk
            for file in self._files_to_close_on_error:
                file.close()
            raise
        return form


def is_form(request: Request) -> bool:
    """Whether the body holds named parts."""
    return _kind(request).startswith("multipart/")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def read_timeout_s(request: Request, settings: ServeSettings) -> float:
    """Seconds that the client will wait; the service's own limit where that is less.

    Raises:
        SettingsError: the header is no number of milliseconds.
    """
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return settings.request_timeout_s
    if not _DIGITS.fullmatch(given) or not int(given):
        raise SettingsError(
            f"{TIMEOUT_HEADER}: must be whole milliseconds from 1 on, got {given!r}"
        )
    return min(settings.request_timeout_s, int(given) / 1000)


async def read_upload(request: Request, settings: ServeSettings, held: Held) -> Upload:
    """Read a multipart form or a raw picture.

    Args:
        request: what came.
        settings: the limits.
        held: takes the body's bytes before they are read; the caller gives them back.

    Raises:
        TooLargeError: the body, or the number of files, is above its limit.
        OverloadedError: the uploads in flight leave no room for the body.
        UploadTimeoutError: the body did not end in time.
        ImageTypeError: the content type is neither multipart nor a picture, or the body is
            compressed.
        SettingsError: the form is malformed or holds no file.
    """
    async with _in_time(settings):
        return await _read(request, settings, held)


async def read_bounded(request: Request, settings: ServeSettings, limit: int, held: Held) -> bytes:
    """The body as it is, of at most ``limit`` bytes.

    Raises:
        TooLargeError, OverloadedError, UploadTimeoutError, ImageTypeError: as
            :func:`read_upload`.
    """
    async with _in_time(settings):
        return b"".join([chunk async for chunk in _bounded(request, limit, held)])


@asynccontextmanager
async def _in_time(settings: ServeSettings) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            yield
    except TimeoutError as exc:
        raise UploadTimeoutError(
            f"body: must arrive within {settings.upload_timeout_s:g} s, it did not"
        ) from exc


async def _read(request: Request, settings: ServeSettings, held: Held) -> Upload:
    kind = _kind(request)
    whole = min(settings.max_body_bytes, settings.max_inflight_bytes)
    if kind == "multipart/form-data":
        return await _read_form(request, settings, _bounded(request, whole, held))
    if kind.startswith("image/") or kind == "application/octet-stream":
        body = _bounded(request, min(settings.max_bytes, whole), held)
        data = b"".join([chunk async for chunk in body])
        return Upload([Picture("body", data)], _read_query(request, ("reference_id",)))
    raise ImageTypeError(
        "content-type: must be multipart/form-data, image/* or application/octet-stream, "
        f"got {kind or 'none'!r}"
    )


def _read_query(request: Request, names: Sequence[str]) -> dict[str, str]:
    """What is said of the pictures beside the body: the place, and ``names``."""
    fields: dict[str, str] = {}
    for name in (*PLACE_FIELDS, *names):
        given = request.query_params.getlist(name)
        if len(given) > 1:
            raise SettingsError(f"{name}: must be given once, got {len(given)} in the query")
        if given:
            fields |= clean_text(name, given[0])
    return fields


async def _bounded(request: Request, limit: int, held: Held) -> AsyncGenerator[bytes, None]:
    """The body's chunks, refused as soon as they are more than ``limit`` bytes or find no room."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ImageTypeError(f"content-encoding: must be identity, got {encoding!r}")
    declared = request.headers.get("content-length", "")
    if _DIGITS.fullmatch(declared):
        if int(declared) > limit:
            raise TooLargeError(f"body: at most {limit} bytes are taken, got {declared}")
        held.grow_to(int(declared))
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise TooLargeError(f"body: at most {limit} bytes are taken, got more")
        held.grow_to(total)
        yield chunk


async def _read_form(
    request: Request, settings: ServeSettings, body: AsyncGenerator[bytes, None]
) -> Upload:
    try:
        parser = _Parser(
            Headers(scope=request.scope),
            body,
            max_files=settings.max_files + 1,  # and a reference
            max_fields=32,
        )
        form = await parser.parse()
    except MultiPartException as exc:
        if "too many files" in exc.message.lower():
            raise _too_many(settings) from exc
        raise SettingsError(f"form: must be multipart/form-data ({exc.message})") from exc
    except (KeyError, UnicodeError, ValueError, AssertionError) as exc:
        raise SettingsError("form: must be well-formed multipart/form-data") from exc
    try:
        return await _read_parts(form, settings, _read_query(request, ()))
    finally:
        await form.close()


async def _read_parts(form: FormData, settings: ServeSettings, fields: dict[str, str]) -> Upload:
    pictures: list[Picture] = []
    reference: Picture | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in (*FILE_FIELDS, REFERENCE_FIELD):
                raise SettingsError(
                    "form: files come in 'file' or 'files', and one in 'reference' for all of "
                    f"them, got {name!r}"
                )
            picture = await _read_file(value, settings.max_bytes)
            if name in FILE_FIELDS:
                pictures.append(picture)
            elif reference is None:
                reference = picture
            else:
                raise SettingsError("form: must hold at most one picture in 'reference', got more")
        elif name in TEXT_FIELDS:
            if name in fields and fields[name] != clean_text(name, value)[name]:
                raise SettingsError(
                    f"{name}: must be given once, got {fields[name]!r} and {value[:80]!r}"
                )
            fields |= clean_text(name, value)
        else:
            raise SettingsError(
                "form: fields are "
                f"{', '.join((*FILE_FIELDS, REFERENCE_FIELD, *TEXT_FIELDS))}, got {name!r}; "
                "a picture needs a file name"
            )
    if not pictures:
        raise SettingsError("form: must hold at least one picture in 'file' or 'files', got none")
    if len(pictures) > settings.max_files:
        raise _too_many(settings)
    return Upload(pictures, fields, reference)


def _too_many(settings: ServeSettings) -> TooLargeError:
    return TooLargeError(f"files: at most {settings.max_files} are taken at once")


def clean_text(name: str, value: str) -> dict[str, str]:
    """A field of text under its name, harmless in answers and records.

    Raises:
        SettingsError: it is too long, or a place with control characters.
    """
    if len(value) > _MAX_TEXT:
        raise SettingsError(f"{name}: at most {_MAX_TEXT} characters, got {len(value)}")
    if name in PLACE_FIELDS:
        # Blanks around it would make another part of it.
        value = value.strip()
        if not value.isprintable():
            raise SettingsError(f"{name}: must hold no control characters, got {value!r}")
    return {name: _safe(value)}


async def _read_file(value: UploadFile, limit: int) -> Picture:
    name = _safe(value.filename or "file")
    if value.size is not None and value.size > limit:
        error = TooLargeError(f"file: at most {limit} bytes are taken, got {value.size}")
        return Picture(name, error=error)
    return Picture(name, await value.read())


def _safe(text: str) -> str:
    """A client may name a charset that gives lone surrogates, which no answer can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
