"""EXIF orientation: how a picture is turned between its file and what the models see."""

import warnings
from pathlib import Path

from PIL import Image

_ORIENTATION = 0x0112
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that may tell an orientation, before the pixels or behind them."""


def orientation(path: Path) -> int:
    """2 to 8 where the decoder of the models turns or mirrors a picture, else 1.

    1 also where it cannot be read: whoever decodes it gives the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF warns, and turns nothing
            with Image.open(path) as image:
                # Pillow would decode all of a PNG to look behind its pixels
                bare = image.format == "PNG" and not _has_notes(path)
                value = 1 if bare else image.getexif().get(_ORIENTATION, 1)
    except Exception:  # on broken bytes a decoder may raise anything
        return 1
    return value if value in range(2, 9) else 1


def _has_notes(png: Path) -> bool:
    data = png.read_bytes()
    return any(name in data for name in _PNG_NOTES)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) as the decoder of the models will see it, EXIF orientation applied."""
    turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def read_upright_size(path: Path) -> tuple[int, int]:
    """As :func:`upright_size`, without decoding a PNG that tells of no orientation.

    Raises whatever Pillow raises where it is no picture.
    """
    with Image.open(path) as image:
        height, width = image.height, image.width
    return (width, height) if orientation(path) >= 5 else (height, width)
