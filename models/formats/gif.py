"""Find what a GIF decoder passes over in silence: an unfilled canvas, further frames."""

import struct

from twonines.errors import ImageError
from twonines.models.formats.behind import refuse_joined

_HAS_TABLE = 0x80
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
MOST_EXTRA = 2**20
"""Bytes of comments and other extensions; Pillow's time for them grows with their square."""


def check_gif(data: bytes) -> None:
    """Check that one frame fills the canvas, and that nothing follows.

    Raises:
        ImageError: it does not, there are several frames, no end, or another picture behind it.
        struct.error, IndexError: the file is cut.
    """
    canvas = struct.unpack_from("<HH", data, 6)
    place = 13 + _table(data[10])
    frames = extra = 0
    while (kind := data[place]) != _TRAILER:
        if kind == _EXTENSION:
            start, place = place, _behind_blocks(data, place + 2)
            extra += place - start
            if extra > MOST_EXTRA:
                raise ImageError(f"image: a GIF's notes may have {MOST_EXTRA} bytes, got more")
        elif kind == _IMAGE:
            left, top, *size, flags = struct.unpack_from("<HHHHB", data, place + 1)
            if frames:
                raise ImageError("image: must hold one picture, got a GIF of several frames")
            if (left, top) != (0, 0) or tuple(size) != canvas:
                raise ImageError(
                    f"image: the GIF's frame must fill its {canvas[0]} x {canvas[1]} pixels, got "
                    f"{size[0]} x {size[1]} from ({left}, {top}) on"
                )
            if not (data[10] | flags) & _HAS_TABLE:
                raise ImageError("image: the GIF must have a colour table, the file is damaged")
            frames += 1
            place = _behind_blocks(data, place + 11 + _table(flags))
        else:
            raise ImageError(f"image: the file is damaged (GIF block {kind})")
    if not frames:
        raise ImageError("image: must hold one picture, got a GIF of none")
    if data[place + 1 : place + 2] in (b"!", b","):
        raise ImageError("image: must hold one picture, got a GIF with a frame behind its end")
    refuse_joined(data, place + 1, "GIF")


def _table(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << ((flags & 7) + 1) if flags & _HAS_TABLE else 0


def _behind_blocks(data: bytes, place: int) -> int:
    """Where a row of blocks ends, each with its length before it, the last one empty."""
    while length := data[place]:
        place += 1 + length
    return place + 1
