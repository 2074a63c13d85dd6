"""TIFF: the chain of its pages is walked before a decoder sees it, and every strip must be there whole."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.jpeg import check_jpeg
from segmentation.planning import Header

#: More pages than any archive's stacks have.
MAX_PAGES = 10_000
_MAX_TAGS = 4096
_MAX_SEGMENTS = 300_000
#: Tiles may be larger than a picture, but not without end: a decoder unpacks whole tiles.
_LARGEST_TILE = 2**24
_MIN_IS_WHITE, _PALETTE, _SEPARATED, _YCBCR = 0, 3, 5, 6
_PHOTOMETRICS = frozenset({0, 1, 2, _PALETTE, _SEPARATED, _YCBCR})
_JPEG = 7
#: None, CCITT, LZW, JPEG, deflate, PackBits, LZMA, zstd.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 50000})
_MAX_CHANNELS = 5  # CMYK and alpha
_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_SUBFILE_TAG, _IMAGEJ_TAG = 254, 270
_REDUCED_OR_MASK = 1 | 4


@dataclass(frozen=True)
class _Layout:
    order: str
    is_big: bool

    def unpack(self, kind: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack(self.order + kind, data)


def picture_offsets(file: BinaryIO, size: int) -> list[int]:
    """Walk the chain of pages; return where those begin that are neither previews nor masks.

    Raises
    ------
    ImageError
        The chain leaves the file, bites its tail, has more than `MAX_PAGES` pages, or a page more tags, or a tag
        more values, than the file can hold.
    """
    layout, at = _first_page(file)
    pictures: list[int] = []
    seen: set[int] = set()
    while at:
        if at in seen:
            raise ImageError("damaged TIFF: its chain of pages runs in a circle")
        if len(seen) >= MAX_PAGES:
            raise ImageError(f"TIFF with more than {MAX_PAGES:,} pages")
        seen.add(at)
        subfile, after = _walk_page(file, layout, at, size)
        if not subfile & _REDUCED_OR_MASK:
            pictures.append(at)
        at = after
    if not seen:
        raise ImageError("damaged TIFF: it has no page")
    if not pictures:
        raise ImageError("TIFF of previews only (a camera's raw file?); the picture needs a page of its own")
    return pictures


def _first_page(file: BinaryIO) -> tuple[_Layout, int]:
    file.seek(0)
    magic = _read(file, 8)
    layout = _Layout("<" if magic[:2] == b"II" else ">", magic[2] == 43 or magic[3] == 43)
    if layout.is_big:
        return layout, int(layout.unpack("Q", _read(file, 8))[0])
    return layout, int(layout.unpack("I", magic[4:])[0])


def _walk_page(file: BinaryIO, layout: _Layout, at: int, size: int) -> tuple[int, int]:
    """Check the tags of a page; return its kind and where the next page is."""
    count_kind, tag_kind, next_kind = ("Q", "HHQ8s", "Q") if layout.is_big else ("H", "HHI4s", "I")
    if at >= size:
        raise ImageError(f"TIFF cut short: a page begins at byte {at:,} of {size:,}")
    file.seek(at)
    (count,) = layout.unpack(count_kind, _read(file, struct.calcsize("=" + count_kind)))
    if not 0 < count <= _MAX_TAGS:
        raise ImageError(f"damaged TIFF: a page with {count:,} tags; 1 to {_MAX_TAGS:,} are allowed")
    tag_bytes = struct.calcsize("=" + tag_kind)
    tags = _read(file, count * tag_bytes)
    (after,) = layout.unpack(next_kind, _read(file, struct.calcsize("=" + next_kind)))
    subfile = 0
    for code, kind, values, field in struct.iter_unpack(layout.order + tag_kind, tags):
        if values * (_BYTES[kind] if kind < len(_BYTES) else 1) > size:
            raise ImageError(f"damaged TIFF: tag {code} with {values:,} values in a file of {size:,} bytes")
        if code == _SUBFILE_TAG:
            subfile = layout.unpack("H" if kind == 3 else "I", field[: 2 if kind == 3 else 4])[0]
    return subfile, after


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ImageError("TIFF cut short: it ends within its tags")
    return data


@contextmanager
def _page_at(file: BinaryIO, offset: int) -> Iterator[Any]:
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        tiff.filehandle.seek(offset)
        yield tifffile.TiffPage(tiff, 0)


def tiff_header(file: BinaryIO, offset: int) -> Header:
    """Read the header of the page at `offset`; refuse what no page of a picture has.

    Raises
    ------
    ImageError
        A compression, colour model, number of channels, of strips or size of tiles that is not read.
    """
    with _page_at(file, offset) as page:
        _check_page(page)
        if page.photometric == _PALETTE:  # its colours have 16 bits
            return Header(int(page.imagelength), int(page.imagewidth), 3, 2)
        return Header(int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel), page.dtype.itemsize)


def _check_page(page: Any) -> None:
    if page.dtype is None or page.dtype.kind not in "buif":
        raise ImageError(f"TIFF of {page.dtype or 'unknown'} samples; integers and real numbers are read")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"TIFF with compression {int(page.compression)}; {sorted(_COMPRESSIONS)} are read")
    if page.photometric not in _PHOTOMETRICS or (page.photometric == _YCBCR and page.compression != _JPEG):
        raise ImageError(f"TIFF of colour model {int(page.photometric)}; grey, RGB, palette, CMYK are read")
    if page.samplesperpixel > _MAX_CHANNELS or page.imagedepth > 1:
        raise ImageError(f"TIFF with {page.samplesperpixel} channels, {page.imagedepth} deep; one picture is expected")
    if page.photometric == _PALETTE and (page.colormap is None or page.samplesperpixel != 1):
        raise ImageError("damaged TIFF: a palette is missing")
    segments = _n_segments(page)
    if segments > _MAX_SEGMENTS:
        raise ImageError(f"TIFF in {segments:,} pieces; {_MAX_SEGMENTS:,} are allowed")
    pixels = page.imagelength * page.imagewidth
    if page.is_tiled and page.tilelength * page.tilewidth > max(_LARGEST_TILE, 4 * pixels):
        raise ImageError(f"TIFF with tiles of {page.tilelength:,}×{page.tilewidth:,} pixels for {pixels:,}")


def _n_segments(page: Any) -> int:
    total = 1
    for count in page.chunked:
        total *= int(count)
    return total


def decode_tiff(data: bytes, offset: int) -> tuple[Image, int]:
    """Decode the page at `offset`; return its pixels and its orientation."""
    with _page_at(io.BytesIO(data), offset) as page:
        _check_page(page)
        _check_single(page)
        _check_segments(page, len(data))
        if page.compression == _JPEG:
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
                check_jpeg(data[start : start + count], page.jpegtables)
        pixels = _channels(page.asarray(maxworkers=1), page)
        orientation = page.tags.get(0x0112)
        return pixels, orientation.value if orientation is not None and isinstance(orientation.value, int) else 1


def _check_single(page: Any) -> None:
    """Refuse ImageJ's stacks of one page: their other planes stand behind the first, without a page."""
    text = page.description if _IMAGEJ_TAG in page.tags else ""
    if not text.startswith("ImageJ="):
        return
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "images" and value.strip().isdigit() and int(value) > 1:
            raise ImageError(f"ImageJ stack of {value.strip()} images in one page; save them as pages, or one by one")


