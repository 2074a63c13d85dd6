"""GIF and WebP: whole to the last block, frames counted; frames of a GIF are drawn as browsers draw them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.animation import Disposal, Piece, shown_frame
from segmentation.io.formats.headers import (
    GIF_EXTENSION,
    GIF_IMAGE,
    declared_header,
    gif_blocks_end,
    gif_palette_bytes,
)
from segmentation.io.formats.pillow import decode_pillow
from segmentation.planning import MAX_PIXELS, Header

_TRAILER, _CONTROL = 0x3B, 0xF9
_DISPOSALS: dict[int, Disposal] = {2: "clear", 3: "restore", 4: "restore"}
#: A palette whose colours are their numbers, so that a decoder returns numbers.
_NUMBERS = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))


def decode_gif(data: bytes, header: Header, frame: int) -> tuple[Image, int]:
    """Decode a GIF, or one frame of an animation as a player shows it; return its pixels and its orientation.

    Raises
    ------
    ImageError
        As `check_gif`, or a frame has fewer pixels than its size.
    """
    return shown_frame(data, _pieces, (header.height, header.width), frame), 1


def check_gif(data: bytes) -> int:
    """Walk through all blocks of a GIF; return the number of its frames.

    The end mark may be missing behind a frame that is whole: browsers show such a file.

    Raises
    ------
    ImageError
        It is cut short, or a frame is larger than any picture.

    Notes
    -----
    O(file / 255) time; nothing is decoded.
    """
    return len(_walk(data))


@dataclass(frozen=True)
class _Frame:
    """Where a frame is drawn and how, its palette, and its compressed numbers."""

    left: int
    top: int
    width: int
    height: int
    is_interlaced: bool
    palette: bytes
    transparent: int | None
    disposal: Disposal
    packed: bytes


def _walk(data: bytes) -> list[_Frame]:
    frames: list[_Frame] = []
    try:
        flags = data[10]
        at = 13 + gif_palette_bytes(flags)
        shared = data[13:at]
        control = (0, 0)
        while not _is_end(data, at, frames):
            kind = data[at]
            if kind == GIF_IMAGE:
                end = gif_blocks_end(data, at + 11 + gif_palette_bytes(data[at + 9]))
                frames.append(_frame(data[at + 1 : end], shared, control, len(frames) + 1))
                control = (0, 0)
                at = end
            elif kind == GIF_EXTENSION:
                if data[at + 1] == _CONTROL and data[at + 2] >= 4:
                    control = data[at + 3], data[at + 6]
                at = gif_blocks_end(data, at + 2)
            else:
                raise ImageError(f"damaged GIF: a block of kind {kind}")
    except (IndexError, struct.error) as error:
        raise ImageError(f"GIF cut short: it ends at byte {len(data):,} within a block") from error
    return frames


def _is_end(data: bytes, at: int, frames: list[_Frame]) -> bool:
    """Tell whether the end mark is here, or behind a frame what stands for it: the file's end, zeros before either."""
    if frames and data[at : at + 1] in (b"", b"\0"):
        return data[at:].lstrip(b"\0")[:1] in (b"", bytes([_TRAILER]))
    return data[at] == _TRAILER


def _frame(stored: bytes, shared: bytes, control: tuple[int, int], number: int) -> _Frame:
    left, top, width, height, flags = struct.unpack_from("<HHHHB", stored)
    if not 0 < width * height <= MAX_PIXELS:
        raise ImageError(f"GIF whose frame {number} has {height}×{width} pixels; 1 to {MAX_PIXELS:,} are allowed")
    begin = 9 + gif_palette_bytes(flags)
    transparent = control[1] if control[0] & 1 else None
    disposal = _DISPOSALS.get(control[0] >> 2 & 7, "keep")
    palette = stored[9:begin] or shared
    return _Frame(left, top, width, height, bool(flags & 64), palette, transparent, disposal, stored[begin:])


def _pieces(data: bytes) -> Iterator[Piece]:
    canvas = declared_header("GIF", data)
    background = _colours(data[13 : 13 + gif_palette_bytes(data[10])])[data[11], :3]
    for frame in _walk(data):
        colours = _colours(frame.palette)
        if frame.transparent is not None:
            colours[frame.transparent, 3] = 0
        numbers = _numbers(frame)[: max(0, canvas.height - frame.top), : max(0, canvas.width - frame.left)]
        yield Piece(colours.take(numbers, axis=0), frame.top, frame.left, frame.disposal, True, tuple(background))


def _colours(palette: bytes) -> Image:
    """Lay a palette out for 256 numbers, with alpha; without one, numbers are greys."""
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 3] = 255
    palette = palette or _NUMBERS
    colours[: len(palette) // 3, :3] = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    return colours


def _numbers(frame: _Frame) -> Image:
    """Unpack the numbers of a frame's colours."""
    size = struct.pack("<HH", frame.width, frame.height)
    start = b"GIF89a" + size + b"\xf7\0\0" + _NUMBERS + b",\0\0\0\0" + size
    plain = start + (b"\x40" if frame.is_interlaced else b"\0") + frame.packed + b";"
    pixels, _ = decode_pillow(plain, "GIF", Header(frame.height, frame.width, 1, 1), 0)
    return pixels


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
