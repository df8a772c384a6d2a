import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.images import png
from twonines.errors import ImageError, ImageTypeError, TooLargeError
from twonines.models.image import count_pixels, decode, decode_for, resize


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_decodes_every_format_to_rgb(image_format: str) -> None:
    image = decode(png(200, (5, 7), image_format))
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert abs(int(image.mean()) - 200) <= 2


def test_sixteen_bit_grey_keeps_its_range() -> None:
    wide = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    assert decode(encoded(wide, "PNG"))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    ramp = np.add.outer(np.arange(16) * 12, np.arange(8) * 4).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(ramp), image_format, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    got = decode(data)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("image_format", "limit"), [("JPEG", 40), ("PNG", 0)])
def test_a_changed_byte_is_seldom_a_wrong_picture(image_format: str, limit: int) -> None:
    rng = np.random.default_rng(0)
    source = Image.fromarray(rng.integers(150, 256, (96, 96, 3), dtype=np.uint8))
    data = encoded(source, image_format)
    mean, wrong = decode(data).mean(), 0
    for _ in range(400):
        changed = bytearray(data)
        changed[rng.integers(len(data))] = rng.integers(256)
        try:
            wrong += abs(decode(bytes(changed)).mean() - mean) > 5
        except ImageError:
            continue
    assert wrong <= limit


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_modes(mode: str) -> None:
    image_format = "JPEG" if mode == "CMYK" else "PNG"
    source = Image.new("L", (4, 4), 255).convert(mode)
    assert decode(encoded(source, image_format)).min() >= 250


