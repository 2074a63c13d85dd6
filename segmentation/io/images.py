"""Images in: bytes to arrays. The content decides what a file is, never its name.

Rules: every depth is kept (1 bit becomes 0 or 255); palettes are looked up, CMYK becomes RGB; transparency is
dropped, the colours below it are used as they are; EXIF and TIFF orientation are applied; what holds more than one
picture is refused unless a frame is asked for, as is anything damaged or cut short.
"""

import io
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Image
from segmentation.errors import ImageError, LimitError
from segmentation.io.formats.bmp import decode_bmp
from segmentation.io.formats.gif import check_gif, check_webp, decode_gif
from segmentation.io.formats.headers import MAGIC_BYTES, declared_header, sniff
from segmentation.io.formats.jpeg import decode_jpeg
from segmentation.io.formats.jpeg2000 import decode_jpeg2000
from segmentation.io.formats.pillow import decode_pillow
from segmentation.io.formats.png import count_png_frames, decode_png
from segmentation.io.formats.pnm import decode_pnm
from segmentation.io.formats.tiff import MAX_PAGES, decode_tiff, picture_pages, tiff_header
from segmentation.io.pictures import Picture
from segmentation.planning import MAX_PIXELS, Header

T = TypeVar("T")
Array = TypeVar("Array", bound=NDArray[np.generic])

#: Formats that hold one picture.
WITHOUT_FRAMES = frozenset({"JPEG", "BMP", "JPEG 2000", "PNM"})
#: The header of nearly every picture is in its first bytes; where it is not, all are read.
_START_BYTES = 2**16

