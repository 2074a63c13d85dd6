"""GIF and WebP: whole to the last block, frames counted, none larger than the canvas."""

import struct

from segmentation.errors import ImageError

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B


def check_gif(data: bytes) -> int:
    """Walk through all blocks of a GIF; return the number of its frames.

    Raises
    ------
    ImageError
        It is cut short, or a frame reaches over the canvas.

    Notes
    -----
    O(file / 255) time; nothing is decoded.
    """
    try:
        return _walk(data)
    except (IndexError, struct.error) as error:
        raise ImageError(f"GIF cut short: it ends at byte {len(data):,} without an end mark") from error


def _walk(data: bytes) -> int:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette_bytes(flags)
    frames = 0
    while (kind := data[at]) != _TRAILER:
        if kind == _IMAGE:
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if left + across > width or top + down > height:
                raise ImageError(f"damaged GIF: frame {frames + 1} reaches over the {height}×{width} canvas")
            frames += 1
            at = _after_blocks(data, at + 11 + _palette_bytes(flags))
        elif kind == _EXTENSION:
            at = _after_blocks(data, at + 2)
        else:
            raise ImageError(f"damaged GIF: a block of kind {kind}")
    return frames


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1


def check_webp(data: bytes) -> int:
    """Walk through the chunks of a WebP file; return the number of its frames.

    Raises
    ------
    ImageError
        It is cut short.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ImageError(f"WebP cut short: its data ends at byte {end:,} of {len(data):,}")
    at, frames = 12, 0
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        frames += name == b"ANMF"
        at += 8 + length + length % 2
    if at > end + 1:
        raise ImageError(f"WebP cut short: a chunk ends at byte {at:,} of {end:,}")
    return frames or 1
