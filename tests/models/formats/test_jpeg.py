import io
import re

import numpy as np
import pytest
from PIL import Image

from twonines.errors import ImageError
from twonines.models.formats.checks import check, verify
from twonines.models.formats.jpeg import MOST_SCANS, verify_jpeg
from twonines.models.image import decode

SCAN = re.compile(rb"\xff\xda")
END = b"\xff\xd9"


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def scans(data: bytes) -> list[bytes]:
    """The header and each scan, with the tables before it; joined they are the file."""
    tables = re.compile(rb"\xff\xc4..(?:(?!\xff\xda).)*?\xff\xda|\xff\xda", re.DOTALL)
    starts = [0, *(found.start() for found in tables.finditer(data))]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data) - 2], strict=True)]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [
    {}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True},
    {"progressive": True, "restart_marker_rows": 1}, {"quality": 100}, {"comment": b"\xff\xda" * 9},
])  # fmt: skip
def test_a_whole_one_is_taken(mode: str, options: dict[str, object]) -> None:
    data = jpeg(mode, **options)
    verify_jpeg(data)
    assert decode(data).shape == (40, 56, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_one_without_any_of_its_scans_is_refused(mode: str) -> None:
    header, *parts = scans(jpeg(mode, progressive=True))
    assert len(parts) > 5
    for lost in range(len(parts)):
        kept = parts[:lost] + parts[lost + 1 :]
        with pytest.raises(ImageError, match="damaged"):
            decode(header + b"".join(kept) + END)


def test_what_later_scans_lack_is_told_and_the_library_would_not_tell() -> None:
    header, *parts = scans(jpeg("L", progressive=True))
    data = header + b"".join(parts[:-1]) + END
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
    with pytest.raises(ImageError, match="must hold all 64 coefficients .* damaged and holds 1$"):
        decode(data)


def test_a_colour_whose_scan_is_missing_is_refused() -> None:
    """A sequential file may have a scan for each colour; the decoder would leave one grey."""
    data = bytearray(jpeg(subsampling=0))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 9] == 3
    start = data.index(b"\xff\xda")
    # One scan that names only the first of three colours.
    data[start : start + 14] = b"\xff\xda\x00\x08\x01" + data[start + 5 : start + 7] + b"\0\x3f\0"
    with pytest.raises(ImageError, match="each colour in full, the file is damaged and holds 0"):
        verify_jpeg(bytes(data))


@pytest.mark.parametrize("between", [b"", b"\0", b"\0" * 500])
def test_a_second_one_behind_is_refused_but_what_is_no_picture_is_not(between: bytes) -> None:
    data = jpeg()
    with pytest.raises(ImageError, match="a second behind it"):
        decode(data + between + data)
    assert decode(data + between + b"a camera's note").shape == (40, 56, 3)
    verify_jpeg(data + between + data, alone=False)


def test_a_thumbnail_in_the_header_is_no_second_picture() -> None:
    small = jpeg("L")
    data = jpeg()
    segment = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    assert decode(data[:2] + segment + data[2:]).shape == (40, 56, 3)


def test_fill_bytes_before_a_marker_are_no_marker() -> None:
    data = jpeg(progressive=True)
    filled = SCAN.sub(b"\xff\xff\xff\xda", data)
    verify_jpeg(filled)
    assert decode(filled).shape == (40, 56, 3)


def test_thousands_of_scans_are_refused_before_they_cost_passes() -> None:
    header, first, *rest = scans(jpeg("L", progressive=True))
    data = header + first * MOST_SCANS + b"".join(rest) + END
    with pytest.raises(ImageError, match="100 scans at most"):
        decode(data)
    with pytest.raises(ImageError, match="at most"):
        verify_jpeg(b"\xff\xd8" + b"\xff\x01" * 100_000)


def test_a_damaged_header_never_raises_anything_else() -> None:
    data = jpeg(progressive=True)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2_000):
        changed = bytearray(data[: rng.integers(2, len(data))])
        changed[rng.integers(len(changed))] = rng.integers(256)
        try:
            check(bytes(changed))
            verify("JPEG", bytes(changed))
        except ImageError:
            refused += 1
    assert refused > 1_000


def test_arithmetic_coding_is_refused() -> None:
    data = jpeg().replace(b"\xff\xc0", b"\xff\xc9")
    with pytest.raises(ImageError, match="must be Huffman coded"):
        decode(data)


def test_hundreds_of_segments_are_refused_before_they_cost_time() -> None:
    data = jpeg()
    note = b"\xff\xe1\x00\x0aExif\0\0ab"
    assert decode(data[:2] + note * 100 + data[2:]).shape == (40, 56, 3)
    with pytest.raises(ImageError, match="512 segments at most"):
        decode(data[:2] + note * 600 + data[2:])


def test_colours_of_one_name_are_refused() -> None:
    data = bytearray(jpeg())
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    data[frame + 13] = data[scan + 7] = 1
    with pytest.raises(ImageError, match="colours must differ"):
        verify_jpeg(bytes(data))
