"""JPEG 2000: every tile part is there to the end mark, and there are not too many."""

import struct

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import codestream_at

#: A decoder makes room for all tiles before it reads the first.
MAX_TILES = 10_000
_MAX_LAYERS = 100
#: Precincts of a tile and resolution, at most: a decoder makes room for all of them, too.
_MAX_PRECINCTS = 100_000
_SIZE, _CODING, _TILE_PART, _END = 0xFF51, 0xFF52, 0xFF90, 0xFFD9


def check_jpeg2000(data: bytes) -> None:
    """Walk through the codestream of a JPEG 2000 file up to its end mark.

    Raises
    ------
    ImageError
        It is cut short, or divided into more tiles, layers or precincts than any picture needs.
    """
    try:
        _walk(data, codestream_at(data) + 2)
    except (IndexError, struct.error) as error:
        raise ImageError(f"JPEG 2000 cut short: it ends at byte {len(data):,} without an end mark") from error


def _walk(data: bytes, at: int) -> None:
    tile_side = 0
    while True:
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _END:
            return
        if marker == _TILE_PART:
            (length,) = struct.unpack_from(">I", data, at + 6)
            if length == 0:  # the last one: to the end mark
                if data[-2:] != b"\xff\xd9":
                    raise IndexError
                return
            if length < 14:
                raise ImageError(f"damaged JPEG 2000: a tile part of {length} bytes")
            at += length
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == _SIZE:
            tile_side = _check_tiles(data, at)
        elif marker == _CODING:
            _check_coding(data, at, length, tile_side)
        elif marker < 0xFF00 or length < 2:
            raise ImageError("damaged JPEG 2000: a marker is missing")
        at += 2 + length


def _check_tiles(data: bytes, at: int) -> int:
    x1, y1, _, _, tile_x, tile_y, left, top = struct.unpack_from(">8I", data, at + 6)
    if not tile_x or not tile_y or left >= x1 or top >= y1:
        raise ImageError("damaged JPEG 2000: tiles without pixels")
    tiles = -(-(x1 - left) // tile_x) * -(-(y1 - top) // tile_y)
    if tiles > MAX_TILES:
        raise ImageError(f"JPEG 2000 in {tiles:,} tiles; {MAX_TILES:,} are allowed")
    return int(max(min(tile_x, x1), min(tile_y, y1)))


def _check_coding(data: bytes, at: int, length: int, tile_side: int) -> None:
    style, _, layers, _, levels = struct.unpack_from(">BBHBB", data, at + 4)
    if layers > _MAX_LAYERS or levels > 32:
        raise ImageError(f"JPEG 2000 with {layers:,} layers, {levels} levels; {_MAX_LAYERS} and 32 are allowed")
    if style & 1:
        for level, size in enumerate(data[at + 14 : at + 2 + length]):
            side = tile_side >> (levels - level)
            precincts = ((side >> (size & 15)) + 1) * ((side >> (size >> 4)) + 1)
            if precincts > _MAX_PRECINCTS:
                raise ImageError(f"JPEG 2000 in {precincts:,} precincts a tile; {_MAX_PRECINCTS:,} are allowed")


def decode_deep_jpeg2000(data: bytes) -> Image:
    """Decode more than eight bits; Pillow would keep eight of colours."""
    import imagecodecs

    pixels: Image = imagecodecs.jpeg2k_decode(data)
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    return pixels
