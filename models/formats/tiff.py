"""Find the damage of a TIFF that a decoder passes over in silence, and what it costs to open."""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from twonines.errors import ImageError

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _SUB_IFDS = 277, 284, 330
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_COLOURS = 320
_COARSENESS, _FILL_ORDER = 530, 266
_DEPTHS = {1, 2, 4, 8, 16, 32}
_LONG_LISTS = frozenset((_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES, _COLOURS))
_APART, _YCBCR = 2, 6
_RAW, _LZW, _DEFLATE, _OLD_DEFLATE = 1, 5, 8, 32946
_TOLD = {_RAW, _LZW, _DEFLATE, _OLD_DEFLATE}
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TEXT, _BYTES, _FIRST_BLOB = 2, frozenset((1, 7)), 700
MOST_PARTS = 200_000
_MOST_ENTRIES, _MOST_VALUES, _FREE_TILE = 1000, 4096, 1024
_STEP, _PIECE = 2**18, 2**16


@dataclass(frozen=True, slots=True)
class _Directory:
    """The tags of the first picture: type, count and where the values lie."""

    data: bytes
    order: str
    tags: dict[int, tuple[int, int, int]]
    follows: bool

    def many(self, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """The whole numbers of a tag."""
        if tag not in self.tags:
            return default
        kind, count, place = self.tags[tag]
        return struct.unpack_from(f"{self.order}{count}{_INTEGERS[kind]}", self.data, place)

    def one(self, tag: int, default: int) -> int:
        """The only number of a tag."""
        return self.many(tag, (default,))[0]

    def count(self, tag: int) -> int:
        """How many values a tag has."""
        return self.tags[tag][1] if tag in self.tags else 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """Strips or tiles: ``across`` and ``down`` pixels each, in layers of so many bits a pixel."""

    across: int
    down: int
    height: int
    layers: tuple[int, ...]
    each: int
    is_tiled: bool

    def row_bytes(self, number: int) -> int:
        """Bytes of a row of one part."""
        return (self.across * self.layers[number // self.each] + 7) // 8

    def rows(self, number: int) -> int:
        """Rows of one part; the last strip has what is left."""
        done = number % self.each * self.down
        return self.down if self.is_tiled else min(self.down, self.height - done)


def check_tiff(data: bytes) -> None:
    """Check the first picture's directory, and that there is no other.

    Raises:
        ImageError: a part is not there; the compression is one whose damage cannot be told; there
            are several pictures; or what it announces costs far more than its picture.
        struct.error, LookupError: the directory is cut.
    """
    if data[:4] not in _MAGICS:
        raise ImageError("image: TIFF must begin with its byte order and 42 or 43 in that order")
    found = _read(data)
    if found.follows or _SUB_IFDS in found.tags or found.one(_SUBFILE, 0) & 1:
        raise ImageError(
            "image: must hold one picture, got a TIFF of several pages, or a preview of another"
        )
    for tag, (kind, count, _) in found.tags.items():
        is_private = tag >= _FIRST_BLOB
        most = MOST_PARTS if tag in _LONG_LISTS or is_private else _MOST_VALUES
        if count > most and not (kind == _TEXT or (is_private and kind in _BYTES)):
            raise ImageError(f"image: tag {tag} of a TIFF may have {most} values, got {count}")
    _check_kind(found)
    _check_parts(found)


def _check_kind(found: _Directory) -> None:
    """Refuse compressions whose damage cannot be told, and samples that come out as others."""
    compression, photometric = found.one(_COMPRESSION, _RAW), found.one(_PHOTOMETRIC, 1)
    depths = found.many(_BITS, (1,))
    bits = max(depths)
    # Where colours are stored coarser, a part has fewer bytes than its pixels tell.
    coarse = photometric == _YCBCR and found.many(_COARSENESS, (2, 2)) != (1, 1)
    if compression not in _TOLD or coarse:
        raise ImageError(
            "image: TIFF must be uncompressed, or compressed by LZW or deflate, "
            f"got one whose damage cannot be told (compression {compression}, photometric "
            f"{photometric})"
        )
    if not set(depths) <= _DEPTHS or len(depths) not in (1, found.one(_SAMPLES, 1)):
        raise ImageError(
            "image: TIFF must have 1, 2, 4, 8, 16 or 32 bits for each of its samples, got "
            f"{depths[:8]}"
        )
    if found.one(_FILL_ORDER, 1) != 1 and compression != _RAW:
        raise ImageError("image: TIFF must have its highest bits first, got FillOrder 2")
    if photometric == 0 and bits > 8:
        raise ImageError("image: TIFF of more than 8 bits must have black at 0, got white at 0")


def _check_parts(found: _Directory) -> None:
    """Refuse parts that are not as many as the picture needs, or far larger than it."""
    if _TILE_OFFSETS in found.tags and _STRIP_OFFSETS in found.tags:
        raise ImageError("image: the TIFF must be in strips or in tiles, the file is damaged")
    parts = _parts(found)
    offsets = _TILE_OFFSETS if parts.is_tiled else _STRIP_OFFSETS
    wanted = parts.each * len(parts.layers)
    if found.count(offsets) != wanted:
        raise ImageError(
            f"image: the TIFF's picture must be in {wanted} parts, the file is damaged and holds "
            f"{found.count(offsets)}"
        )
    width = found.one(_WIDTH, 0)
    free = 4 * width * parts.height + _FREE_TILE**2
    if parts.is_tiled and parts.each * parts.across * parts.down > free:
        raise ImageError(
            f"image: a TIFF's tiles must be no larger than its picture, got {parts.each} of "
            f"{parts.across} x {parts.down}"
        )


def verify_tiff(data: bytes) -> None:
    """Check that every strip or tile is in the file, whole.

    Pillow leaves black what the header names no strip for, and takes whatever lies at the place
    of one that was never written. What is compressed by deflate is inflated, because libtiff stops
    where a part is full and never looks at its checksum; LZW breaks where bytes are missing.

    Raises:
        ImageError: a part is missing, or holds other than its rows.
    """
    found = _read(data)
    parts = _parts(found)
    compression = found.one(_COMPRESSION, _RAW)
    offsets = found.many(_TILE_OFFSETS if parts.is_tiled else _STRIP_OFFSETS, ())
    counts = found.many(_TILE_BYTES if parts.is_tiled else _STRIP_BYTES, ())
    places = sorted(zip(offsets, counts or (1,) * len(offsets), strict=True))
    # Parts that share bytes show the same rows twice, and inflating each can cost its square.
    if any(one + held > other for (one, held), (other, _) in pairwise(places) if other):
        raise ImageError("image: the TIFF's parts must lie apart, the file is damaged")
    for number, offset in enumerate(offsets):
        need = parts.rows(number) * parts.row_bytes(number)
        # Old writers leave the lengths out: then it is enough that the file is long enough.
        length = counts[number] if counts else len(data) - offset
        held = min(length, len(data) - offset) if offset else 0
        most = parts.down * parts.row_bytes(number)
        if compression in (_DEFLATE, _OLD_DEFLATE):
            held = _inflated(data, offset, offset + held, most)
        elif compression != _RAW:
            need, most = 1, held
            held = held if held == length else 0
        elif not counts or len(offsets) > 1:
            most = held
        if not need <= held < most + max(1, parts.row_bytes(number)):
            raise ImageError(
                f"image: part {number + 1} of the TIFF's picture must have {need} bytes, the file "
                f"is damaged and holds {max(0, held)}"
            )


def _inflated(data: bytes, place: int, end: int, most: int) -> int:
    """Bytes that a stream inflates to; 0 where it is damaged, has no end, or more than ``most``."""
    inflater, total = zlib.decompressobj(), 0
    rest = b""
    try:
        while not inflater.eof and total <= most:
            # In pieces: the inflater copies what it has not consumed with every call.
            given = rest or data[place : (place := min(place + _PIECE, end))]
            piece = inflater.decompress(given, _STEP)
            rest = inflater.unconsumed_tail
            if not piece and not given:
                break
            total += len(piece)
    except zlib.error:
        return 0
    return total if inflater.eof else 0  # without an end there was no checksum either


def _read(data: bytes) -> _Directory:
    order = "<" if data[:2] == b"II" else ">"
    # BigTIFF counts and points with 8 bytes.
    is_big = b"+" in data[2:4]
    number, step, place = ("Q", 20, 8) if is_big else ("I", 12, 4)
    (start,) = struct.unpack_from(order + number, data, place)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)
    if count > _MOST_ENTRIES:
        raise ImageError(f"image: a TIFF may have {_MOST_ENTRIES} tags, got {count}")
    start += 8 if is_big else 2
    tags = {}
    for entry in range(start, start + count * step, step):
        tag, kind, values = struct.unpack_from(f"{order}HH{number}", data, entry)
        inline = entry + (12 if is_big else 8)
        if _SIZES.get(kind, 1) * values > (8 if is_big else 4):
            (inline,) = struct.unpack_from(order + number, data, inline)
        if tag in tags:
            raise ImageError(f"image: a TIFF must have tag {tag} once, the file is damaged")
        tags[tag] = (kind, values, inline)
    (following,) = struct.unpack_from(order + number, data, start + count * step)
    return _Directory(data, order, tags, following != 0)


def _parts(found: _Directory) -> _Parts:
    width, height = found.one(_WIDTH, 0), found.one(_HEIGHT, 0)
    bits = found.many(_BITS, (1,))
    bits = bits if len(bits) > 1 else bits * found.one(_SAMPLES, 1)
    layers = bits if found.one(_PLANAR, 1) == _APART else (sum(bits),)
    is_tiled = _TILE_OFFSETS in found.tags
    across, down = width, min(height, found.one(_STRIP_ROWS, height))
    if is_tiled:
        across, down = found.one(_TILE_WIDTH, 0), found.one(_TILE_HEIGHT, 0)
    if not (across and down):
        raise ImageError("image: the TIFF must have a width and a height, the file is damaged")
    each = -(-width // across) * -(-height // down)
    return _Parts(across, down, height, layers, each, is_tiled)
