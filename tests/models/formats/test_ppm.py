import numpy as np
import pytest

from twonines.errors import ImageError, TooLargeError
from twonines.models.formats.ppm import make_ppm
from twonines.models.image import count_pixels, decode

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)


def test_pixels_come_back_as_they_were() -> None:
    data = make_ppm(PIXELS.tobytes(), 3, 5)
    assert np.array_equal(decode(data), PIXELS)
    assert count_pixels(data) == 15


def test_comments_and_other_blanks_are_read() -> None:
    data = b"P6 # made by hand\n#\n5\t3\n255\n" + PIXELS.tobytes()
    assert np.array_equal(decode(data), PIXELS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P6", "header of the PPM is damaged"),
        (b"P6\n5 3\n255", "header of the PPM is damaged"),
        (b"P6\n-5 3\n255\n", "header of the PPM is damaged"),
        (b"P6\n5 3\n65535\n" + bytes(90), "255 as its largest value, got 65535"),
        (b"P6\n0 3\n255\n", "must have pixels, got 0 x 3"),
        (b"P6\n5 3\n255\n" + bytes(44), "must hold 45 bytes .*, got 44"),
        (b"P6\n5 3\n255\n" + bytes(46), "must hold 45 bytes .*, got 46"),
        (b"P6\n#" + b"x" * 2000 + b"\n5 3\n255\n" + bytes(45), "header of the PPM is damaged"),
        (b"P6" + b"#\n" * 400 + b"\n5 3\n255\n" + bytes(45), "header of the PPM is damaged"),
    ],
)
def test_what_is_not_one_whole_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data)


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(TooLargeError, match="at most 100 pixels are taken, got 999999999 x"):
        decode(b"P6\n999999999 999999999\n255\n", max_pixels=100)
