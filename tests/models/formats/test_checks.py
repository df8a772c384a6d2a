"""What decoders pass over in silence, in every format but JPEG and TIFF."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from twonines.errors import ImageError
from twonines.models.formats.gif import MOST_EXTRA
from twonines.models.image import count_pixels, decode

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(out, kind, **options)
    return out.getvalue()


def refuse(data: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        decode(data)
    assert count_pixels(data) in (0, NOISE.shape[0] * NOISE.shape[1])


@pytest.mark.parametrize("second", [*FORMATS, "TIFF"])
@pytest.mark.parametrize("first", FORMATS)
def test_another_picture_behind_is_refused(first: str, second: str) -> None:
    data = encoded(first)
    refuse(data + encoded(second), "a second behind it|rows, the file is damaged and holds more")
    assert decode(data + b"a note").shape == NOISE.shape


@pytest.mark.parametrize("between", [
    b"\n", b"\xff", b"\xff\xd9", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n",
])  # fmt: skip
def test_what_streams_put_between_two_hides_none(between: bytes) -> None:
    refuse(encoded("JPEG") + between + encoded("JPEG"), "a second behind it")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_one_is_refused_wherever_it_is_cut(kind: str) -> None:
    data = encoded(kind)
    for end in range(3, len(data) - 2, max(1, len(data) // 60)):
        with pytest.raises(ImageError):
            decode(data[:end])


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"quality": 100}])
def test_a_webp_whose_writing_broke_off_is_refused(options: dict[str, object]) -> None:
    image = Image.fromarray(np.kron(NOISE, np.ones((4, 4, 1), np.uint8)))
    data = encoded("WEBP", image, **options)
    assert decode(data).shape == (160, 224, 3)
    for end in range(60, len(data) - 64, len(data) // 40):
        with pytest.raises(ImageError):
            decode(data[:end] + bytes(len(data) - end))


def test_a_webp_is_plain() -> None:
    clear = Image.fromarray(NOISE).convert("RGBA")
    clear.putalpha(Image.fromarray(NOISE[:, :, 0]))
    refuse(encoded("WEBP", clear), "alpha plane of its own")
    assert decode(encoded("WEBP", clear, lossless=True)).shape == NOISE.shape
    one = encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (56, 40))])
    refuse(one, "several frames")


def bmp(
    image: Image.Image | None = None, changes: dict[int, tuple[str, int]] | None = None
) -> bytes:
    data = bytearray(encoded("BMP", image))
    for place, (form, value) in (changes or {}).items():
        struct.pack_into("<" + form, data, place, value)
    return bytes(data)


@pytest.mark.parametrize(("changes", "match"), [
    ({10: ("I", 20)}, "must fit its rows"),  # the rows begin within the header
    ({22: ("i", 20)}, "must hold 20 rows"),
    ({22: ("i", 41)}, "must fit its rows"),
    ({18: ("i", 50)}, "must hold 40 rows"),
    ({30: ("I", 1)}, "whose damage cannot be told"),
])  # fmt: skip
def test_a_bmp_that_is_not_what_its_header_says(
    changes: dict[int, tuple[str, int]], match: str
) -> None:
    refuse(bmp(changes=changes), match)


def test_a_bmp_may_lie_on_its_head() -> None:
    turned = decode(bmp(changes={22: ("i", -40)}))
    assert (turned == NOISE[::-1]).all()


@pytest.mark.parametrize("kind", ["BMP", "PNG"])
def test_a_colour_that_the_palette_lacks_is_refused(kind: str) -> None:
    image = Image.fromarray(np.full((40, 56), 7, np.uint8)).convert("P")
    image.putpalette(list(range(24)))
    assert decode(encoded(kind, image))[0, 0].tolist() == [21, 22, 23]
    if kind == "BMP":
        data = bytearray(encoded(kind, image, bits=8))
        (offset,) = struct.unpack_from("<I", data, 10)
        data[offset:] = bytes([200]) * (len(data) - offset)
        struct.pack_into("<I", data, 46, 8)
        refuse(bytes(data), "the palette must hold colour 200")
        return
    data = bytearray(encoded(kind, image, bits=8))
    place = data.index(b"PLTE")
    (length,) = struct.unpack_from(">I", data, place - 4)
    short = b"PLTE" + data[place + 4 : place + 10]
    checked = struct.pack(">I", 6) + short + struct.pack(">I", zlib.crc32(short))
    data[place - 4 : place + 8 + length] = checked
    refuse(bytes(data), "the palette must hold colour 7")


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(("extra", "match"), [
    (chunk(b"fdAT", bytes(9)), "several frames"),
    (chunk(b"IHDR", struct.pack(">IIBBBBB", 56, 20, 8, 2, 0, 0, 0)), "chunk 'IHDR'"),
    (chunk(b"ABCD"), "chunk 'ABCD'"),
    (chunk(b"tEXt") * 3000, "must hold a kilobyte each"),
])  # fmt: skip
def test_a_png_has_the_chunks_of_one_picture(extra: bytes, match: str) -> None:
    data = encoded("PNG")
    refuse(data[:33] + extra + data[33:], match)


def test_a_png_without_its_palette_or_end_is_refused() -> None:
    data = encoded("PNG", Image.fromarray(NOISE).convert("P"))
    start = data.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", data, start)
    palette = data[start : start + 12 + length]
    refuse(data.replace(palette, b""), "palette must come first")
    refuse(data.replace(palette, b"")[:-12] + palette + data[-12:], "palette must come first")
    refuse(data[:-12], "a header and an end")


def gif(changes: dict[int, tuple[str, int]], *, behind: int = 0) -> bytes:
    """``behind``: places count from the frame's block."""
    data = bytearray(encoded("GIF"))
    start = data.index(b",\0\0\0\0") if behind else 0
    for place, (form, value) in changes.items():
        struct.pack_into("<" + form, data, start + place, value)
    return bytes(data)


