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


def saved(compression: str, rows: int = 7, **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(np.kron(GREY, np.ones((8, 8), np.uint8)))
    image.save(out, "TIFF", compression=compression, tiffinfo={278: rows}, **options)
    return out.getvalue()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("rows", [7, 240])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"])
def test_compressed_without_loss_is_taken(compression: str, rows: int, big: bool) -> None:
    picture = decode(saved(compression, rows, big_tiff=big))
    assert (picture[::8, ::8, 1] == GREY).all()


@pytest.mark.parametrize("rows", [7, 240])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_part_whose_writing_broke_off_is_damage(compression: str, rows: int) -> None:
    data = saved(compression, rows)
    with Image.open(io.BytesIO(data)) as opened:
        tags = opened.tag_v2  # type: ignore[attr-defined]
        offset, length = tags[273][0], tags[279][0]
    for share in (0.05, 0.3, 0.6, 0.9):
        lost = int(length * (1 - share))
        torn = data[: offset + length - lost] + bytes(lost) + data[offset + length :]
        with pytest.raises(ImageError, match="damaged"):
            decode(torn)


@pytest.mark.parametrize("compression", ["packbits", "group4", "jpeg", "zstd", "lzma"])
def test_what_hides_its_damage_is_refused(compression: str) -> None:
    mode = "1" if compression == "group4" else "L"
    out = io.BytesIO()
    Image.fromarray(GREY).convert(mode).save(out, "TIFF", compression=compression)
    with pytest.raises(ImageError, match="damage cannot be told"):
        decode(out.getvalue())


@pytest.mark.parametrize(("tags", "match"), [
    ({254: 1}, "preview of another"),
    ({330: 8}, "preview of another"),
    ({262: 6}, "damage cannot be told"),  # colours at half the places, as it is by default
])  # fmt: skip
def test_one_whole_picture_in_places_of_its_own(tags: dict[int, int], match: str) -> None:
    with pytest.raises(ImageError, match=match):
        decode(tiff(strips(), tags={278: 7, **tags}))


def test_parts_lie_apart() -> None:
    data = bytearray(tiff(strips(), tags={278: 7}))
    place = data.index(struct.pack("<5I", *(8 + 147 * n for n in range(5))))
    data[place + 4 : place + 8] = data[place : place + 4]
    with pytest.raises(ImageError, match="must lie apart"):
        decode(bytes(data))
    data[place + 4 : place + 8] = struct.pack("<I", 9)  # all but a byte of the first
    with pytest.raises(ImageError, match="must lie apart"):
        decode(bytes(data))


def test_rows_that_the_header_does_not_name_are_damage() -> None:
    with pytest.raises(ImageError, match="must have 315 bytes"):
        decode(tiff([GREY.tobytes()], height=15))


def test_a_tile_much_larger_than_the_picture_costs_nothing() -> None:
    huge = tiff([b"x"], height=16, tags={256: 16, 322: 45056, 323: 45056}, tiled=True)
    with pytest.raises(ImageError, match="no larger than its picture, got 1 of 45056 x 45056"):
        decode(huge)


@pytest.mark.parametrize("tag", [258, 282])
def test_a_tag_of_a_million_values_costs_nothing(tag: int) -> None:
    data = bytearray(tiff(strips(), tags={278: 7, tag: 8}))
    place = data.index(struct.pack("<HHI", tag, 4, 1))
    struct.pack_into("<I", data, place + 4, 10**6)
    with pytest.raises(ImageError, match=f"tag {tag} of a TIFF may have 4096 values"):
        decode(bytes(data))


def test_white_at_nought_is_refused_where_it_would_come_out_black() -> None:
    out = io.BytesIO()
    Image.fromarray(GREY.astype(np.uint16) * 256).save(out, "TIFF", tiffinfo={262: 0})
    with pytest.raises(ImageError, match="black at 0, got white at 0"):
        decode(out.getvalue())
    eight = tiff(strips(), tags={278: 7, 262: 0})
    assert (decode(eight)[:, :, 1] == 255 - GREY).all()


def test_many_tiles_much_larger_than_the_picture_cost_nothing() -> None:
    many = tiff([b"x"] * 60, height=61_440, tags={256: 1, 322: 1024, 323: 1024}, tiled=True)
    with pytest.raises(ImageError, match="got 60 of 1024 x 1024"):
        decode(many)


def test_a_long_text_is_no_cost() -> None:
    out = io.BytesIO()
    Image.fromarray(GREY).save(out, "TIFF", tiffinfo={270: "told at length" * 1000})
    assert decode(out.getvalue()).shape == (30, 21, 3)


@pytest.mark.parametrize("magic", [b"II\0*", b"MM*\0"])
def test_what_only_looks_like_a_tiff_is_refused(magic: bytes) -> None:
    data = magic + tiff(strips(), tags={278: 7, 254: 1})[4:]
    with pytest.raises(ImageError, match="must begin with its byte order"):
        decode(data)


def test_what_two_readers_would_read_otherwise_is_refused() -> None:
    with pytest.raises(ImageError, match="in strips or in tiles"):
        decode(tiff(strips(), tags={278: 7, 322: 16, 323: 16, 324: 8}))
    data = bytearray(tiff(strips(), tags={278: 7, 305: 1}))
    place = data.index(struct.pack("<HHI", 305, 4, 1))
    struct.pack_into("<H", data, place, 278)
    with pytest.raises(ImageError, match="tag 278 once"):
        decode(bytes(data))


@pytest.mark.parametrize(("tags", "match"), [
    ({258: 12}, "must have 1, 2, 4, 8, 16 or 32 bits"),
    ({277: 3}, None),  # one number of bits stands for all samples, of which strips hold too few
    ({259: 8, 266: 2}, "highest bits first"),
])  # fmt: skip
def test_samples_are_of_a_usual_kind(tags: dict[int, int], match: str | None) -> None:
    with pytest.raises(ImageError, match=match):
        decode(tiff(strips(), tags={278: 7, **tags}))
