"""Find a second picture behind the end of the first, which no decoder would look at."""

import re

from twonines.errors import ImageError

# What writers and cameras put between two: another end mark, fill, or the head of the next part of
# a multipart stream.
_JOINED = re.compile(
    # Possessive: else the engine remembers every byte of a long fill.
    rb"[\0\s\xff\xd9]*+(?:--[^\r\n]{1,200}\r\n(?:[^\r\n]{1,1000}\r\n){0,20}\r\n)?"
    rb"(?:(?<=\xff)\xd8\xff|\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|BM....\0\0\0\0)",
    re.DOTALL,
)


def refuse_joined(data: bytes, end: int, kind: str) -> None:
    """Refuse a file in which another picture follows the one that ends at ``end``.

    Other bytes behind a picture, such as a camera's notes, are let be.

    Raises:
        ImageError: a known picture begins there.
    """
    if _JOINED.match(data, end):
        raise ImageError(f"image: must hold one picture, got a {kind} with a second behind it")
