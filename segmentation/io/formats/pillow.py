"""What Pillow decodes: PNG, JPEG, GIF and WebP of eight bits, and grey PNG of any depth."""

import io
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.planning import Header

_PLUGINS = {
    "PNG": ("PNG",),
    "JPEG": ("JPEG",),
    "GIF": ("GIF",),
    "WebP": ("WEBP",),
}
_ORIENTATION_TAG = 0x0112


def decode_pillow(data: bytes, kind: str, header: Header, frame: int) -> tuple[Image, int]:
    """Decode a picture, or one frame as a player shows it; return its pixels and its orientation.

    Frames of one animation are decoded one after the other at little cost: each is drawn over the one before.
    """
    picture = _opened(data, kind) if frame else _open(data, kind)
    if picture.size != (header.width, header.height):
        raise ImageError(f"damaged {kind}: {picture.height}×{picture.width}, its header says {header.shape_text}")
    if frame:
        picture.seek(frame - 1)
    return _pixels(picture), orientation_in(picture.info.get("exif", b""))


def orientation_in(exif: bytes) -> int:
    """Read how a picture was held when it was taken from its EXIF notes; 1 is upright.

    One whose notes are damaged is shown as it is stored, here as in a viewer.

    Examples
    --------
    >>> orientation_in(b"")
    1
    """
    if not exif:
        return 1
    from PIL import Image as PillowImage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notes = PillowImage.Exif()
            notes.load(exif)
            return int(notes.get(_ORIENTATION_TAG, 1))
    except Exception:  # Pillow's reader of EXIF promises no exception types
        return 1


@lru_cache(maxsize=1)
def _opened(data: bytes, kind: str) -> Any:
    return _open(data, kind)


def _open(data: bytes, kind: str) -> Any:
    from PIL import Image as PillowImage

    with warnings.catch_warnings():
        # Our own limit of pixels is lower; a photograph whose preview is damaged is a photograph.
        warnings.simplefilter("ignore")
        return PillowImage.open(io.BytesIO(data), formats=_PLUGINS[kind])


def _pixels(picture: Any) -> Image:
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
