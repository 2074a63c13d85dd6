"""Images in: bytes to arrays. The content decides what a file is, never its name.

Rules: every depth is kept (1 bit becomes 0 or 255); palettes are looked up, CMYK becomes RGB; transparency is
dropped, the colours below it are used as they are; EXIF and TIFF orientation are applied; what holds more than one
picture is refused, as is anything damaged or cut short.
"""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from segmentation.arrays import Bools, Image
from segmentation.errors import ImageError
from segmentation.planning import Header

T = TypeVar("T")

MAX_PIXELS = 64_000_000
#: Larger files hold no picture within `MAX_PIXELS` of four channels at eight bytes.
MAX_FILE_BYTES = MAX_PIXELS * 4 * 8
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
_MIN_IS_WHITE, _PALETTE, _SEPARATED = 0, 3, 5

#: EXIF orientation → what brings the stored pixels upright.
_UPRIGHT: dict[int, Callable[[Image], Image]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def read_header(path: str | Path) -> Header:
    """Read size, channels and depth of an image file without decoding it.

    Raises
    ------
    ImageError
        Not an image of an accepted format, or more than `MAX_PIXELS` pixels.
    OSError
        The file cannot be opened.
    """
    with Path(path).open("rb") as file:
        return header_of(file)


def header_of(file: BinaryIO) -> Header:
    """Read the header of an open image file; see `read_header`."""
    magic = file.read(8)
    file.seek(0)
    if not magic:
        raise ImageError("the file is empty")
    header = _tiff_header(file) if magic[:4] in _TIFF_MAGIC else _pillow_header(file)
    if header.pixels == 0:
        raise ImageError(f"the image has no pixels ({header.height}×{header.width})")
    if header.pixels > MAX_PIXELS:
        raise ImageError(
            f"the header declares {header.height}×{header.width} = {header.pixels:,} pixels; {MAX_PIXELS:,} are allowed"
        )
    return header


def decode(data: bytes) -> Image:
    """Decode an image file held in memory.

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
    >>> decode(b"P2 2 1 255 0 255")
    array([[  0, 255]], dtype=uint8)
    """
    header_of(io.BytesIO(data))
    if data[:4] in _TIFF_MAGIC:
        image = _decode_tiff(data)
    elif data[:8] == _PNG_MAGIC and data[24:26] == b"\x10\x02":  # 16 bits, colour: Pillow would keep 8
        _open_pillow(io.BytesIO(data)).verify()
        image = _guarded("PNG", lambda: _imagecodecs_png(data))
    else:
        image = _decode_pillow(data)
    return np.ascontiguousarray(image)


def decode_mask(data: bytes) -> Bools:
    """Decode a mask: anything but 0 (in any channel) is segmented.

    Raises
    ------
    ImageError
        As `decode`, saying that it is the mask.
    """
    try:
        pixels = decode(data)
    except ImageError as error:
        raise ImageError(f"mask: {error}") from error
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0, dtype=np.bool_)


def read_bytes(path: str | Path) -> bytes:
    """Read a file once, so that what is hashed is what is decoded.

    Raises
    ------
    ImageError
        Larger than any picture of `MAX_PIXELS` pixels.
    OSError
        It cannot be read.
    """
    with Path(path).open("rb") as file:
        # Asked for more, it would take memory for more first.
        data = file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES) + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return data


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
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"damaged or unsupported {kind}: {detail}") from error


