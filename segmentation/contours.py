"""Contours: every region outlined in its own colour over the image, as a picture to look at."""

import struct
from typing import TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Bytes8, Image, Labels, read_only
from segmentation.errors import ParameterError

T = TypeVar("T", bound=np.generic)

#: Twenty-one equidistant anchors (red, green, blue) of the colormap "nipy_spectral".
_NIPY_SPECTRAL = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.4667, 0.0, 0.5333],
        [0.5333, 0.0, 0.6],
        [0.0, 0.0, 0.6667],
        [0.0, 0.0, 0.8667],
        [0.0, 0.4667, 0.8667],
        [0.0, 0.6, 0.8667],
        [0.0, 0.6667, 0.6667],
        [0.0, 0.6667, 0.5333],
        [0.0, 0.6, 0.0],
        [0.0, 0.7333, 0.0],
        [0.0, 0.8667, 0.0],
        [0.0, 1.0, 0.0],
        [0.7333, 1.0, 0.0],
        [0.9333, 0.9333, 0.0],
        [1.0, 0.8, 0.0],
        [1.0, 0.6, 0.0],
        [1.0, 0.0, 0.0],
        [0.8667, 0.0, 0.0],
        [0.8, 0.0, 0.0],
        [0.8, 0.8, 0.8],
    ]
)
_DISPLAY_PERCENTILES = (0.5, 99.5)
_PERCENTILE_SAMPLES = 1_000_000
#: Values that are stretched at once.
_BLOCK_VALUES = 2**18
#: What masked pixels become: every grey level at 35 % of its brightness.
_DARKENED = (np.arange(256) * 0.35).astype(np.uint8)
_PIXELS_PER_LINE_WIDTH = 600
_PNG_PIXELS = 4_000_000
_JPEG_QUALITY = 92
_JPEG_SIDE = 65_500
# The PNG filter "up" alone is the quickest on pictures with outlines, and as small as libpng's choice.
_PNG_FILTER_UP = 2
_PNG_LEVEL = 1
_PNG_CHUNK_BYTES = 2**30


def region_colors(n_regions: int) -> Bytes8:
    """Give each region the colour that scikit-learn's example on the Greek coins gives it.

    Parameters
    ----------
    n_regions : int
        Number of regions K.

    Returns
    -------
    colors : ndarray of uint8, shape (K + 1, 3)
        Red, green, blue; row k is region k. Row 0, black, stands for masked pixels.

    Raises
    ------
    ParameterError
        If `n_regions` is negative.

    Notes
    -----
    Region k has ``nipy_spectral((k + 3) / (K + 4))``: the map starts in black, its first steps are left out.

    Examples
    --------
    >>> region_colors(2).tolist()
    [[0, 0, 0], [204, 249, 0], [255, 45, 0]]
    """
    if n_regions < 0:
        raise ParameterError(f"n_regions must be >= 0, got {n_regions}")
    position = (np.arange(n_regions) + 4) / (n_regions + 4)
    # The map is a table of 256 colours, as in matplotlib: the nearest entry below, not an interpolation.
    entry = np.minimum((position * 256).astype(int), 255) / 255
    anchors = np.linspace(0, 1, len(_NIPY_SPECTRAL))
    colors = np.zeros((n_regions + 1, 3), np.uint8)
    for channel in range(3):
        colors[1:, channel] = np.rint(255 * np.interp(entry, anchors, _NIPY_SPECTRAL[:, channel]))
    return colors


def boundary_mask(labels: Labels, thickness_px: int = 1) -> Bools:
    """Mark the pixels along the inside of every region's border.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.
    thickness_px : int
        How far, along its row or its column, a marked pixel is at most from another label; >= 1.

    Returns
    -------
    boundary : ndarray of bool, shape (M, N)
        Both sides of a border are marked, of a border to masked pixels only the region's. The edge of the
        image is no border.

    Raises
    ------
    ParameterError
        If `labels` is not a matrix or `thickness_px` is below 1.

    Notes
    -----
    O(M·N·log(thickness)) time.

    Examples
    --------
    >>> boundary_mask(np.array([[0, 1, 1, 1, 2, 2]])).astype(int)
    array([[0, 1, 0, 1, 1, 0]])
    """
    if labels.ndim != 2:
        raise ParameterError(f"labels must have shape (M, N), got {labels.shape}")
    if thickness_px < 1:
        raise ParameterError(f"thickness_px must be >= 1, got {thickness_px}")
    boundary = _near_changes(labels, thickness_px, axis=0)
    boundary |= _near_changes(labels, thickness_px, axis=1)
    boundary &= labels != 0
    return boundary


def render_contours(image: Image, labels: Labels, *, thickness_px: int | None = None) -> Bytes8:
    """Draw every region's outline in its own colour over the image.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, 3)
        Grey or RGB, bool, integer or float.
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.
    thickness_px : int, optional
        Width of each outline, inside its region. By default 1 for images up to 600 pixels, and growing with
        the longer side beyond, so that outlines still show when the picture is scaled down to a thumbnail.

    Returns
    -------
    picture : ndarray of uint8, shape (M, N, 3)
        Masked pixels are darkened.

    Raises
    ------
    ParameterError
        If image and labels differ in shape.

    Notes
    -----
    uint8 is shown as it is, bool as black and white, floats within [0, 1] as black to white. Everything else
    is stretched: the 0.5th percentile of the finite, unmasked values becomes black, the 99.5th white. What is
    not finite is black. O(M·N) time and O(thickness) for every pixel at a border, whatever the number of regions.

    Examples
    --------
    >>> picture = render_contours(np.full((4, 6), 99, np.uint8), np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0))
    >>> picture[0].tolist()
    [[99, 99, 99], [99, 99, 99], [204, 249, 0], [255, 45, 0], [99, 99, 99], [99, 99, 99]]
    """
    if image.shape[:2] != labels.shape or image.shape[2:] not in ((), (1,), (3,)):
        raise ParameterError(
            f"an image of shape (M, N) or (M, N, 3) and labels of shape (M, N) are expected, "
            f"got {image.shape} and {labels.shape}"
        )
    if thickness_px is None:
        thickness_px = max(1, round(max(labels.shape) / _PIXELS_PER_LINE_WIDTH))
    from segmentation.kernels.contours import draw_outlines

    shown = displayable(image, labels)
    picture = np.empty((*labels.shape, 3), np.uint8)
    picture[...] = shown if shown.ndim == 3 else shown[..., np.newaxis]
    colors = region_colors(int(labels.max(initial=0)))
    draw_outlines(picture, read_only(labels), colors, _DARKENED, thickness_px)
    return picture


