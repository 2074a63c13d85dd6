"""TIFF: every strip must be there whole, or say that it is empty; every channel must be one that is understood."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from segmentation.arrays import Bools, Image
from segmentation.errors import ImageError
from segmentation.io.formats.tiff_colors import (
    CIELAB,
    ICCLAB,
    MIN_IS_BLACK,
    MIN_IS_WHITE,
    N_COLOURS,
    PALETTE,
    RGB,
    SEPARATED,
    YCBCR,
    in_colours,
)
from segmentation.io.formats.tiff_nodata import as_stored, declared_no_data, has_data
from segmentation.io.formats.tiff_pages import MAX_PAGES, Page, check_subpages, picture_pages
from segmentation.io.formats.tiff_pieces import JPEG, OLD_JPEG, PLANAR, UNPACKED, n_pieces, unpack
from segmentation.io.notes import keep_off_terminal
from segmentation.planning import Header

__all__ = ["MAX_PAGES", "decode_tiff", "picture_pages", "tiff_header"]

_MAX_SEGMENTS = 300_000
#: Tiles may be larger than a picture, but not without end: a decoder unpacks whole tiles.
_LARGEST_TILE = 2**24
_FAX = frozenset({2, 3, 4})
#: None, CCITT, LZW, JPEG of the old kind and the new, deflate, PackBits, LZMA, zstd.
_COMPRESSIONS = frozenset({UNPACKED, *_FAX, 5, OLD_JPEG, JPEG, 8, 32773, 32946, 34925, 50000})
#: Those that may pack differences between neighbours. With any other the predictor's tag means nothing.
_WITH_PREDICTOR = frozenset({5, 8, 32946, 34925, 50000})
#: Predictor → samples, by kind and bits, that it can be of.
_PREDICTORS = {1: None, 2: ("uif", (8, 16, 32, 64)), 3: ("f", (16, 32, 64))}
_MODEL_TAG, _EXTRA_TAG, _INK_SET_TAG, _N_INKS_TAG, _IMAGEJ_TAG = 262, 338, 332, 334, 270
_ALPHA = frozenset({1, 2})
_CMYK_INKS = 1
_MAX_CHANNELS = 16
_TOO_MANY = _MAX_CHANNELS + 1
_TRANSPARENCY_MASK = 4


@contextmanager
def _page_at(file: BinaryIO, offset: int) -> Iterator[Any]:
    import tifffile

    keep_off_terminal("tifffile")
    try:
        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            tiff.filehandle.seek(offset)
            page = tifffile.TiffPage(tiff, 0)
            if _MODEL_TAG not in page.tags and page.compression != OLD_JPEG:
                page.photometric = _guessed_model(page)
            yield page
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile promises no exception types
        raise ImageError("damaged TIFF: its tags cannot be read, or contradict each other") from error


def _guessed_model(page: Any) -> int:
    """Choose a colour model where none is said, as libtiff does."""
    if page.compression in _FAX:
        return MIN_IS_WHITE
    return RGB if page.samplesperpixel - len(_extra_kinds(page)) == N_COLOURS[RGB] else MIN_IS_BLACK


def tiff_header(file: BinaryIO, page: Page) -> Header:
    """Read the header of a page; refuse what no page of a picture has.

    Raises
    ------
    ImageError
        A compression, colour model, number of channels, of strips or size of tiles that is not read; or it is the
        preview of a larger picture.
    """
    check_subpages(file, page)
    with _page_at(file, page.offset) as found:
        _check_page(found)
        if found.photometric == PALETTE:  # its colours have 16 bits
            return Header(int(found.imagelength), int(found.imagewidth), 3, 2)
        return Header(int(found.imagelength), int(found.imagewidth), int(found.samplesperpixel), found.dtype.itemsize)


def decode_tiff(data: bytes, page: Page) -> tuple[Image, Bools | None, int]:
    """Decode a page; return its pixels, which of them are data (None: all), and its orientation."""
    with _page_at(io.BytesIO(data), page.offset) as found:
        _check_page(found)
        if page.is_only:
            _check_single(found)
        no_data = declared_no_data(found)
        model, n_shown = int(found.photometric), _n_shown(found)
        empty = as_stored(no_data, found.dtype)
        stored = unpack(found, data, found.dtype.type(0) if empty is None else empty)
        samples = stored if stored.ndim == 2 else stored[..., 0] if n_shown == 1 else stored[..., :n_shown]
        valid = has_data(samples, no_data)
        pixels = in_colours(samples, model, found)
        turned = found.tags.get(0x0112)
        orientation = turned.value if turned is not None and isinstance(turned.value, int) else 1
    shown = _mask_at(data, page.mask, pixels.shape[:2]) if page.mask else None
    if shown is not None:
        valid = shown if valid is None else valid & shown
    return pixels, valid, orientation


def _mask_at(data: bytes, offset: int, shape: tuple[int, ...]) -> Bools:
    """Decode the mask that follows a picture, not 0 where that is to be seen."""
    with _page_at(io.BytesIO(data), offset) as found:
        if (found.imagelength, found.imagewidth) != shape:
            size = f"{found.imagelength}×{found.imagewidth}"
            raise ImageError(f"TIFF with a mask of {size} pixels for a picture of {shape[0]}×{shape[1]}")
        if found.photometric not in (MIN_IS_BLACK, _TRANSPARENCY_MASK) or found.samplesperpixel != 1:
            raise ImageError("TIFF with a mask that is none; one channel, black or not, is expected")
        if found.bitspersample not in (1, 8) or found.compression not in _COMPRESSIONS:
            raise ImageError(f"TIFF with a mask of {found.bitspersample} bits, compression {int(found.compression)}")
        _check_predictor(found)
        _check_pieces(found)
        return np.asarray(unpack(found, data, found.dtype.type(0)) != 0)


def _check_page(page: Any) -> None:
    if page.dtype is None or page.dtype.kind not in "buif":
        raise ImageError(f"TIFF of {page.dtype or 'unknown'} samples; integers and real numbers are read")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"TIFF with compression {int(page.compression)}; {sorted(_COMPRESSIONS)} are read")
    if page.photometric not in N_COLOURS:
        raise ImageError(
            f"TIFF of colour model {int(page.photometric)}; grey, RGB, palette, CMYK, YCbCr, L*a*b* are read"
        )
    if page.imagedepth > 1:
        raise ImageError(f"TIFF with a picture {page.imagedepth} deep; one picture is expected")
    _check_channels(page)
    _check_model(page)
    _check_predictor(page)
    _check_pieces(page)


def _check_channels(page: Any) -> None:
    """Refuse channels of which nobody says what they are: those of a grey picture are bands, as good as the first."""
    count, kinds = int(page.samplesperpixel), _extra_kinds(page)
    if kinds and len(kinds) != count - N_COLOURS[page.photometric]:
        raise ImageError(
            f"TIFF with {count} channels that names {len(kinds)} beyond its colours; "
            f"{count - N_COLOURS[page.photometric]} are expected"
        )
    if not _n_shown(page) <= count <= _MAX_CHANNELS:
        raise ImageError(f"TIFF with {count} channels; grey or RGB (with or without alpha) is expected")


def _extra_kinds(page: Any) -> tuple[int, ...]:
    """Return what the channels beyond the colours are, if the page says so."""
    named = page.tags.valueof(_EXTRA_TAG)
    return () if named is None else tuple(int(kind) for kind in np.atleast_1d(named))


def _n_shown(page: Any) -> int:
    """Return how many channels, the first ones, are the picture; none if it is more than can be shown.

    A model of colours says it. Grey is one band, or three, taken for red, green and blue, with alpha or without.
    """
    if page.photometric not in (MIN_IS_BLACK, MIN_IS_WHITE):
        return N_COLOURS[page.photometric]
    count, kinds = int(page.samplesperpixel), _extra_kinds(page)
    bands = count - (bool(kinds) and kinds[-1] in _ALPHA)
    return bands if bands in (1, 3) and not _ALPHA.intersection(kinds[: bands - 1]) else _TOO_MANY


def _check_model(page: Any) -> None:
    """Refuse what a colour model cannot be made of."""
    model, bits = page.photometric, page.bitspersample
    if model == PALETTE and (page.colormap is None or page.colormap.ndim != 2 or page.dtype.kind == "f"):
        raise ImageError("damaged TIFF: a palette is missing, or of no use for its samples")
    if model == SEPARATED and (
        page.tags.valueof(_INK_SET_TAG, _CMYK_INKS) != _CMYK_INKS or page.tags.valueof(_N_INKS_TAG, 4) != 4
    ):
        raise ImageError("TIFF of inks other than cyan, magenta, yellow, black; CMYK is read")
    if page.compression == JPEG and page.planarconfig == PLANAR and model == YCBCR:
        raise ImageError("TIFF of YCbCr as JPEG in planes; other colour models, or all in one, are read")
    if page.compression == JPEG and model in (MIN_IS_BLACK, MIN_IS_WHITE) and page.samplesperpixel > 2:
        raise ImageError(f"TIFF with {page.samplesperpixel} channels as JPEG that are not said to be RGB")
    if model == YCBCR and page.samplesperpixel != 3:
        raise ImageError(f"TIFF of YCbCr with {page.samplesperpixel} channels; 3 are expected")
    if model == YCBCR and page.compression != JPEG and bits != 8:
        raise ImageError(f"TIFF of YCbCr with samples of {bits} bits; 8 are read")
    if model in (CIELAB, ICCLAB) and (page.compression == JPEG or bits not in (8, 16) or page.dtype.kind == "f"):
        raise ImageError(f"TIFF of L*a*b* with samples of {bits} bits, or as JPEG; 8 and 16 bits are read")


def _check_predictor(page: Any) -> None:
    if page.compression not in _WITH_PREDICTOR:
        page.predictor = 1
    if page.predictor not in _PREDICTORS:
        raise ImageError(f"TIFF with predictor {page.predictor}; {sorted(_PREDICTORS)} are read")
    allowed = _PREDICTORS[page.predictor]
    if allowed is not None and not (page.dtype.kind in allowed[0] and page.bitspersample in allowed[1]):
        raise ImageError(
            f"TIFF with predictor {page.predictor} for {page.dtype} samples of {page.bitspersample} bits; "
            "2 is read for whole bytes, 3 for real numbers of 16, 32 and 64 bits"
        )


def _check_pieces(page: Any) -> None:
    segments = n_pieces(page)
    if segments > _MAX_SEGMENTS:
        raise ImageError(f"TIFF in {segments:,} pieces; {_MAX_SEGMENTS:,} are allowed")
    pixels = page.imagelength * page.imagewidth
    if page.is_tiled and page.tilelength * page.tilewidth > max(_LARGEST_TILE, 4 * pixels):
        raise ImageError(f"TIFF with tiles of {page.tilelength:,}×{page.tilewidth:,} pixels for {pixels:,}")


def _check_single(page: Any) -> None:
    """Refuse ImageJ's stacks of one page: their other planes stand behind the first, without a page."""
    text = page.description if _IMAGEJ_TAG in page.tags else ""
    if not text.startswith("ImageJ="):
        return
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "images" and value.strip().isdigit() and int(value) > 1:
            raise ImageError(f"ImageJ stack of {value.strip()} images in one page; save them as pages, or one by one")
