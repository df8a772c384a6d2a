"""The picture of an inspection, and the picture that shows its verdict."""

import numpy as np

from twonines.models.formats.ppm import MAGIC
from twonines.models.image import decode, encode_png
from twonines.models.inspector import Inspector
from twonines.models.overlay import draw, explain, open_picture
from twonines.types import Inspection

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (MAGIC, "image/x-portable-pixmap"),
)


def media_type(data: bytes) -> str:
    """The type of an encoded picture by its first bytes; never one that a browser would run."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    found = (kind for head, kind in _KINDS if data.startswith(head))
    return next(found, "application/octet-stream")


def viewable(data: bytes) -> bytes:
    """An encoded picture as a browser shows it: raw pixels as PNG, all else as it is; blocks."""
    return encode_png(decode(data, max_pixels=len(data))) if data.startswith(MAGIC) else data


def overlay_png(
    inspector: Inspector | None,
    data: bytes,
    reference: bytes | None,
    recorded: Inspection | None,
    max_pixels: int,
) -> bytes:
    """A PNG of the picture, the model's map, the regions and the verdict; blocks.

    Args:
        inspector: of the model that inspected; None draws no map.
        data: the encoded picture.
        reference: its encoded reference.
        recorded: the verdict as it was given; without one, the inspector's.
        max_pixels: of the picture.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    if inspector is None:
        assert recorded is not None
        image = decode(data, max_pixels=max_pixels)
        return encode_png(draw(image, np.zeros((1, 1), np.float32), recorded))
    golden = None if reference is None else decode(reference, max_pixels=max_pixels)
    if recorded is None:
        return encode_png(explain(inspector, data, golden, max_pixels=max_pixels)[1])
    picture, image = open_picture(inspector, data, golden, max_pixels=max_pixels)
    outputs = inspector.outputs(picture)
    return encode_png(draw(image, outputs.defect_map[0], recorded))