@pytest.mark.parametrize("changes", [
    {1: ("H", 3)}, {3: ("H", 3)}, {5: ("H", 30)}, {7: ("H", 20)},
])  # fmt: skip
def test_a_gif_whose_frame_leaves_canvas_is_refused(changes: dict[int, tuple[str, int]]) -> None:
    refuse(gif(changes, behind=1), "must fill its 56 x 40 pixels")


def test_a_gif_has_few_notes_one_frame_and_a_palette() -> None:
    data = encoded("GIF")
    table = 3 << ((data[10] & 7) + 1)
    note = b"!\xfe\xff" + bytes(255) + b"\0"
    head = 13 + table
    assert decode(data[:head] + note * 9 + data[head:]).shape == NOISE.shape
    refuse(data[:head] + note * (MOST_EXTRA // 250) + data[head:], "notes may have")
    refuse(data[:10] + bytes([data[10] & 0x7F]) + data[11:13] + data[head:], "a colour table")
    frame = data.index(b",\0\0\0\0")
    refuse(data + data[frame:], "behind its end")
    refuse(data[:-1] + data[frame:], "several frames")


@pytest.mark.parametrize("kind", FORMATS[:2])
def test_a_long_fill_behind_costs_no_memory(kind: str) -> None:
    data = encoded(kind) + bytes(20_000_000)
    tracemalloc.start()
    try:
        assert decode(data).shape == NOISE.shape
        # Pillow copies a PNG's fill once.
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(data)
    finally:
        tracemalloc.stop()


def test_two_colours_of_eight_bits_would_be_read_as_one_bit() -> None:
    image = Image.fromarray(np.tile(np.array([[0, 1]], np.uint8), (40, 28))).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    refuse(encoded("BMP", image), "must have more than 2 colours")
    assert decode(encoded("BMP", Image.fromarray(NOISE[:, :, 0] > 99))).shape == NOISE.shape


def test_a_png_frame_fills_the_picture() -> None:
    data = encoded("PNG")
    for height in (40, 20):
        frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 56, height, 0, 0, 1, 1, 0, 0))
        whole = data[:33] + chunk(b"acTL", struct.pack(">II", 1, 0)) + frame + data[33:]
        if height == 40:
            assert decode(whole).shape == NOISE.shape
        else:
            refuse(whole, "it leaves canvas")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_is_no_damaged_picture(kind: str) -> None:
    assert decode(encoded(kind, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")).shape == NOISE.shape


def test_a_bmp_of_the_longest_header_holds_its_rows_and_its_profile() -> None:
    """Headers of 124 bytes may have a colour profile behind the rows."""
    plain = bmp()
    header = struct.pack("<I", 124) + plain[18:54] + bytes(124 - 40)
    data = bytearray(plain[:10] + struct.pack("<I", 138) + header + plain[54:])
    assert (decode(bytes(data)) == NOISE).all()
    struct.pack_into("<I", data, 14 + 116, 500)
    assert (decode(bytes(data) + bytes(500)) == NOISE).all()
    struct.pack_into("<i", data, 22, 20)
    refuse(bytes(data), "must hold 20 rows")
