"""The bytes or pixels of a listed image, read once, so that what is hashed is what is decoded."""

import hashlib
import io
from contextlib import closing
from functools import lru_cache
from typing import BinaryIO

from segmentation.arrays import Bools
from segmentation.errors import ImageError, StoreError
from segmentation.io.archives import read_member
from segmentation.io.formats.headers import MAGIC_BYTES, sniff
from segmentation.io.formats.tiff import picture_pages
from segmentation.io.images import WITHOUT_FRAMES, count_frames, decode_mask, decode_picture, header_of
from segmentation.io.notes import noted_of
from segmentation.io.pictures import PIXELS, Picture
from segmentation.io.places import open_place, read_once, size_of
from segmentation.io.zarr_images import MissingChunks, read_zarr, zarr_header
from segmentation.planning import MAX_PIXELS, Header, ImageRef, Part
from segmentation.reasons import reason_of

#: Bytes of a pixel, at most: four channels of eight.
_PIXEL_BYTES = 32


def image_header(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read size, channels and depth of an image without decoding it.

    Raises
    ------
    ImageError
        Not an image that is read; `LimitError` if it has more than `max_pixels` pixels.
    OSError
        It cannot be opened.
    """
    if ref.is_zarr:
        return zarr_header(ref.path, max_pixels=max_pixels)
    file: BinaryIO = open_place(ref.path) if ref.part is None else io.BytesIO(_whole(ref, max_pixels))
    with closing(file), noted_of(ref.display_name):
        return header_of(file, frame=ref.frame, max_pixels=max_pixels)


def read_image(
    ref: ImageRef, *, max_pixels: int = MAX_PIXELS, missing_chunks: MissingChunks = "fill"
) -> tuple[bytes | Picture, str]:
    """Read an image once.

    Returns
    -------
    data : bytes or Picture
        The file; of an OME-Zarr image its pixels.
    digest : str
        SHA-256 of the file's bytes; of a frame, over that and its number; of an OME-Zarr image, over shape, dtype
        and pixels of its highest resolution, and scale, translation and units if it has any.

    Raises
    ------
    ImageError
        It is larger than any image of `max_pixels` pixels, or is not what it was listed as.
    OSError
        It cannot be read, or changed meanwhile.
    """
    if ref.is_zarr:
        picture = read_zarr(ref.path, max_pixels=max_pixels, missing_chunks=missing_chunks)
        return picture, _digest_of(picture)
    if not ref.frame:
        data = _whole(ref, max_pixels)
        return data, hashlib.sha256(data).hexdigest()
    data, digest = _file_of_frames(ref.path, ref.part, (ref.size, ref.mtime_ns), max_pixels)
    return data, hashlib.sha256(f"{digest}#{ref.frame}".encode()).hexdigest()


def _digest_of(picture: Picture) -> str:
    pixels = picture.pixels
    placed = "" if picture.grid == PIXELS else f" {picture.grid.as_dict()}"
    head = f"{pixels.shape} {pixels.dtype.newbyteorder('<').str}{placed}\n".encode()
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(head + little.tobytes()).hexdigest()


def decode_image(ref: ImageRef, data: bytes | Picture, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode what `read_image` has read.

    Raises
    ------
    ImageError
        Not one whole picture of an accepted format and size.
    """
    if isinstance(data, Picture):
        return data
    with noted_of(ref.display_name):
        return decode_picture(data, frame=ref.frame, max_pixels=max_pixels)


def read_mask(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> tuple[bytes, str]:
    """Read the mask of an image; return its bytes and their SHA-256; raise as `read_image`."""
    if not ref.mask_path:
        return b"", ""
    try:
        with open_place(ref.mask_path, follow_links=True) as file:
            data = read_once(file, max_pixels * _PIXEL_BYTES)
    except ImageError as error:
        raise type(error)(f"mask: {error}") from error
    except OSError as error:
        raise StoreError(f"mask: {reason_of(error)}") from error
    return data, hashlib.sha256(data).hexdigest()


def decode_mask_of(ref: ImageRef, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Bools | None:
    """Decode what `read_mask` has read; None if the image has no mask."""
    if not ref.mask_path:
        return None
    with noted_of(f"the mask of {ref.display_name}"):
        return decode_mask(data, max_pixels=max_pixels)


def frames_of(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> int:
    """Count the pages or frames of a file, reading no more of it than that takes; raise as `read_image`."""
    if ref.part is None:
        with closing(open_place(ref.path)) as file:
            kind = sniff(file.read(MAGIC_BYTES))
            if kind == "TIFF":
                return len(picture_pages(file, size_of(file)))
            if kind in WITHOUT_FRAMES:
                return 1
    return count_frames(_whole(ref, max_pixels))


def _whole(ref: ImageRef, max_pixels: int) -> bytes:
    return _bytes_of(ref.path, ref.part, ref.mtime_ns, max_pixels)


def _bytes_of(path: str, part: Part | None, mtime_ns: int, max_pixels: int) -> bytes:
    limit = max_pixels * _PIXEL_BYTES
    if part is not None:
        return read_member(path, part, (part.archive_size, mtime_ns), limit)
    with open_place(path) as file:
        return read_once(file, limit)


@lru_cache(maxsize=1)
def _file_of_frames(path: str, part: Part | None, stamp: tuple[int, int], max_pixels: int) -> tuple[bytes, str]:
    """Read a file of many images once for all of its frames in a row."""
    data = _bytes_of(path, part, stamp[1], max_pixels)
    return data, hashlib.sha256(data).hexdigest()
