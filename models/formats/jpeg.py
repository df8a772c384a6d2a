"""Find what a JPEG decoder passes over in silence: missing scans, and a second picture."""

import re
from collections.abc import Iterator

from twonines.errors import ImageError
from twonines.models.formats.behind import refuse_joined

MOST_SCANS = 100
"""Ten are usual; each costs a pass over the picture, however few bytes it has."""
MOST_SEGMENTS = 512
"""Before the first scan; Pillow's time for them grows with their square."""
_MOST_MARKERS = 4096
_COEFFICIENTS = 64
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8), _START, _END))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _ARITHMETIC = frozenset((0xC2, 0xC6)), frozenset(range(0xC9, 0xD0)) - {0xCC}
_MARKER = re.compile(rb"\xff(?![\x00\xff])")
# Within a scan, restart marks are part of the data.
_SCAN_END = re.compile(rb"\xff(?![\x00\xff\xd0-\xd7])")


def check_jpeg(data: bytes) -> None:
    """Check what comes before the first scan.

    Raises:
        ImageError: it has too many segments, or announces arithmetic coding, whose decoder makes
            up what is missing.
    """
    for count, (marker, _) in enumerate(_markers(data)):
        if count > MOST_SEGMENTS:
            raise ImageError(f"image: a JPEG may have {MOST_SEGMENTS} segments at most, got more")
        if marker in _ARITHMETIC:
            raise ImageError(
                "image: JPEG must be Huffman coded, got arithmetic coding, whose damage cannot "
                "be told"
            )
        if marker == _SCAN:
            return


def verify_jpeg(data: bytes, *, alone: bool = True) -> None:
    """Check that the scans hold every coefficient in full, and that no picture is joined behind.

    A decoder makes a picture of the scans that came: of a progressive JPEG that lost its later
    ones a blurred picture, without what is fine. What damage a scan has, it tells itself. Markers
    and scans are those of ITU-T T.81, annexes B and G.

    Args:
        data: the file.
        alone: refuse a second JPEG behind the first; cameras keep other views there (MPO).

    Raises:
        ImageError: a colour lacks coefficients, or bits of them; a second JPEG follows; or the
            scans are too many.
    """
    least = _least_held(data, alone)
    if least < _COEFFICIENTS:
        raise ImageError(
            f"image: the JPEG's scans must hold all {_COEFFICIENTS} coefficients of each colour "
            f"in full, the file is damaged and holds {least}"
        )


def _least_held(data: bytes, alone: bool) -> int:
    """How many coefficients the scans hold in full, of the colour with the fewest."""
    lacking: dict[int, list[bool]] = {}
    scans, progressive = 0, False
    for count, (marker, place) in enumerate(_markers(data)):
        scans += marker == _SCAN
        if scans > MOST_SCANS or count == _MOST_MARKERS:
            raise ImageError(f"image: a JPEG may have {MOST_SCANS} scans at most, got more")
        if marker in _FRAMES:
            progressive = marker in _PROGRESSIVE
            names = data[place + 8 : place + 8 + 3 * data[place + 7] : 3]
            if len(set(names)) < len(names):
                raise ImageError("image: the JPEG's colours must differ, the file is damaged")
            lacking = {name: [True] * _COEFFICIENTS for name in names}
        elif marker == _SCAN:
            end = place + 3 + 2 * data[place + 2]
            first, last, bits = data[end : end + 3] if progressive else (0, _COEFFICIENTS - 1, 0)
            for name in data[place + 3 : end : 2]:
                lacking[name][first : last + 1] = [bool(bits & 15)] * (last + 1 - first)
        elif marker == _END and alone:
            refuse_joined(data, place, "JPEG")
    return min(_COEFFICIENTS - sum(each) for each in lacking.values())


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker of the first picture, and where what belongs to it begins."""
    search, place = _MARKER, 0
    while found := search.search(data, place):
        place = found.end() + 1
        marker = data[place - 1]
        yield marker, place
        if marker == _END:
            return
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
        search = _SCAN_END if marker == _SCAN else _MARKER
