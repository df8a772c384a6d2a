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
    width, height = tags[_WIDTH], tags[_HEIGHT]
    across, down = width, min(height, tags.get(_STRIP_ROWS, height))
    if tiled:
        across, down = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
    layers = _layers(tags)
    each = -(-width // across) * -(-height // down)
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, ())
    # Counted first: a small file may announce millions of parts.
    if len(offsets) != each * len(layers):
        raise ImageError(
            f"image: the TIFF's picture must be in {each * len(layers)} parts, the file is damaged "
            f"and holds {len(offsets)}"
        )
    counts = tags.get(_TILE_BYTES if tiled else _STRIP_BYTES)
    for number, offset in enumerate(offsets):
        layer, place = divmod(number, each)
        rows = down if tiled else min(down, height - place * down)
        need = rows * ((across * layers[layer] + 7) // 8)
        # Old writers leave the lengths out: then it is enough that the file is long enough.
        held = length - offset if counts is None else min(counts[number], length - offset)
        if not offset or held < need:
            raise ImageError(
                f"image: part {number + 1} of the TIFF's picture must have {need} bytes, the file "
                f"is damaged and holds {max(0, held) if offset else 0}"
            )


def _layers(tags: Any) -> list[int]:
    """Bits of a pixel in each layer: one for all samples, or one for each."""
    bits = tags.get(_BITS, (1,))
    bits = bits if len(bits) > 1 else bits * tags.get(_SAMPLES, 1)
    return list(bits) if tags.get(_PLANAR) == _APART else [sum(bits)]