def encode_picture(picture: Bytes8) -> tuple[bytes, str]:
    """Encode a picture as a file: PNG up to 4 megapixels, JPEG above (unless a side exceeds JPEG's 65,500).

    Parameters
    ----------
    picture : ndarray of uint8, shape (M, N, 3)

    Returns
    -------
    data : bytes
        The same for the same picture.
    suffix : str
        ".png" or ".jpg".

    Examples
    --------
    >>> data, suffix = encode_picture(np.zeros((2, 3, 3), np.uint8))
    >>> data[1:4], suffix
    (b'PNG', '.png')
    """
    import imagecodecs

    if picture.shape[0] * picture.shape[1] > _PNG_PIXELS and max(picture.shape) <= _JPEG_SIDE:
        return bytes(imagecodecs.jpeg_encode(picture, level=_JPEG_QUALITY, subsampling="420")), ".jpg"
    return _png(picture), ".png"


def _png(picture: Bytes8) -> bytes:
    """Encode a picture as a PNG file [1]_: with libdeflate half the time of libpng with zlib for the same size.

    References
    ----------
    .. [1] ISO/IEC 15948, "Portable Network Graphics (PNG): Functional specification".
    """
    import imagecodecs

    height, width = picture.shape[:2]
    rows = picture.reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    data = bytes(imagecodecs.deflate_encode(filtered.tobytes(), level=_PNG_LEVEL))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"IDAT", data[i : i + _PNG_CHUNK_BYTES]) for i in range(0, len(data), _PNG_CHUNK_BYTES)]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, content in [*chunks, (b"IEND", b"")]:
        parts += [struct.pack(">I", len(content)), name, content, struct.pack(">I", crc32(content, crc32(name)))]
    return b"".join(parts)


def _near_changes(labels: Labels, distance: int, axis: int) -> Bools:
    """Mark pixels from which another label is at most `distance` steps away along `axis`."""
    near = np.zeros(labels.shape, np.bool_)
    change = _from(labels, 1, axis) != _upto(labels, 1, axis)
    _from(near, 1, axis)[...] = change
    _upto(near, 1, axis)[...] |= change
    # The nearest other label lies right behind a change, so near changes are all there is to look for;
    # doubling the reach takes log2(distance) steps.
    reach = 1
    while reach < distance:
        step = min(reach, distance - reach)
        grown = near.copy()
        _from(grown, step, axis)[...] |= _upto(near, step, axis)
        _upto(grown, step, axis)[...] |= _from(near, step, axis)
        near, reach = grown, reach + step
    return near


def _from(values: NDArray[T], n: int, axis: int) -> NDArray[T]:
    return values[n:] if axis == 0 else values[:, n:]


def _upto(values: NDArray[T], n: int, axis: int) -> NDArray[T]:
    return values[:-n] if axis == 0 else values[:, :-n]


def displayable(image: Image, labels: Labels) -> Bytes8:
    """Return an image as it is shown, see `render_contours`; masked pixels, of label 0, do not count for its range.

    Examples
    --------
    >>> displayable(np.array([[0.0, 0.5, 1.0]]), np.array([[1, 1, 1]]))
    array([[  0, 128, 255]], dtype=uint8)
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    low, high = _display_range(image, labels != 0)
    picture = np.empty(image.shape, np.uint8)
    # In blocks of rows: floats of the whole image would take ten times the memory of the picture.
    n_rows = max(1, _BLOCK_VALUES * len(image) // max(1, image.size))
    for start in range(0, len(image), n_rows):
        picture[start : start + n_rows] = _stretch(image[start : start + n_rows], low, high)
    return picture


def _stretch(values: Image, low: float, high: float) -> Bytes8:
    values = values.astype(np.float64)
    # A flat image has no range to stretch: it is shown as mid-grey.
    scaled = (values - low) / (high - low) if high > low else np.where(np.isfinite(values), 0.5, np.nan)
    levels = 255 * np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    return np.asarray(np.rint(levels), dtype=np.uint8)


def _display_range(image: Image, inside: Bools) -> tuple[float, float]:
    # Copies only where something is left out: they would count in the memory of a large image.
    counted = image.reshape(inside.size, -1) if inside.size and inside.all() else image[inside]
    is_float = image.dtype.kind == "f"
    finite = np.isfinite(counted) if is_float else np.bool_(True)
    counted = counted.ravel() if finite.all() else counted[finite]
    if counted.size == 0:
        return 0.0, 1.0
    if is_float and counted.min() >= 0 and counted.max() <= 1:
        return 0.0, 1.0
    # A million evenly spread samples give percentiles good enough to look at.
    sample = counted[:: max(1, counted.size // _PERCENTILE_SAMPLES)].astype(np.float64)
    low, high = np.percentile(sample, _DISPLAY_PERCENTILES)
    if low == high:
        low, high = counted.min(), counted.max()
    return float(low), float(high)
