"""Find what a JPEG decoder passes over in silence: missing scans, and a second picture."""

import re
from collections.abc import Iterator

from twonines.errors import ImageError

MOST_SCANS = 100
"""Ten are usual; each costs a pass over the picture, however few bytes it has."""
_MOST_MARKERS = 4096
_COEFFICIENTS = 64
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8), _START, _END))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_MARKER = re.compile(rb"\xff(?![\x00\xff])")
# Within a scan, restart marks are part of the data.
_SCAN_END = re.compile(rb"\xff(?![\x00\xff\xd0-\xd7])")


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
    try:
        least = _least_held(data, alone)
    except (IndexError, KeyError, ValueError) as exc:
        raise ImageError("image: cannot be decoded, the file is damaged (JPEG segments)") from exc
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
            lacking = {name: [True] * _COEFFICIENTS for name in names}
        elif marker == _SCAN:
            end = place + 3 + 2 * data[place + 2]
            first, last, bits = data[end : end + 3] if progressive else (0, _COEFFICIENTS - 1, 0)
            for name in data[place + 3 : end : 2]:
                lacking[name][first : last + 1] = [bool(bits & 15)] * (last + 1 - first)
        elif marker == _END and alone and _is_jpeg(data, place):
            raise ImageError("image: must hold one picture, got a JPEG with a second behind it")
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


def _is_jpeg(data: bytes, place: int) -> bool:
    """Whether a JPEG begins there; some writers fill the file up to it with zeros."""
    begins = re.compile(rb"\0*\xff\xd8\xff")
    return begins.match(data, place) is not None
