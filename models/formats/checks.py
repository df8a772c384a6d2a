"""What decoders pass over in silence, by format.

``check`` looks at the structure, before a library opens the file and pays for whatever its header
says; ``verify`` at the contents, once the size is known to be within limits.
"""

import struct
from collections.abc import Callable

from twonines.errors import ImageError
from twonines.models.formats.bmp import check_bmp
from twonines.models.formats.gif import check_gif
from twonines.models.formats.jpeg import check_jpeg, verify_jpeg
from twonines.models.formats.png import check_png, verify_png
from twonines.models.formats.tiff import check_tiff, verify_tiff
from twonines.models.formats.webp import check_webp, verify_webp

_CHECKS: dict[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8\xff": check_jpeg,
    b"\x89PNG\r\n\x1a\n": check_png,
    b"BM": check_bmp,
    b"GIF8": check_gif,
    b"RIFF": check_webp,
    b"II*\0": check_tiff,
    b"MM\0*": check_tiff,
    b"II+\0": check_tiff,
    b"MM\0+": check_tiff,
    b"II\0*": check_tiff,  # these two are none, but Pillow opens them
    b"MM*\0": check_tiff,
}
_VERIFIES: dict[str, Callable[[bytes], None]] = {
    "JPEG": verify_jpeg,
    "MPO": lambda data: verify_jpeg(data, alone=False),
    "PNG": verify_png,
    "TIFF": verify_tiff,
    "WEBP": verify_webp,
}


def check(data: bytes) -> None:
    """Check the structure of a file of any format; what is none of them passes.

    Raises:
        ImageError: it is damaged, cannot be told to be whole, or holds more than one picture.
    """
    for magic, of_format in _CHECKS.items():
        if data.startswith(magic):
            _run(of_format, data)


def verify(kind: str, data: bytes) -> None:
    """Check the contents of a file of the format that Pillow calls ``kind``.

    Raises:
        ImageError: it lacks some of its picture.
    """
    if kind in _VERIFIES:
        _run(_VERIFIES[kind], data)


def _run(of_format: Callable[[bytes], None], data: bytes) -> None:
    try:
        of_format(data)
    except (struct.error, LookupError, ValueError, OverflowError) as exc:
        raise ImageError("image: cannot be decoded, the file is damaged in its structure") from exc
