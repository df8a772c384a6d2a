"""Find the damage of an uncompressed TIFF that a decoder passes over in silence."""

from typing import Any

from PIL.TiffImagePlugin import TiffImageFile

from twonines.errors import ImageError

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _PLANAR = 256, 257, 258, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_APART = 2


def verify_tiff(opened: TiffImageFile, length: int) -> None:
    """Check that every strip or tile of the header's picture is in the file, whole.

    Pillow leaves black what the header names no strip for, and takes whatever lies at the place
    of one that was never written. Compressed ones are checked by their decoder.

    Args:
        opened: the picture, not loaded yet.
        length: bytes of the file.

    Raises:
        ImageError: a strip or tile is missing, or shorter than its rows.
    """
    if opened.info.get("compression") != "raw":
        return
    tags: Any = opened.tag_v2
    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    wanted = _wanted_bytes(tags, tiled)
    if len(offsets) != len(wanted):
        raise ImageError(
            f"image: the TIFF's picture must be in {len(wanted)} parts, the file is damaged and "
            f"holds {len(offsets)}"
        )
    # Old writers leave the lengths out: then it is enough that the file is long enough.
    counts = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, wanted)
    for number, (need, offset, count) in enumerate(zip(wanted, offsets, counts, strict=True)):
        held = min(count, length - offset) if offset else 0
        if held < need:
            raise ImageError(
                f"image: part {number + 1} of the TIFF's picture must have {need} bytes, the file "
                f"is damaged and holds {max(0, held)}"
            )


def _wanted_bytes(tags: Any, tiled: bool) -> list[int]:
    """Bytes of each strip or tile, in the order of the file."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    bits = tags.get(_BITS, (1,))
    bits = bits if len(bits) > 1 else bits * tags.get(_SAMPLES, 1)
    layers = [(one,) for one in bits] if tags.get(_PLANAR) == _APART else [bits]
    if tiled:
        across, down = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
        rows = [down] * (-(-width // across) * -(-height // down))
    else:
        across, down = width, min(height, tags.get(_STRIP_ROWS, height))
        rows = [min(down, height - top) for top in range(0, height, down)]
    return [each * ((across * sum(layer) + 7) // 8) for layer in layers for each in rows]
