"""Find the damage that a PNG decoder passes over in silence."""

import io
import zlib
from collections.abc import Iterator

from PIL import Image as PILImage

from twonines.errors import ImageError
from twonines.models.formats.behind import refuse_joined

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: (first column, first row, column step, row step) of each pass.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_STEP, _PIECE = 2**18, 2**16


_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PALETTE = 3


def check_png(data: bytes) -> None:
    """Check which chunks there are, and that nothing follows them.

    Raises:
        ImageError: a header is missing or doubled, a palette late or missing, a chunk is not
            known, frames of an animation are there, the chunks are too many, or another picture
            follows.
    """
    seen: set[bytes] = set()
    for count, (name, begin, behind) in enumerate(_chunks(data)):
        # Pillow takes microseconds for each: what it costs must not grow beyond the bytes.
        if count > 1000 + len(data) // 1024:
            raise ImageError("image: a PNG's chunks must hold a kilobyte each, got smaller ones")
        if name == b"fdAT":
            raise ImageError("image: must hold one picture, got a PNG of several frames")
        if name == b"fcTL" and data[begin + 4 : begin + 20] != data[16:24] + bytes(8):
            raise ImageError("image: the PNG's frame must fill the picture, it leaves canvas")
        known = name in _CRITICAL or name[0] >= ord("a")
        if not known or (name in (b"IHDR", b"PLTE") and name in seen):
            raise ImageError(
                "image: must have the chunks of a PNG, the file is damaged (chunk "
                f"{name.decode('latin-1')!r})"
            )
        if name == b"IDAT" and data[25] == _PALETTE and b"PLTE" not in seen:
            raise ImageError("image: the PNG's palette must come first, the file is damaged")
        seen.add(name)
        if name == b"IEND":
            refuse_joined(data, behind, "PNG")
            break
    if data[12:16] != b"IHDR" or data[26] or data[27] or b"IEND" not in seen:
        raise ImageError("image: the PNG must have a header and an end, the file is damaged")


def verify_png(data: bytes) -> None:
    """Check every chunk's checksum, and that the stream holds exactly the header's pixels.

    Loading alone checks neither: the rows that a short stream lacks come out black.

    Raises:
        ImageError: the stream holds fewer or more bytes than the header announces.
    """
    with PILImage.open(io.BytesIO(data), formats=("PNG",)) as copy:
        copy.verify()
    wanted, got = _announced_bytes(data), _stream_bytes(data)
    if got != wanted:
        more = "more" if got > wanted else str(got)
        raise ImageError(
            f"image: the PNG's pixels must be {wanted} bytes, the file is damaged and holds {more}"
        )


def _announced_bytes(data: bytes) -> int:
    """Bytes of all rows, each with its filter byte, that the header announces."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * _CHANNELS[data[25]]
    passes = _PASSES if data[28] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _stream_bytes(data: bytes) -> int:
    """Bytes that the whole stream inflates to; stops soon after they are more than announced."""
    limit, total = _announced_bytes(data), 0
    inflater = zlib.decompressobj()
    for rest in _streams(data):
        while rest and not inflater.eof and total <= limit:
            total += len(inflater.decompress(rest, _STEP))
            rest = inflater.unconsumed_tail
    while not inflater.eof and total <= limit:
        held = inflater.decompress(b"", _STEP)
        if not held:
            raise ImageError("image: the PNG's pixels must have an end, the file is damaged")
        total += len(held)
    return total


def _streams(data: bytes) -> Iterator[bytes]:
    """The contents of the IDAT chunks in small pieces; the checksums were checked before.

    Small, because the inflater copies what it has not consumed with every call.
    """
    for name, begin, behind in _chunks(data):
        if name == b"IDAT":
            for start in range(begin, behind - 4, _PIECE):
                yield data[start : min(start + _PIECE, behind - 4)]


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk, where its contents begin, and where the next chunk does."""
    place = 8
    while place + 12 <= len(data):
        name, begin = data[place + 4 : place + 8], place + 8
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        yield name, begin, place
