"""Download one file over HTTP, going on where an interrupted try stopped."""

import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from pathlib import Path

from twonines.errors import FetchError

TIMEOUT_S = 60
_BLOCK = 1 << 18


def download(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """Fill ``part``; bytes that it holds from an earlier try of the same file are kept.

    ``progress(done, whole)`` counts bytes; ``whole`` is 0 where the server does not say.

    Raises:
        FetchError: the server refuses, or the connection breaks; what came is kept.
    """
    done = part.stat().st_size if part.is_file() else 0
    tag = part.with_name(f"{part.name}.tag")
    request = urllib.request.Request(url, headers={"User-Agent": "twonines"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        # a file that has changed since comes whole
        if tag.is_file():
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if response.status != 206:
                done = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                raise FetchError(f"{url}: the server sent another part than asked for")
            whole = _whole(response.headers, done)
            _remember(response.headers, tag)
            with part.open("ab" if done else "wb") as file:
                while block := response.read(_BLOCK):
                    file.write(block)
                    done += len(block)
                    progress(done, whole)
    except urllib.error.HTTPError as exc:
        if exc.code != 416 or exc.headers.get("Content-Range") != f"bytes */{done}":
            raise FetchError(f"{url}: the server answered {exc.code} {exc.reason}") from exc
        whole = done  # all of it came in an earlier try
    except (OSError, HTTPException) as exc:
        raise FetchError(f"{url}: {exc}; run this again to go on after {done} bytes") from exc
    if whole and done != whole:
        raise FetchError(f"{url}: broke off at {done} of {whole} bytes; run this again to go on")
    tag.unlink(missing_ok=True)


def _whole(headers: Message, done: int) -> int:
    length = headers.get("Content-Length")
    return done + int(length) if length and length.isdigit() else 0


def _remember(headers: Message, tag: Path) -> None:
    """Keep what names this version of the file; weak ETags cannot be resumed with."""
    value = headers.get("ETag") or ""
    value = headers.get("Last-Modified") or "" if value.startswith("W/") or not value else value
    if value:
        tag.write_text(value, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)
