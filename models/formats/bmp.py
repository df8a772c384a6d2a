"""Find the damage of a BMP that a decoder passes over in silence."""

import struct

from twonines.errors import ImageError
from twonines.models.formats.behind import refuse_joined

_OLD_HEADER, _PROFILED_HEADER = 12, 124
_UNCOMPRESSED = {0: 0, 3: 12, 6: 16}
"""Compressions with plain rows, and the bytes of colour masks behind the smallest header."""


def check_bmp(data: bytes) -> None:
    """Check that the file holds the rows that its header announces, no more and no less.

    Raises:
        ImageError: it does not; its rows are run-length coded, whose damage cannot be told; or
            another picture follows.
        struct.error: the header is cut.
    """
    offset, header = struct.unpack_from("<II", data, 10)
    if header == _OLD_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, used, entry = 0, 0, 3
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (used,) = struct.unpack_from("<I", data, 46)
        entry = 4
    if compression not in _UNCOMPRESSED:
        raise ImageError(
            "image: BMP must be uncompressed, got one whose damage cannot be told (compression "
            f"{compression})"
        )
    if bits in (4, 8) and used in (1, 2):
        raise ImageError(
            f"image: BMP of {bits} bits must have more than 2 colours, which decoders read as one "
            f"bit a pixel, got {used}"
        )
    colours = (used or 2**bits) * entry if bits <= 8 else 0
    masks = _UNCOMPRESSED[compression] if header == 40 else 0
    row = (width * bits + 31) // 32 * 4
    need, held = row * abs(height), len(data) - offset
    profile = struct.unpack_from("<I", data, 14 + 116)[0] if header == _PROFILED_HEADER else 0
    if offset < 14 + header + masks + colours or held < need:
        raise ImageError(
            f"image: the BMP's header must fit its rows of {need} bytes, the file is damaged"
        )
    refuse_joined(data, offset + need, "BMP")
    if row and held - need >= row + profile:
        raise ImageError(
            f"image: the BMP must hold {abs(height)} rows, the file is damaged and holds more"
        )
