"""Raw pixels as a file: binary PPM, the pixels behind a short header.

Frames that come as arrays take this form and are then pictures like any other, for the queue, the
records and the shadow: writing it is one copy, reading it none.
"""

import re

import numpy as np

from twonines.errors import ImageError, TooLargeError
from twonines.types import Image

MAGIC = b"P6"
_HEADER = re.compile(rb"P6\s(?:\s|#[^\n]*\n)*([0-9]{1,9})\s+([0-9]{1,9})\s+([0-9]{1,5})\s")
_HEADER_BYTES = 1000
"""Of a file's header with its comments; a longer one is refused."""


def make_ppm(pixels: bytes | memoryview, height: int, width: int) -> bytes:
    """A PPM file of raw pixels: height * width * 3 bytes of uint8 RGB, row by row."""
    return b"".join((b"P6\n%d %d\n255\n" % (width, height), pixels))


def read_ppm_size(data: bytes) -> tuple[int, int]:
    """(height, width) that the header announces.

    Raises:
        ImageError: the header is no PPM's, or of other than 8 bits a channel.
    """
    height, width, _ = _read_header(data)
    return height, width


def decode_ppm(data: bytes, max_pixels: int) -> Image:
    """The pixels of a PPM file, without a copy.

    Returns:
        (H, W, 3) uint8 RGB, which cannot be written.

    Raises:
        TooLargeError: the header announces more than ``max_pixels``.
        ImageError: it is not one whole picture of 8 bits a channel.
    """
    height, width, start = _read_header(data)
    if height * width > max_pixels:
        raise TooLargeError(f"image: at most {max_pixels} pixels are taken, got {width} x {height}")
    wanted, came = height * width * 3, len(data) - start
    if came != wanted:
        raise ImageError(
            f"image: a PPM of {width} x {height} must hold {wanted} bytes of pixels and nothing "
            f"behind them, got {came}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(height, width, 3)


def _read_header(data: bytes) -> tuple[int, int, int]:
    """Height, width, and where the pixels begin."""
    found = _HEADER.match(data, 0, _HEADER_BYTES)
    if found is None:
        raise ImageError("image: cannot be decoded, the header of the PPM is damaged")
    width, height, brightest = map(int, found.groups())
    if brightest != 255:
        raise ImageError(f"image: a PPM must have 255 as its largest value, got {brightest}")
    if not height or not width:
        raise ImageError(f"image: must have pixels, got {width} x {height}")
    return height, width, found.end()