def _open_pillow(file: BinaryIO) -> Any:
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # our own limit is lower
            return PillowImage.open(file, formats=FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise ImageError(f"the header declares far more than the {MAX_PIXELS:,} pixels allowed") from error
    except UnidentifiedImageError as error:
        raise ImageError("not an image; PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000 and PNM are read") from error
    except Exception as error:
        raise ImageError(f"damaged image header: {error}") from error


def _pillow_header(file: BinaryIO) -> Header:
    picture = _open_pillow(file)
    itemsize = {"I": 4, "F": 4}.get(picture.mode, 2 if picture.mode.startswith("I;16") else 1)
    channels = 1 if picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;16") else 3
    return Header(picture.height, picture.width, channels, itemsize)


def _decode_pillow(data: bytes) -> Image:
    picture = _open_pillow(io.BytesIO(data))
    kind = str(picture.format)
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:  # MPO: a photograph and its preview
        raise ImageError(f"{kind} with {picture.n_frames} frames; one picture is expected")
    if kind == "PNG":  # only verify() looks at the checksums
        _guarded(kind, lambda: _open_pillow(io.BytesIO(data)).verify())
    return _guarded(kind, lambda: _upright(_pillow_pixels(picture), picture.getexif().get(_ORIENTATION_TAG, 1)))


def _pillow_pixels(picture: Any) -> Image:
    picture.load()
    mode = picture.mode
    if mode in ("1", "LA", "La"):
        picture = picture.convert("L")
    elif mode == "P":  # transparency first, so that the colours below it come through unchanged
        picture = picture.convert("RGBA").convert("RGB")
    elif mode not in ("L", "RGB", "I", "F") and not mode.startswith("I;16"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    return pixels.astype(np.uint16) if mode.startswith("I;16") else pixels


def _imagecodecs_png(data: bytes) -> Image:
    import imagecodecs

    pixels: Image = imagecodecs.png_decode(data)
    return pixels


def _upright(pixels: Image, orientation: int) -> Image:
    return _UPRIGHT.get(orientation, _UPRIGHT[1])(pixels)


def _tiff_header(file: BinaryIO) -> Header:
    import tifffile

    def read() -> Header:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            if page.dtype is None:
                raise ImageError("TIFF of an unknown sample type")
            return Header(page.imagelength, page.imagewidth, page.samplesperpixel, page.dtype.itemsize)

    return _guarded("TIFF", read)


def _decode_tiff(data: bytes) -> Image:
    import tifffile

    def read() -> Image:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            if len(tiff.pages) > 1 and sum(not page.is_reduced for page in tiff.pages) > 1:
                raise ImageError(f"TIFF with {len(tiff.pages)} pages; one picture is expected")
            page = tiff.pages.first
            _check_strips(page, len(data))
            pixels = _tiff_channels(page.asarray(), page)
            orientation = page.tags.get(_ORIENTATION_TAG)
            return _upright(pixels, orientation.value if orientation else 1)

    return _guarded("TIFF", read)


def _check_strips(page: Any, n_bytes: int) -> None:
    """Refuse a file cut short: a decoder would fill missing strips with zeros."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or 0 in page.databytecounts or max(ends) > n_bytes:
        raise ImageError(f"TIFF cut short: its data ends at byte {max(ends, default=0):,} of {n_bytes:,}")


def _tiff_channels(pixels: Image, page: Any) -> Image:
    if pixels.dtype.kind not in "buif":
        raise ImageError(f"TIFF of {pixels.dtype} samples; integers and real numbers are expected")
    axes = page.axes
    if axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"TIFF with axes {axes}; one grey or colour picture is expected")
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == _PALETTE:
        pixels = np.moveaxis(page.colormap, 0, -1)[pixels]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if page.photometric == _MIN_IS_WHITE:
        pixels = _white(page, pixels) - pixels
    if page.photometric == _SEPARATED and pixels.ndim == 3 and pixels.shape[2] >= 4:
        pixels = _cmyk_to_rgb(pixels)
    return _drop_alpha(pixels)


def _white(page: Any, pixels: Image) -> Any:
    """Return the value that stands for black where 0 is white."""
    bits = 8 if page.bitspersample == 1 else page.bitspersample
    return pixels.dtype.type(2**bits - 1) if pixels.dtype.kind == "u" else pixels.max(initial=0)


def _cmyk_to_rgb(pixels: Image) -> Image:
    top = np.iinfo(pixels.dtype).max
    ink = pixels[..., :4].astype(np.float64) / top
    rgb = (1 - ink[..., :3]) * (1 - ink[..., 3:])
    return np.rint(rgb * top).astype(pixels.dtype)


def _drop_alpha(pixels: Image) -> Image:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] in (1, 2):
        return pixels[..., 0]
    if pixels.shape[2] in (3, 4):
        return pixels[..., :3]
    raise ImageError(f"TIFF with {pixels.shape[2]} channels; grey or RGB (with or without alpha) is expected")
