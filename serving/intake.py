"""Read an upload within its limits."""

import asyncio
import re
from collections.abc import AsyncGenerator
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
TEXT_FIELDS = ("part_id", "lot", "station")
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
    """What a request brought."""

    pictures: list[Picture]
    fields: dict[str, str] = field(default_factory=dict)


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
        ImageTypeError: the content type is neither multipart nor a picture.
        SettingsError: the form is malformed or holds no file.
    """
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            return await _read(request, settings, held)
    except TimeoutError as exc:
        raise UploadTimeoutError(
            f"body: must arrive within {settings.upload_timeout_s:g} s, it did not"
        ) from exc


async def _read(request: Request, settings: ServeSettings, held: Held) -> Upload:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    whole = min(settings.max_body_bytes, settings.max_inflight_bytes)
    if kind == "multipart/form-data":
        return await _read_form(request, settings, _bounded(request, whole, held))
    if kind.startswith("image/") or kind == "application/octet-stream":
        body = _bounded(request, min(settings.max_bytes, whole), held)
        data = b"".join([chunk async for chunk in body])
        return Upload([Picture("body", data)])
    raise ImageTypeError(
        "content-type: must be multipart/form-data, image/* or application/octet-stream, "
        f"got {kind or 'none'!r}"
    )


async def _bounded(request: Request, limit: int, held: Held) -> AsyncGenerator[bytes, None]:
    """The body's chunks, refused as soon as they are more than ``limit`` bytes or find no room."""
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
            max_files=settings.max_files,
            max_fields=32,
        )
        form = await parser.parse()
    except MultiPartException as exc:
        if "too many files" in exc.message.lower():
            raise TooLargeError(f"files: at most {settings.max_files} are taken at once") from exc
        raise SettingsError(f"form: must be multipart/form-data ({exc.message})") from exc
    except (KeyError, UnicodeError, ValueError, AssertionError) as exc:
        raise SettingsError("form: must be well-formed multipart/form-data") from exc
    try:
        return await _read_parts(form, settings)
    finally:
        await form.close()


async def _read_parts(form: FormData, settings: ServeSettings) -> Upload:
    pictures: list[Picture] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILE_FIELDS:
                raise SettingsError(f"form: files come in 'file' or 'files', got {name!r}")
            pictures.append(await _read_file(value, settings.max_bytes))
        elif name in TEXT_FIELDS:
            if len(value) > _MAX_TEXT:
                raise SettingsError(f"{name}: at most {_MAX_TEXT} characters, got {len(value)}")
            fields[name] = _safe(value)
        else:
            raise SettingsError(
                f"form: fields are {', '.join((*FILE_FIELDS, *TEXT_FIELDS))}, got {name!r}; "
                "a picture needs a file name"
            )
    if not pictures:
        raise SettingsError("form: must hold at least one picture in 'file' or 'files', got none")
    return Upload(pictures, fields)


async def _read_file(value: UploadFile, limit: int) -> Picture:
    name = _safe(value.filename or "file")
    if value.size is not None and value.size > limit:
        error = TooLargeError(f"file: at most {limit} bytes are taken, got {value.size}")
        return Picture(name, error=error)
    return Picture(name, await value.read())


def _safe(text: str) -> str:
    """A client may name a charset that gives lone surrogates, which no answer can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