def _check_segments(page: Any, n_bytes: int) -> None:
    """Refuse a file cut short: a decoder would fill missing strips with zeros."""
    expected = _n_segments(page)
    counts = page.databytecounts
    if len(page.dataoffsets) < expected or len(counts) < expected or 0 in counts[:expected]:
        raise ImageError(f"TIFF cut short: {min(len(page.dataoffsets), len(counts))} of {expected} pieces are there")
    end = max(offset + count for offset, count in zip(page.dataoffsets, counts, strict=False))
    if 0 in page.dataoffsets[:expected] or end > n_bytes:
        raise ImageError(f"TIFF cut short: its data ends at byte {end:,} of {n_bytes:,}")


def _channels(pixels: Image, page: Any) -> Image:
    axes = page.axes
    if axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"TIFF with axes {axes}; one grey or colour picture is expected")
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == _PALETTE:
        return _looked_up(pixels, page.colormap)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if page.photometric == _MIN_IS_WHITE:
        pixels = _white(page, pixels) - pixels
    if page.photometric == _SEPARATED and pixels.ndim == 3 and pixels.shape[2] >= 4:
        pixels = cmyk_to_rgb(pixels)
    return _drop_alpha(pixels)


def _looked_up(indices: Image, colormap: Image) -> Image:
    colors = np.moveaxis(colormap, 0, -1)
    indices = indices.astype(np.intp)
    if indices.min() < 0 or indices.max() >= len(colors):
        raise ImageError(f"damaged TIFF: colour {indices.max()} of a palette of {len(colors)}")
    return colors[indices]


def _white(page: Any, pixels: Image) -> Any:
    """Return the value that stands for black where 0 is white."""
    bits = 8 if page.bitspersample == 1 else page.bitspersample
    return pixels.dtype.type(2**bits - 1) if pixels.dtype.kind == "u" else pixels.max(initial=0)


def cmyk_to_rgb(pixels: Image) -> Image:
    """Mix four inks, without a colour profile."""
    if pixels.dtype.kind != "u":
        raise ImageError(f"CMYK of {pixels.dtype} samples; unsigned integers are read")
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
