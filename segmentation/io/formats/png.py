"""PNG: every checksum is looked at, and the compressed pixels are as many as the header says.

Decoders are given the chunks that decide on pixels: profiles and texts may be of any size, and are never unpacked.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.animation import Disposal, Piece, shown_frame
from segmentation.io.formats.pillow import decode_pillow, orientation_in
from segmentation.planning import Header

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


def decode_png(data: bytes, header: Header, frame: int) -> tuple[Image, int]:
    """Decode a PNG, or one frame of an animated one as a player shows it; return its pixels and its orientation.

    Raises
    ------
    ImageError
        As `check_png`.
    """
    picture = check_png(data)
    orientation = orientation_in(picture.exif)
    if picture.frames:
        pixels = shown_frame(data, _pieces, (header.height, header.width), frame)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels, orientation
    if header.itemsize == 1 or picture.header[9] == 0:
        return decode_pillow(picture.plain(picture.header, picture.packed), "PNG", header, 0)[0], orientation
    pixels = _with_alpha(picture, picture.header, picture.packed)  # Pillow would keep 8 of 16 bits
    return pixels[..., 0] if pixels.shape[2] <= 2 else pixels[..., :3], orientation


def count_png_frames(data: bytes) -> int:
    """Count the frames of an animated PNG; 1 for any other."""
    return len(_read(data).frames) or 1


@dataclass
class _Frame:
    """Size and place of a frame, how it is drawn, and its compressed pixels."""

    width: int
    height: int
    left: int
    top: int
    disposal: int
    blending: int
    packed: list[memoryview] = field(default_factory=list)


@dataclass
class _Picture:
    """The chunks of a PNG that decide on its pixels."""

    header: bytes = b""
    palette: bytes = b""
    packed: list[memoryview] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=list)
    exif: bytes = b""
    #: As the animation declares.
    n_frames: int = 0

    def plain(self, header: bytes, packed: list[memoryview]) -> bytes:
        """Return a PNG of these pixels and no notes."""
        body = chunk(b"IHDR", header) + self.palette + b"".join(chunk(b"IDAT", part) for part in packed)
        return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes | memoryview) -> bytes:
    """Return a chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + bytes(body) + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def check_png(data: bytes) -> _Picture:
    """Hold a PNG against its checksums and its size; return what decides on its pixels.

    Raises
    ------
    ImageError
        A checksum is wrong, of a chunk or of the pixels, there are fewer or more pixels than declared, in any frame,
        or frames are missing, out of order or beyond the canvas.

    Notes
    -----
    O(file + pixels) time, one megabyte of memory: pixels are unpacked, counted and dropped. Decoders stop at the last
    pixel and so never see the checksum behind it.
    """
    picture = _read(data)
    _check_pixels(picture.header, picture.packed)
    return picture


def _check_pixels(header: bytes, packed: list[memoryview]) -> None:
    expected, unpacked = _unpacked_bytes(header), 0
    unpacker = zlib.decompressobj()
    for part in packed:
        unpacked += _count(unpacker, part, expected - unpacked)
    if unpacked != expected or not unpacker.eof:
        raise ImageError(f"damaged PNG: its pixels unpack to {unpacked:,} of {expected:,} bytes")


def _read(data: bytes) -> _Picture:
    picture = _Picture()
    sequence = 0
    before = b""
    for name, body in chunks_of(data):
        if name not in (b"fcTL", b"fdAT"):
            _read_chunk(name, body, picture, before)
        elif picture.n_frames:
            _read_frame(name, body, picture, sequence)
            sequence += 1
        before = name
    if picture.header[9:10] == b"\x03" and b"PLTE" not in picture.palette[4:8]:
        raise ImageError("damaged PNG: its palette is missing")
    if len(picture.frames) != picture.n_frames:
        raise ImageError(f"damaged PNG: {len(picture.frames):,} of {picture.n_frames:,} frames")
    return picture


