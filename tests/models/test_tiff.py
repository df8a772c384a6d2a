import io
import struct
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from twonines.errors import ImageError
from twonines.models.image import decode

GREY = np.random.default_rng(0).integers(1, 256, (30, 21), np.uint8)


def tiff(
    parts: Sequence[bytes | None],
    *,
    height: int = 30,
    tags: dict[int, int] | None = None,
    counts: bool = True,
    tiled: bool = False,
    samples: int = 1,
) -> bytes:
    """Little-endian TIFF of 8 bits; a part that is None was never written: offset 0, length 0."""
    out = bytearray(b"II*\0\0\0\0\0")
    offsets, lengths = [], []
    for part in parts:
        offsets.append(0 if part is None else len(out))
        lengths.append(0 if part is None else len(part))
        out += part or b""
    values: dict[int, Sequence[int]] = {
        256: [21], 257: [height], 258: [8] * samples, 259: [1], 262: [2 if samples == 3 else 1],
        277: [samples], **{key: [value] for key, value in (tags or {}).items()},
        324 if tiled else 273: offsets,
    }  # fmt: skip
    if counts:
        values[325 if tiled else 279] = lengths
    entries = b""
    for key, numbers in sorted(values.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        place = packed if len(numbers) == 1 else struct.pack("<I", len(out))
        out += packed if len(numbers) > 1 else b""
        entries += struct.pack("<HHI", key, 4, len(numbers)) + place
    struct.pack_into("<I", out, 4, len(out))
    return bytes(out) + struct.pack("<H", len(values)) + entries + b"\0\0\0\0"


def strips(picture: np.ndarray = GREY, rows: int = 7) -> list[bytes | None]:
    return [picture[top : top + rows].tobytes() for top in range(0, len(picture), rows)]


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("rows", [7, 30, 2**32 - 1])
def test_a_whole_tiff_is_taken(rows: int, counts: bool) -> None:
    data = tiff(strips(rows=min(rows, 30)), tags={278: rows}, counts=counts)
    assert (decode(data)[:, :, 1] == GREY).all()


def test_parts_may_be_tiles_or_colours_of_their_own() -> None:
    wide = np.zeros((32, 32), np.uint8)
    wide[:30, :21] = GREY
    tiles = [wide[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    data = tiff(tiles, tags={322: 16, 323: 16}, tiled=True)
    assert (decode(data)[:, :, 1] == GREY).all()
    colours = [part for shift in range(3) for part in strips(GREY - shift)]
    apart = tiff(colours, tags={278: 7, 284: 2}, samples=3)
    assert (decode(apart) == np.stack([GREY - shift for shift in range(3)], 2)).all()
    for damaged in (
        tiff([*tiles[:3], None], tags={322: 16, 323: 16}, tiled=True),
        tiff(tiles[:3], tags={322: 16, 323: 16}, tiled=True),
        tiff([*colours[:9], None, *colours[10:]], tags={278: 7, 284: 2}, samples=3),
        tiff(colours[:10], tags={278: 7, 284: 2}, samples=3),
    ):
        with pytest.raises(ImageError, match="TIFF's picture"):
            decode(damaged)


@pytest.mark.parametrize("number", range(5))
def test_a_strip_that_was_never_written_is_damage(number: int) -> None:
    parts = strips()
    parts[number] = None
    with pytest.raises(ImageError, match=rf"part {number + 1} of the TIFF's .* and holds 0"):
        decode(tiff(parts, tags={278: 7}))


def test_rows_without_a_strip_are_damage() -> None:
    with pytest.raises(ImageError, match="must be in 5 parts, the file is damaged and holds 4"):
        decode(tiff(strips()[:4], tags={278: 7}))
    with pytest.raises(ImageError, match="must be in 6 parts, the file is damaged and holds 5"):
        decode(tiff(strips(), height=36, tags={278: 7}))


def test_millions_of_parts_that_are_only_announced_cost_no_memory() -> None:
    data = tiff([b"x"], height=30_000_000, tags={256: 1, 278: 1})
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="must be in 30000000 parts"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_strip_that_is_too_short_does_not_take_what_lies_behind_it() -> None:
    with pytest.raises(ImageError, match="part 2 of the TIFF's picture must have 147 bytes"):
        parts = strips()
        decode(tiff([parts[0], b"short", *parts[2:]], tags={278: 7}))
    with pytest.raises(ImageError, match="must have 630 bytes"):
        decode(tiff([GREY.tobytes()[:300]], counts=False))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
def test_every_mode_that_is_written_is_taken(mode: str) -> None:
    picture = Image.fromarray(GREY)
    if mode == "I;16":
        picture = Image.fromarray(GREY.astype(np.uint16))
    out = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(out, "TIFF")
    assert decode(out.getvalue()).shape == (30, 21, 3)