def test_transparency_lies_on_black() -> None:
    assert decode(encoded(Image.new("RGBA", (4, 4), (255, 255, 255, 0)), "PNG")).max() == 0


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP"])
def test_truncated_is_an_error(image_format: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), image_format)
    with pytest.raises(ImageError, match="damaged"):
        decode(data[: len(data) // 2])


def test_other_bytes_are_a_type_error() -> None:
    with pytest.raises(ImageTypeError, match="must be one of JPEG"):
        decode(b"hello, not a picture")
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"")


def test_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(TooLargeError, match="at most 100 pixels are taken, got 11 x 10"):
        decode(png(0, (10, 11)), max_pixels=100)
    assert decode(png(0, (10, 10)), max_pixels=100).shape == (10, 10, 3)


def test_resize_is_height_width_and_averages() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    small = resize(image, (2, 4))
    assert small.shape == (2, 4, 3)
    assert small[0, 0, 0] < 30 and small[0, 3, 0] > 225
    assert resize(image, (8, 8)) is image


def noise(mode: str = "RGB", side: int = 64) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def handmade_png(stream: bytes, *, width: int = 20, height: int = 20, adam7: bool = False) -> bytes:
    """Grey of 8 bits; every checksum is right, whatever the stream."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, adam7)
    half = len(stream) // 2
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream[:half])
        + chunk(b"IDAT", stream[half:]) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["another"]])
def test_damaged_mpo_is_refused_and_a_whole_one_gives_its_first_picture(extra: list[str]) -> None:
    others = [Image.new("RGB", (64, 64), "white") for _ in extra]
    data = encoded(noise(), "MPO", save_all=True, append_images=others)
    assert decode(data).mean() < 160
    middle = data.index(b"\xff\xda") + 1000
    damaged = data[:middle] + b"\xff" * 20 + data[middle + 20 :]
    with pytest.raises(ImageError, match="damaged"):
        decode(damaged)


def test_damaged_cmyk_jpeg_is_refused() -> None:
    data = encoded(noise("CMYK"), "JPEG")
    assert decode(data).shape == (64, 64, 3)
    middle = len(data) // 2
    damaged = data[:middle] + b"\xff\xd9" + data[middle + 2 :]  # an end before the end
    with Image.open(io.BytesIO(damaged)) as opened:
        opened.load()  # the library fills up in silence
    with pytest.raises(ImageError, match="damaged"):
        decode(damaged)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_jpeg"])
def test_jpeg_in_tiff_is_refused(compression: str) -> None:
    data = encoded(noise(), "TIFF", compression="jpeg")
    if compression == "tiff_jpeg":  # the old kind, tag 259 of value 6
        data = data.replace(struct.pack("<HHIH", 259, 3, 1, 7), struct.pack("<HHIH", 259, 3, 1, 6))
    with pytest.raises(ImageError, match="damage cannot be told .compression [67]"):
        decode(data)
    assert (decode(encoded(noise(), "TIFF", compression="tiff_lzw")) == np.asarray(noise())).all()


def test_png_with_right_checksums_and_too_short_a_stream_is_refused() -> None:
    rows = (b"\0" + b"\xff" * 20) * 20
    assert decode(handmade_png(zlib.compress(rows))).min() == 255
    for short in (rows[:-1], rows[: 21 * 10], b""):
        with pytest.raises(ImageError, match=f"must be 420 bytes.*holds {len(short)}"):
            decode(handmade_png(zlib.compress(short)))
    with pytest.raises(ImageError, match="holds more"):
        decode(handmade_png(zlib.compress(rows + bytes(10_000_000))))
    with pytest.raises(ImageError, match="must have an end"):
        decode(handmade_png(zlib.compress(rows)[:-4]))


def test_png_whose_checksum_is_wrong_is_refused() -> None:
    data = bytearray(handmade_png(zlib.compress((b"\0" + b"\xff" * 20) * 20)))
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of the last IDAT's checksum
    with pytest.raises(ImageError, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (20, 13)])
def test_interlaced_png_is_counted_by_its_passes(width: int, height: int) -> None:
    rows = b""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
             (0, 1, 1, 2))  # fmt: skip
    for left, top, across, down in steps:
        columns = len(range(left, width, across))
        rows += (b"\0" + b"\xff" * columns) * len(range(top, height, down)) if columns else b""
    whole, short = (
        handmade_png(zlib.compress(r), width=width, height=height, adam7=True)
        for r in (rows, rows[:-1])
    )
    assert decode(whole).min() == 255
    with pytest.raises(ImageError, match="damaged"):
        decode(short)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("side", [1, 7, 65])
def test_sound_png_of_any_depth_passes_the_count(mode: str, side: int) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((side, side), 9000, np.uint16))
    else:
        image = noise("L", side).convert(mode)
    assert decode(encoded(image, "PNG")).shape == (side, side, 3)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_pictures_in_a_file_are_refused(image_format: str) -> None:
    second = Image.new("RGB", (64, 64), "white")
    data = encoded(noise(), image_format, save_all=True, append_images=[second])
    with pytest.raises(ImageError, match="must hold one picture, got a .* of several"):
        decode(data)
    assert decode(encoded(noise(), image_format)).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_wide_grey_costs_little_more_than_its_answer(kind: type[np.generic]) -> None:
    data = encoded(Image.fromarray(np.full((2000, 2000), 25700, kind)), "TIFF")
    tracemalloc.start()  # counts NumPy's arrays and Python's bytes
    image = decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (image == 100).all()
    assert peak < 2.5 * image.nbytes


def test_wide_grey_out_of_range_is_named() -> None:
    data = encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF")
    with pytest.raises(ImageError, match=r"must lie in \[0, 65535\], got \[0, 70000\]"):
        decode(data)


def test_pixels_are_counted_without_decoding() -> None:
    assert count_pixels(png(0, (10, 11))) == 110
    assert count_pixels(b"no picture") == 0


def photograph(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(3)
    coarse = rng.integers(60, 200, (height // 40, width // 40, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 3, (height, width, 3))
    return Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("needed", "got"),
    [
        ((224, 224), (800, 1600)),  # a half of 800 rows would be less than twice 224
        ((200, 224), (400, 800)),
        ((100, 100), (200, 400)),
        ((50, 50), (100, 200)),
        ((8, 8), (100, 200)),  # no less than an eighth
        ((401, 100), (800, 1600)),
        ((800, 1600), (800, 1600)),
        ((2000, 2000), (800, 1600)),
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(
    needed: tuple[int, int], got: tuple[int, int]
) -> None:
    data = encoded(photograph(800, 1600), "JPEG", quality=92)
    found = decode_for(data, lambda size: needed if size == (800, 1600) else (0, 0))
    assert found.image.shape == (*got, 3)
    assert found.size == (800, 1600)
    difference = resize(found.image, needed).astype(int) - resize(decode(data), needed)
    assert np.abs(difference).max() <= (30 if needed == (8, 8) else 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_needed_is_said_of_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(photograph(400, 1200), "JPEG", exif=exif)
    upright = (400, 1200) if orientation < 5 else (1200, 400)
    asked: list[tuple[int, int]] = []

    def needed(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return (100, 100)

    found = decode_for(data, needed)
    assert asked == [upright]
    assert found.size == upright
    assert found.image.shape[:2] == (upright[0] // 2, upright[1] // 2)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_decoded_whole(image_format: str) -> None:
    data = encoded(photograph(400, 600), image_format)
    found = decode_for(data, lambda size: (10, 10))
    assert found.image.shape == (400, 600, 3)
    assert found.size == (400, 600)


def test_a_damaged_jpeg_is_refused_however_small_it_is_decoded() -> None:
    data = encoded(photograph(800, 1600), "JPEG")
    with pytest.raises(ImageError, match="damaged"):
        decode_for(data[: len(data) * 3 // 4], lambda size: (8, 8))


def test_a_size_that_is_refused_is_refused_before_anything_is_decoded() -> None:
    def needed(size: tuple[int, int]) -> tuple[int, int]:
        raise ImageError(f"too many tiles for {size}")

    with pytest.raises(ImageError, match=r"too many tiles for \(400, 600\)"):
        decode_for(encoded(photograph(400, 600), "JPEG"), needed)


def test_a_grey_jpeg_is_decoded_smaller_too() -> None:
    data = encoded(photograph(400, 600).convert("L"), "JPEG")
    assert decode_for(data, lambda size: (50, 50)).image.shape == (100, 150, 3)