def _read_chunk(name: bytes, body: memoryview, picture: _Picture, before: bytes) -> None:
    if name == b"IHDR":
        if picture.header:
            raise ImageError("damaged PNG: two headers")
        picture.header = bytes(body)
    elif name == b"IDAT":
        if picture.packed and before != b"IDAT":
            raise ImageError("damaged PNG: its pixels are not in one piece")
        picture.packed.append(body)
        if picture.frames:
            picture.frames[0].packed.append(body)
    elif name in (b"PLTE", b"tRNS"):
        picture.palette += chunk(name, body)
    elif name == b"eXIf":
        picture.exif = bytes(body)
    elif name == b"acTL" and len(body) == 8 and not picture.packed:
        (picture.n_frames,) = struct.unpack_from(">I", body)
    elif name != b"IEND" and name[:1].isupper():
        raise ImageError(f"PNG with a chunk {name.decode('latin-1')!a}, which is not known and must not be ignored")


def _read_frame(name: bytes, body: memoryview, picture: _Picture, sequence: int) -> None:
    """Read the head of a frame, or some of its pixels."""
    is_head = name == b"fcTL"
    if len(body) < 4 or int.from_bytes(body[:4]) != sequence or not (is_head or picture.frames):
        raise ImageError("damaged PNG: its frames are not in order")
    if not is_head:
        picture.frames[-1].packed.append(body[4:])
        return
    if len(body) != 26:
        raise ImageError("damaged PNG: the head of a frame")
    width, height, left, top, disposal, blending = struct.unpack(">4x4I4xBB", body)
    across, down = struct.unpack_from(">II", picture.header)
    if not width or not height or left + width > across or top + height > down or disposal > 2 or blending > 1:
        raise ImageError(
            f"damaged PNG: frame {len(picture.frames) + 1} of {height}×{width} on a {down}×{across} canvas"
        )
    picture.frames.append(_Frame(width, height, left, top, disposal, blending))


_DISPOSALS: tuple[Disposal, ...] = ("keep", "clear", "restore")


def _pieces(data: bytes) -> Iterator[Piece]:
    picture = _read(data)
    for frame in picture.frames:
        header = struct.pack(">II", frame.width, frame.height) + picture.header[8:]
        _check_pixels(header, frame.packed)
        pixels = _with_alpha(picture, header, frame.packed)
        if pixels.shape[2] % 2:
            opaque = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
            pixels = np.concatenate([pixels, opaque], axis=2)
        yield Piece(pixels, frame.top, frame.left, _DISPOSALS[frame.disposal], bool(frame.blending))


def _with_alpha(picture: _Picture, header: bytes, packed: list[memoryview]) -> Image:
    """Decode pixels of any depth, palettes looked up, alpha last where there is any; shape (m, n, channels)."""
    import imagecodecs

    if not header[12]:
        pixels: Image = imagecodecs.png_decode(picture.plain(header, packed))
        return pixels.reshape(*pixels.shape[:2], -1)
    # libpng warns on the terminal when rows of interlaced pictures are read; each pass is a picture, too.
    width, height = struct.unpack_from(">II", header)
    stream, at = memoryview(zlib.decompress(b"".join(packed))), 0
    whole: Image | None = None
    for left, top, across, down in _PASSES:
        size = struct.pack(">II", max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down)))
        part = size + header[8:12] + b"\0"
        count = _unpacked_bytes(part)
        if count:
            pixels = _with_alpha(picture, part, [memoryview(zlib.compress(stream[at : at + count], 0))])
            whole = np.zeros((height, width, pixels.shape[2]), pixels.dtype) if whole is None else whole
            whole[top::down, left::across] = pixels
            at += count
    if whole is None:
        raise ImageError("damaged PNG: it has no pixels")
    return whole


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
        raise ImageError("damaged PNG: its pixels cannot be unpacked") from error
    return found