#: EXIF orientation → what brings the stored pixels upright.
_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def header_of(file: BinaryIO, *, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Header:
    """Read size, channels and depth of an open image file without decoding it.

    Parameters
    ----------
    file : BinaryIO
        That can be sought in.
    frame : int
        Which page of a TIFF, from 1; 0 is the only one.
    max_pixels : int
        Pixels allowed.

    Raises
    ------
    ImageError
        Not an image of an accepted format, or one without pixels.
    LimitError
        More than `max_pixels` pixels.
    """
    file.seek(0)
    start = file.read(_START_BYTES)
    kind = sniff(start[:MAGIC_BYTES])
    if kind == "TIFF":
        pages = picture_pages(file, file.seek(0, io.SEEK_END))
        header = _guarded(kind, lambda: tiff_header(file, _one_of(pages, frame, kind)))
    else:
        try:
            header = declared_header(kind, start)
        except (IndexError, struct.error):
            file.seek(0)
            header = _whole_header(kind, file.read())
    check_size(header, max_pixels)
    return header


def check_size(header: Header, max_pixels: int) -> None:
    """Refuse a picture without pixels, or with more than `max_pixels`."""
    if header.pixels == 0:
        raise ImageError(f"the image has no pixels ({header.shape_text})")
    if header.pixels > max_pixels:
        raise LimitError(
            f"the header declares {header.shape_text} = {header.pixels:,} pixels; {max_pixels:,} are allowed"
        )


def decode(data: bytes, *, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file held in memory.

    Parameters
    ----------
    data : bytes
        The whole file.
    frame : int
        Which page or frame, from 1; 0 is the only one.
    max_pixels : int
        Pixels allowed.

    Returns
    -------
    image : ndarray, shape (M, N) or (M, N, 3)
        uint8, uint16 or whatever depth a TIFF has; upright.

    Raises
    ------
    ImageError
        Not one whole picture of an accepted format and size.

    Examples
    --------
    >>> decode(b"P2 2 1 255 0 255 ")
    array([[  0, 255]], dtype=uint8)
    """
    return decode_picture(data, frame=frame, max_pixels=max_pixels).pixels


def decode_picture(data: bytes, *, frame: int = 0, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode an image file as `decode` does; also say which of its pixels are data."""
    header = header_of(io.BytesIO(data), frame=frame, max_pixels=max_pixels)
    kind = sniff(data[:MAGIC_BYTES])
    if kind == "TIFF":
        return _guarded(kind, lambda: _decode_tiff(data, frame))
    return Picture(np.ascontiguousarray(_guarded(kind, lambda: _decode(data, kind, header, frame))))


def count_frames(data: bytes) -> int:
    """Count the pages of a TIFF or the frames of an animation; 1 for any other picture.

    Raises
    ------
    ImageError
        Not an image, cut short, or with more frames than `MAX_PAGES`.
    """
    kind = sniff(data[:MAGIC_BYTES])
    return _guarded(kind, lambda: _count(data, kind))


def decode_mask(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Bools:
    """Decode a mask: anything but 0 (in any channel) is segmented.

    Raises
    ------
    ImageError
        As `decode`, saying that it is the mask.
    """
    try:
        picture = decode_picture(data, max_pixels=max_pixels)
    except ImageError as error:
        raise type(error)(f"mask: {error}") from error
    pixels = picture.pixels
    inside = np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0, dtype=np.bool_)
    return inside if picture.valid is None else inside & picture.valid


def _whole_header(kind: str, data: bytes) -> Header:
    try:
        return declared_header(kind, data)
    except (IndexError, struct.error) as error:
        raise ImageError(f"{kind} cut short: it ends within its header, at byte {len(data):,}") from error


def _guarded(kind: str, read: Callable[[], T]) -> T:
    """Turn whatever a decoder raises on damaged data into one reason; decoders promise no exception types."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a decoder that fills missing data only warns
            warnings.simplefilter("ignore", DeprecationWarning)
            return read()
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(_reason(kind, str(error))) from error


def _reason(kind: str, said: str) -> str:
    """Say in our own words why a decoder gave up: its own may hold addresses of memory, and change with its version."""
    for words, reason in _KNOWN.items():
        if any(word in said.lower() for word in words):
            return f"damaged {kind}: {reason}"
    return f"damaged or unsupported {kind}: its decoder cannot make sense of it"


#: Words in a decoder's message → what it means.
_KNOWN = {
    ("truncat", "premature", "failed to read", "not enough"): "its data ends too early",
    ("reshape",): "it holds fewer or more pixels than its header declares",
}


def _decode_tiff(data: bytes, frame: int) -> Picture:
    page = _one_of(picture_pages(io.BytesIO(data), len(data)), frame, "TIFF")
    pixels, valid, orientation = decode_tiff(data, page)
    pixels = np.ascontiguousarray(_upright(pixels, orientation))
    return Picture(pixels, None if valid is None else np.ascontiguousarray(_upright(valid, orientation)))


def _decode(data: bytes, kind: str, header: Header, frame: int) -> Image:
    _one_of(range(_count(data, kind)), frame, kind)
    return _upright(*_DECODERS[kind](data, header, frame))


_DECODERS: dict[str, Callable[[bytes, Header, int], tuple[Image, int]]] = {
    "PNG": decode_png,
    "JPEG": decode_jpeg,
    "GIF": decode_gif,
    "BMP": decode_bmp,
    "WebP": lambda data, header, frame: decode_pillow(data, "WebP", header, frame),
    "JPEG 2000": decode_jpeg2000,
    "PNM": lambda data, _header, _frame: (decode_pnm(data), 1),
}


def _count(data: bytes, kind: str) -> int:
    if kind == "TIFF":
        count = len(picture_pages(io.BytesIO(data), len(data)))
    else:
        count = _COUNTS[kind](data) if kind in _COUNTS else 1
    if count > MAX_PAGES:
        raise ImageError(f"{kind} with {count:,} frames; {MAX_PAGES:,} are allowed")
    return count


_COUNTS: dict[str, Callable[[bytes], int]] = {"PNG": count_png_frames, "GIF": check_gif, "WebP": check_webp}


def _one_of(frames: Sequence[T], frame: int, kind: str) -> T:
    """Choose a frame; without a choice there must be one alone."""
    unit = "page" if kind == "TIFF" else "frame"
    if not frames:
        raise ImageError(f"{kind} without a {unit}")
    if not frame and len(frames) > 1:
        raise ImageError(f"{kind} with {len(frames):,} {unit}s; --frames each makes every one an image of its own")
    if frame > len(frames):
        raise ImageError(f"{kind} with {len(frames):,} {unit}s; there is no number {frame}")
    return frames[max(0, frame - 1)]


def _upright(pixels: Array, orientation: int) -> Array:
    turned: Array = _UPRIGHT.get(orientation, _UPRIGHT[1])(pixels)
    return turned
