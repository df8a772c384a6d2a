"""Near-duplicates by perceptual hash."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_SIDE = 16
THUMB_SIDE = 16
MAX_BITS = 20
"""Of 256 bits. Re-encoded or slightly shifted pictures stay below."""
MAX_GREY = 4.0
"""Mean difference of the thumbnails in grey levels."""
_ROWS = 1024

Bits = npt.NDArray[np.bool_]
Thumb = npt.NDArray[np.float32]


def fingerprint(image: Image.Image) -> tuple[Bits, Thumb]:
    """Difference hash (256,) bool and grey thumbnail (256,) float32 in [0, 255]."""
    import imagehash

    grey = _grey(image)
    bits: Bits = np.asarray(imagehash.dhash(grey, hash_size=HASH_SIDE).hash, bool).ravel()
    small = grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)
    return bits, np.asarray(small, np.float32).ravel()


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey; 16 bits are scaled as the models' decoder does, where Pillow would cut them."""
    if not image.mode.startswith("I"):
        return image.convert("L")
    wide = np.asarray(image, np.int64).clip(0, 65535)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8))


def near_pairs(
    bits: Sequence[Bits], thumbs: Sequence[Thumb], max_bits: int = MAX_BITS
) -> Iterator[tuple[int, int]]:
    """Index pairs (low, high) of pictures that look alike.

    The hash finds candidates; on flat or regular parts many unlike pictures share it, so the
    thumbnails must agree too.
    """
    if len(bits) < 2:
        return
    # with signs, a . b = 256 - 2 * hamming, so one matrix product compares a block of rows
    signs = np.where(np.stack(bits), 1, -1).astype(np.float32)
    greys = np.stack(thumbs)
    least = signs.shape[1] - 2 * max_bits
    for start in range(0, len(signs), _ROWS):
        rows, columns = np.nonzero(signs[start : start + _ROWS] @ signs.T >= least)
        rows += start
        upper = rows < columns
        rows, columns = rows[upper], columns[upper]
        # blocks again: flat sets give very many candidates
        for at in range(0, len(rows), 65536):
            low, high = rows[at : at + 65536], columns[at : at + 65536]
            alike = np.abs(greys[low] - greys[high]).mean(axis=1) <= MAX_GREY
            yield from zip(low[alike].tolist(), high[alike].tolist(), strict=True)
