"""PNG: every checksum is looked at, and the compressed pixels are as many as the header says."""

import struct
import zlib
from collections.abc import Iterator

from segmentation.errors import ImageError

_SIGNATURE_BYTES = 8
#: Bytes of compressed pixels are unpacked in pieces of this size and counted.
_PIECE = 2**20
#: First column, first row, column step, row step of Adam7's passes.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def chunks_of(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and body of every chunk to the end mark, each with a right checksum.

    Raises
    ------
    ImageError
        A checksum is wrong, or the file ends before its end mark.
    """
    view = memoryview(data)
    at = _SIGNATURE_BYTES
    name = b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise ImageError(f"PNG cut short: it ends at byte {len(data):,} without an end mark")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ImageError(f"PNG cut short: a chunk ends at byte {end:,} of {len(data):,}")
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageError(f"damaged PNG: the checksum of chunk {name.decode('latin-1')!a} is wrong")
        yield name, view[at + 8 : end - 4]
        at = end


def count_png_frames(data: bytes) -> int:
    """Count the frames of an animated PNG; 1 for any other."""
    for name, body in chunks_of(data):
        if name == b"acTL" and len(body) == 8:
            return int(struct.unpack_from(">I", body)[0]) or 1
        if name == b"IDAT":
            break
    return 1


def check_png(data: bytes) -> None:
    """Hold a PNG against its checksums and its size.

    Raises
    ------
    ImageError
        A checksum is wrong, of a chunk or of the pixels, or there are fewer or more pixels than declared.

    Notes
    -----
    O(file + pixels) time, one megabyte of memory: pixels are unpacked, counted and dropped. Decoders stop at the last
    pixel and so never see the checksum behind it.
    """
    unpacker = zlib.decompressobj()
    expected = unpacked = 0
    names: list[bytes] = []
    for name, body in chunks_of(data):
        if name == b"IHDR":
            if names:
                raise ImageError("damaged PNG: two headers")
            expected = _unpacked_bytes(bytes(body))
        elif name == b"IDAT":
            if b"IDAT" in names and names[-1] != b"IDAT":
                raise ImageError("damaged PNG: its pixels are not in one piece")
            unpacked += _count(unpacker, body, expected - unpacked)
        names.append(name)
    if unpacked != expected or not unpacker.eof:
        raise ImageError(f"damaged PNG: its pixels unpack to {unpacked:,} of {expected:,} bytes")


def _unpacked_bytes(header: bytes) -> int:
    width, height, depth, color, packing, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(color, ()) or packing or filtering or interlaced > 1:
        raise ImageError(f"damaged PNG: depth {depth}, colour type {color}, interlacing {interlaced}")
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * depth * _SAMPLES[color] + 7) // 8)
    return total


def _count(unpacker: "zlib._Decompress", packed: memoryview, allowed: int) -> int:
    found = 0
    rest: bytes | memoryview = packed
    try:
        while rest and not unpacker.eof:
            found += len(unpacker.decompress(rest, _PIECE))
            rest = unpacker.unconsumed_tail
            if found > allowed:
                raise ImageError("damaged PNG: more pixels than its header declares")
        if not rest:
            while not unpacker.eof and (more := unpacker.decompress(b"", _PIECE)):
                found += len(more)
    except zlib.error as error:
        raise ImageError(f"damaged PNG: its pixels cannot be unpacked ({error})") from error
    return found
