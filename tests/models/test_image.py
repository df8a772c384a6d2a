import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.images import png
from twonines.errors import ImageError, ImageTypeError, TooLargeError
from twonines.models.image import decode, resize


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
