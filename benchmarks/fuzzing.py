"""Uploads for the fuzzing show: good pictures, traps that are good, and malformed files."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageOps

from twonines.errors import ImageError
from twonines.models.image import decode
from twonines.models.inspector import Inspector
from twonines.types import Inspection

GOOD_LEVELS = tuple(range(0, 256, 15))
_BAD_SHARE = 0.1
_SAME = 1e-4
"""Batches of other sizes change the last bits of a score."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, its kind, and whether it must be inspected; None where its bytes decide."""

    kind: str
    data: bytes
    is_good: bool | None


@dataclass(frozen=True, slots=True)
class Said:
    """What the service said of one file."""

    status: int
    verdict: str
    score: float | None


def picture(level: int, side: int = 320) -> bytes:
    """A plain JPEG with some noise, (side, side)."""
    return _saved(_noisy(level, side), "JPEG")


def _noisy(level: int, side: int = 96) -> Image.Image:
    noise = np.random.default_rng(level).integers(0, 6, (side, side, 3))
    return Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _turned(rng: random.Random) -> bytes:
    """A wide JPEG whose EXIF says that it is a high one."""
    image = _noisy(rng.choice(GOOD_LEVELS)).crop((0, 0, 96, 48))
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(1, 9)
    return _saved(image, "JPEG", exif=exif)


def _deep(rng: random.Random) -> bytes:
    grey = np.full((48, 48), 257 * rng.choice(GOOD_LEVELS), np.uint16)
    return _saved(Image.fromarray(grey), rng.choice(["PNG", "TIFF"]))


def _cmyk(rng: random.Random) -> bytes:
    return _saved(_noisy(rng.choice(GOOD_LEVELS)).convert("CMYK"), "JPEG", quality=95)


def _progressive(rng: random.Random) -> bytes:
    return _saved(_noisy(rng.choice(GOOD_LEVELS)), "JPEG", progressive=True)


_GOOD: dict[str, Callable[[random.Random], bytes]] = {
    "jpeg": lambda rng: picture(rng.choice(GOOD_LEVELS), 96),
    "progressive": _progressive,
    "png": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)), "PNG"),
    "exif": _turned,
    "16-bit": _deep,
    "cmyk": _cmyk,
    "alpha": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)).convert("RGBA"), "PNG"),
    "bmp": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)), "BMP"),
    "tiff": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)), "TIFF"),
    "webp": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)), "WEBP"),
    "gif": lambda rng: _saved(_noisy(rng.choice(GOOD_LEVELS)), "GIF"),
}


@cache
def bomb() -> bytes:
    """A small PNG of 64 million pixels."""
    return _saved(Image.new("1", (8_000, 8_000)), "PNG")


def _huge_header(rng: random.Random) -> bytes:
    """A PNG that announces more pixels than a picture may have, and brings none."""
    side = rng.randrange(10_000, 2**31)
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


def _truncated(rng: random.Random) -> bytes:
    good = picture(rng.choice(GOOD_LEVELS), 96)
    return good[: rng.randrange(1, len(good) - 2)]


def _lacking(rng: random.Random) -> bytes:
    """A progressive JPEG without its last scan, ended properly."""
    good = _progressive(rng)
    return good[: good.rindex(b"\xff\xda")] + b"\xff\xd9"


def _joined(rng: random.Random) -> bytes:
    kinds = rng.choices(["JPEG", "PNG", "BMP", "WEBP"], k=2)
    return b"".join(_saved(_noisy(rng.choice(GOOD_LEVELS)), kind) for kind in kinds)


def _torn(rng: random.Random) -> bytes:
    """A file whose writing broke off: its rest is zero."""
    kind, options = rng.choice([("WEBP", {}), ("TIFF", {"compression": "tiff_adobe_deflate"})])
    data = _saved(_noisy(rng.choice(GOOD_LEVELS)), kind, **options)
    kept = rng.randrange(len(data) // 10, len(data) // 2)
    return data[:kept] + bytes(len(data) // 4) + data[kept + len(data) // 4 :]


def _animated(rng: random.Random) -> bytes:
    image = _noisy(rng.choice(GOOD_LEVELS))
    return _saved(image, "GIF", save_all=True, append_images=[ImageOps.invert(image)])


def _unwritten(rng: random.Random) -> bytes:
    """A TIFF whose only strip was never written: its offset and its length are 0."""
    data = bytearray(_saved(_noisy(rng.choice(GOOD_LEVELS)), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    for place in range(start + 2, start + 2 + 12 * tags, 12):
        if struct.unpack_from("<H", data, place)[0] in (273, 279):
            data[place + 8 : place + 12] = bytes(4)
    return bytes(data)


_BAD: dict[str, Callable[[random.Random], bytes]] = {
    "truncated": _truncated,
    "lacking": _lacking,
    "joined": _joined,
    "empty": lambda rng: b"",
    "type": lambda rng: rng.choice([b"%PDF-1.7\n", b"PK\x03\x04", b"<svg/>", rng.randbytes(300)]),
    "bomb": lambda rng: bomb(),
    "animated": _animated,
    "float": lambda rng: _saved(Image.new("F", (9, 9)), "TIFF"),
    "header": lambda rng: b"\xff\xd8\xff\xe0" + rng.randbytes(rng.randrange(1, 2000)),
    "huge header": _huge_header,
    "unwritten": _unwritten,
    "torn": _torn,
}


def malformed(rng: random.Random) -> tuple[str, bytes]:
    """One file that must not be inspected, and its kind."""
    kind = rng.choice(list(_BAD))
    return kind, _BAD[kind](rng)


def flipped(rng: random.Random) -> bytes:
    """A PNG or JPEG with one changed bit."""
    data = bytearray(_GOOD[rng.choice(["jpeg", "png"])](rng))
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


def draw(rng: random.Random) -> Upload:
    """One upload; nine in ten are good."""
    if rng.random() >= _BAD_SHARE:
        kind = rng.choice(list(_GOOD))
        return Upload(kind, _GOOD[kind](rng), True)
    if rng.random() < 1 / (len(_BAD) + 1):
        return Upload("flipped", flipped(rng), None)
    return Upload(*malformed(rng), is_good=False)


@lru_cache(4096)
def _inspected(inspector: Inspector, data: bytes) -> Inspection:
    """The direct inspection; the good pictures are few, so most are known."""
    return next(inspector.inspect([inspector.read(data)], 1))


def judge(inspector: Inspector, upload: Upload, said: Said) -> str:
    """What is wrong with an answer, in words; empty where it is right."""
    try:
        decode(upload.data)
        is_good = True
    except ImageError:
        is_good = False
    if upload.is_good is not None and upload.is_good is not is_good:
        return "the decoder takes it for the other kind"
    if not is_good:
        if said.verdict not in ("ERROR", ""):
            return f"a malformed file is {said.verdict}"
        return "" if 400 <= said.status < 500 else f"status {said.status}"
    if said.status != 200:
        return f"a good file has status {said.status}"
    expected = _inspected(inspector, upload.data)
    if said.verdict != expected.verdict.value:
        return f"{said.verdict} for {expected.verdict.value}"
    apart = abs((said.score or 0.0) - (expected.score or 0.0))
    return "" if apart <= _SAME else f"score is {apart:.2g} off"
