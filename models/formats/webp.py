"""Find what a WEBP decoder passes over in silence: a lost tail, a second picture."""

import io

from PIL import Image as PILImage

from twonines.errors import ImageError
from twonines.models.formats.behind import refuse_joined

_CUT = 16
"""Bytes that no sound bitstream can do without; of six kinds that were tried, none could miss 4."""
_MOST_CHUNKS = 1000


def check_webp(data: bytes) -> None:
    """Check that the file holds one picture, and no animation.

    Raises:
        ImageError: it does not, or is shorter than it says.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    names = [name for name, _, _ in _chunks(data)]
    if b"ALPH" in names:
        raise ImageError(
            "image: WEBP must have no alpha plane of its own, got one, whose damage cannot be told"
        )
    if sum(name in (b"VP8 ", b"VP8L") for name in names) != 1 or b"ANMF" in names:
        raise ImageError(
            "image: must hold one picture, got a WEBP of several frames or none, or an animation"
        )
    if end > len(data):
        raise ImageError(f"image: the WEBP must have {end} bytes, the file is damaged")
    refuse_joined(data, end, "WEBP")


def verify_webp(data: bytes) -> None:
    """Check that the picture needs the bitstream's last bytes, by decoding it without them.

    A decoder takes zeros, such as a file has whose writing broke off, for a picture: it stops
    where it has all pixels, and does not mind what is left.

    Raises:
        ImageError: it does not need them.
    """
    name, place, length = next(one for one in _chunks(data) if one[0] in (b"VP8 ", b"VP8L"))
    body = data[place : place + max(0, length - _CUT)]
    chunk = name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
    cut = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
    try:
        with PILImage.open(io.BytesIO(cut), formats=("WEBP",)) as opened:
            opened.load()
    except Exception:  # as it should be
        return
    raise ImageError("image: the WEBP's bitstream must end with its picture, the file is damaged")


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, place and length of what each chunk holds."""
    found: list[tuple[bytes, int, int]] = []
    place = 12
    while place + 8 <= len(data) and len(found) < _MOST_CHUNKS:
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        found.append((data[place : place + 4], place + 8, length))
        place += 8 + length + length % 2
    return found
