"""The strips and tiles of a TIFF's page, unpacked: each must be there whole, or say that it is empty."""

import struct
from typing import Any

import numpy as np

from segmentation.arrays import Image, Ints
from segmentation.errors import ImageError
from segmentation.io.formats.headers import declared_header
from segmentation.io.formats.jpeg import check_jpeg
from segmentation.io.formats.tiff_colors import MIN_IS_BLACK, YCBCR

UNPACKED, OLD_JPEG, JPEG = 1, 6, 7
PLANAR = 2
_JPEG_AT_TAG, _JPEG_BYTES_TAG = 513, 514


def unpack(page: Any, data: bytes, empty: Any) -> Image:
    """Return all channels of a page as they are stored, shape (M, N) or (M, N, C); JPEGs as grey or RGB.

    Parameters
    ----------
    page : tifffile.TiffPage
        Checked; it is of no further use, as it may be described anew.
    data : bytes
        The file.
    empty : number
        What a piece of offset and length 0 holds.

    Raises
    ------
    ImageError
        A piece is missing, cut short, or unpacks to something else than the page declares.
    """
    if page.compression == OLD_JPEG:
        return _old_jpeg(page, data)
    width, step = int(page.imagewidth), _subsampling(page)
    rows = None if step == (1, 1) else _as_data_units(page, step)
    _check_segments(page, len(data))
    if page.compression == JPEG:
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if count:
                check_jpeg(data[start : start + count], page.jpegtables)
        if page.planarconfig == PLANAR:  # each piece is a grey JPEG
            page.photometric = MIN_IS_BLACK
    if page.photometric != YCBCR:
        page.subsampling = (1, 1)  # nothing else is subsampled, whatever the tag says
    page.nodata = empty
    try:
        pixels: Image = page.asarray(maxworkers=1)
    except MemoryError:
        raise
    except Exception as error:  # tifffile and its codecs promise no exception types
        raise ImageError("damaged TIFF: its pieces do not unpack to the pixels that its tags declare") from error
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"TIFF with axes {page.axes}; one grey or colour picture is expected")
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels if rows is None else _upsampled(pixels, step, rows, width)


def _check_segments(page: Any, n_bytes: int) -> None:
    """Refuse a file cut short: a decoder would fill missing strips with zeros. Those that say they are empty may be."""
    expected = n_pieces(page)
    offsets, counts = page.dataoffsets[:expected], page.databytecounts[:expected]
    there = sum(bool(offset and count) for offset, count in zip(offsets, counts, strict=False))
    empty = sum(not offset and not count for offset, count in zip(offsets, counts, strict=False))
    if there + empty < expected:
        raise ImageError(f"TIFF cut short: {there + empty} of {expected} pieces are there")
    if not there:
        raise ImageError(f"TIFF whose pieces are all empty ({expected}): nothing of the picture is there")
    end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if end > n_bytes:
        raise ImageError(f"TIFF cut short: its data ends at byte {end:,} of {n_bytes:,}")


def n_pieces(page: Any) -> int:
    """Count the strips or tiles that a page must have."""
    total = 1
    for count in page.chunked:
        total *= int(count)
    return total


def _old_jpeg(page: Any, data: bytes) -> Image:
    """Decode what is packed as JPEG of the old kind, where one whole JPEG is there; not tables and scans apart."""
    import imagecodecs

    start, count = (int(np.ravel(page.tags.valueof(tag, 0))[0]) for tag in (_JPEG_AT_TAG, _JPEG_BYTES_TAG))
    stream = data[start : start + count] if count else data[start:]
    is_whole = start and stream[:2] == b"\xff\xd8"
    stream = stream[: stream.rfind(b"\xff\xd9") + 2] if is_whole else b""
    try:
        header = declared_header("JPEG", stream)
    except (IndexError, struct.error) as error:
        raise ImageError("TIFF with JPEG of the old kind in parts; one whole JPEG within the file is read") from error
    if (header.height, header.width) != (page.imagelength, page.imagewidth):
        raise ImageError(f"damaged TIFF: {page.imagelength}×{page.imagewidth}, the JPEG in it {header.shape_text}")
    check_jpeg(stream)
    pixels: Image = imagecodecs.jpeg_decode(stream)
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise ImageError(f"TIFF with JPEG of the old kind of {pixels.shape[2]} channels; grey or colours are read")
    return pixels


def _subsampling(page: Any) -> tuple[int, int]:
    """Return for how many columns and rows one pair of colours stands; a JPEG sees to it by itself."""
    if page.photometric != YCBCR or page.compression == JPEG:
        return 1, 1
    across, down = (int(step) for step in page.subsampling or (2, 2))
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise ImageError(f"damaged TIFF: colours for {across}×{down} pixels each; 1, 2 and 4 are allowed")
    return across, down


def _as_data_units(page: Any, step: tuple[int, int]) -> Ints:
    """Let a page of subsampled colours be one of data units: the brightness of some pixels, and their two colours.

    TIFF 6.0, section 21: units stand in rows, as pixels do in any other page. Every strip begins with a unit.

    Returns
    -------
    rows : ndarray of int
        Where each row of the picture is among the rows of pixels that the units come to.
    """
    across, down = step
    height, width = int(page.imagelength), int(page.imagewidth)
    if page.planarconfig == PLANAR or page.predictor != 1:
        raise ImageError("TIFF of subsampled colours in planes, or as differences; such are not read")
    if page.is_tiled and (page.tilewidth % across or page.tilelength % down):
        raise ImageError("damaged TIFF: its tiles end within the pixels of a colour")
    each = int(page.tilelength if page.is_tiled else page.rowsperstrip)
    units = -(-each // down)
    rows = np.arange(height) // each * (units * down) + np.arange(height) % each
    page.imagelength, page.imagewidth = int(rows[-1]) // down + 1, -(-width // across)
    if page.is_tiled:
        page.tilelength, page.tilewidth = units, page.tilewidth // across
    else:
        page.rowsperstrip = units
    page.samplesperpixel = across * down + 2
    page.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    page.shaped = (1, 1, *page.shape)
    page.axes, page.subsampling = "YXS", (1, 1)
    size = sum(page.databytecounts)
    if page.compression == UNPACKED and not page.is_tiled and size > page.nbytes + len(page.databytecounts):
        raise ImageError(f"damaged TIFF: {size:,} bytes of subsampled colours; {page.nbytes:,} are expected")
    return rows


def _upsampled(units: Image, step: tuple[int, int], rows: Ints, width: int) -> Image:
    """Give every pixel its brightness and the colours of its data unit."""
    across, down = step
    height = units.shape[0]
    brightness = units[..., :-2].reshape(height, -1, down, across).swapaxes(1, 2).reshape(height * down, -1)
    colours = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.dstack([brightness, colours])[rows, :width]
