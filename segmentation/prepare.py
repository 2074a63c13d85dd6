"""Check an image, smooth it, and bring it and its mask to the working grid."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Floats, Image, Ints, read_only
from segmentation.errors import ImageError, ParameterError

#: Squares of larger values overflow once summed over an image, so these count as infinite.
LARGEST_VALUE = 1e100
# How much of an image, as floats, is smoothed at a time: more leaves a processor's cache, and costs new memory.
_BAND_BYTES = 2**18


def check_image(image: Image, mask: NDArray[np.generic] | None = None) -> tuple[Image, Bools | None]:
    """Refuse what cannot be segmented, and bring the rest to one form.

    Parameters
    ----------
    image : ndarray of bool, integer or float, shape (M, N) or (M, N, C)
        Intensities, any scale.
    mask : ndarray, shape (M, N), optional
        True (or not zero) where the image is to be segmented.

    Returns
    -------
    image : ndarray, shape (M, N), or (M, N, C) with C > 1
        In native byte order; NaN and infinite pixels outside the mask are 0.
    mask : ndarray of bool, shape (M, N), or None

    Raises
    ------
    ImageError
        If the shape or dtype is not an image's, if a pixel to be segmented is NaN or infinite, or if the mask
        has another shape or selects nothing.

    Examples
    --------
    >>> image, mask = check_image(np.zeros((2, 3, 1)))
    >>> image.shape
    (2, 3)
    >>> check_image(np.array([[1.0, np.nan]]))
    Traceback (most recent call last):
    segmentation.errors.ImageError: 1 pixel is NaN or infinite; mask it first
    """
    if image.ndim not in (2, 3):
        raise ImageError(f"an image has shape (M, N) or (M, N, C), got {image.shape}")
    if image.size == 0:
        raise ImageError(f"the image has no pixels: its shape is {image.shape}")
    if image.dtype.kind not in "buif" or image.dtype.itemsize > 8:
        raise ImageError(f"pixels are boolean, integer or float numbers of at most 64 bits, got {image.dtype}")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    checked = None if mask is None else _check_mask(mask, image.shape[:2])
    # SciPy and scikit-image refuse the other byte order, which TIFF files may have.
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    return (_finite(image, checked) if image.dtype.kind == "f" else image), checked


def _check_mask(mask: NDArray[np.generic], shape: tuple[int, ...]) -> Bools:
    if mask.shape != shape:
        raise ImageError(f"the mask has shape {mask.shape}, the image {shape}; they must be equal")
    selected = mask.astype(bool, copy=False)
    if not selected.any():
        raise ImageError("the mask leaves no pixel to segment")
    return selected


def _finite(image: Image, mask: Bools | None) -> Image:
    """Set unusable pixels to 0 where they are masked; refuse them elsewhere."""
    largest = min(LARGEST_VALUE, float(np.finfo(image.dtype).max))
    # Nearly every image passes, so this must be cheap. Both are NaN if any pixel is, and no comparison with NaN holds.
    if -largest <= float(image.min()) and float(image.max()) <= largest:
        return image
    usable = np.abs(image) <= largest
    wrong = ~usable if image.ndim == 2 else ~usable.all(axis=2)
    if mask is not None:
        wrong &= mask
    count = int(np.count_nonzero(wrong))
    if count == 1:
        raise ImageError("1 pixel is NaN or infinite; mask it first")
    if count:
        raise ImageError(f"{count} pixels are NaN or infinite; mask them first")
    return np.where(usable, image, image.dtype.type(0))


def without_no_data(image: Image, valid: Bools, mask: NDArray[np.generic] | None) -> tuple[Image, Bools]:
    """Leave pixels without data out of the mask, and make them like the nearest pixels that have some.

    What a file declares to be no data may be -9999 or NaN: smoothed, it would spread into what is around it.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities.
    valid : ndarray of bool, shape (M, N)
        True where there are data.
    mask : ndarray, shape (M, N), optional
        True (or not zero) where the image is to be segmented.

    Returns
    -------
    image : ndarray
        A copy.
    mask : ndarray of bool, shape (M, N)
        True where `valid` and `mask` are.

    Raises
    ------
    ImageError
        There are no data in the mask, or it has another shape.

    Examples
    --------
    >>> without_no_data(np.array([[7, 0, 0, 3]]), np.array([[True, False, False, True]]), None)
    (array([[7, 7, 3, 3]]), array([[ True, False, False,  True]]))
    """
    if not valid.any():
        raise ImageError("the image has no visible pixel: it declares all of them to be no data")
    inside = valid if mask is None else valid & _check_mask(mask, image.shape[:2])
    if not inside.any():
        raise ImageError("the mask leaves no visible pixel: all of it is declared to be no data")
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled: Image = image[rows, columns]
    return filled, inside


def smooth(image: Image, sigma: float) -> Image:
    """Blur an image with a Gaussian, over its rows and columns only.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale.
    sigma : float
        Standard deviation in pixels, >= 0; 0 returns the image as it is.

    Returns
    -------
    smoothed : ndarray, same shape as `image`
        Of the same dtype, except that booleans and 16-bit floats become 64-bit floats.

    Raises
    ------
    ParameterError
        If `sigma` is negative, infinite or NaN.

    Notes
    -----
    O(P·sigma) time. Integers stay integers, so a smoothed 8-bit image has 256 levels: this is what
    ``scipy.ndimage.gaussian_filter`` does in scikit-learn's example on the coins, which we reproduce.

    Examples
    --------
    >>> smooth(np.array([[0, 0, 90, 0, 0]], dtype=np.uint8), sigma=1)
    array([[ 5, 21, 35, 21,  5]], dtype=uint8)
    """
    _check_sigma(sigma)
    if sigma == 0:
        return image
    from scipy.ndimage import gaussian_filter

    if image.dtype.kind == "b" or image.dtype == np.float16:
        image = image.astype(np.float64)
    smoothed: Image = gaussian_filter(image, sigma=sigma, axes=(0, 1))
    return smoothed


def rescale(image: Image, scale: float) -> Floats:
    """Resample an image to the working grid, as floats.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale.
    scale : float
        Size of the working grid as part of the original, in (0, 1]; 1 only converts to floats.

    Returns
    -------
    working : ndarray of float64, shape (m, n) or (m, n, C), m = max(1, round(M*scale)), n likewise
        Integers are divided by the largest value of their dtype, floats keep their range.

    Raises
    ------
    ParameterError
        If `scale` is not in (0, 1].

    Notes
    -----
    O(P) time. Bilinear and without anti-aliasing, as in scikit-learn's example on the coins: `smooth` first.

    Examples
    --------
    >>> rescale(np.full((10, 20), 51, dtype=np.uint8), 0.2)
    array([[0.2, 0.2, 0.2, 0.2],
           [0.2, 0.2, 0.2, 0.2]])
    """
    _check_scale(scale)
    from skimage.transform import rescale as resample
    from skimage.util import img_as_float64

    working: Floats = img_as_float64(image)
    if scale == 1:
        return working
    channel_axis = 2 if image.ndim == 3 else None
    resampled: Floats = resample(working, scale, mode="reflect", anti_aliasing=False, channel_axis=channel_axis)
    return resampled


def _check_sigma(sigma: float) -> None:
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ParameterError(f"sigma must be a finite number >= 0, got {sigma}")


def _check_scale(scale: float) -> None:
    if not 0 < scale <= 1:
        raise ParameterError(f"scale must be in (0, 1], got {scale}")


def smooth_and_rescale(image: Image, sigma: float, scale: float) -> Floats:
    """Smooth an image and resample it to the working grid, computing only the lines that the grid needs.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale, finite.
    sigma : float
        Standard deviation in pixels, as for `smooth`.
    scale : float
        Size of the working grid as part of the original, as for `rescale`.

    Returns
    -------
    working : ndarray of float64, shape (m, n) or (m, n, C)
        What ``rescale(smooth(image, sigma), scale)`` returns: every smoothed pixel is the same to the last bit, what
        lies between them is so but for the last bit of few.

    Raises
    ------
    ParameterError
        If `sigma` or `scale` is not allowed.

    Notes
    -----
    O(min(1, 2·scale)·P·sigma) time. Memory is that of the result and of some lines, more than 8·sigma of them. Sums
    are added up in the order of ``scipy.ndimage.correlate1d`` and rounded where it rounds, because that of an integer
    image is cut off after each direction: there, the last bit makes 254 of 255. Integers of 64 bits are more than
    float64 holds, and are left to the two steps.

    Examples
    --------
    >>> image = np.array([[0, 0, 90, 0, 0]], dtype=np.uint8)
    >>> (smooth_and_rescale(image, sigma=1, scale=0.6) * 255).round(3)
    array([[10.333, 35.   , 10.333]])
    """
    _check_sigma(sigma)
    _check_scale(scale)
    if (sigma == 0 and scale == 1) or (image.dtype.kind in "iu" and image.dtype.itemsize == 8):
        return rescale(smooth(image, sigma), scale)
    from segmentation.kernels.resample import sample_lines

    weights = _gaussian_weights(sigma)
    rows, columns = _Samples.along(image.shape[0], scale), _Samples.along(image.shape[1], scale)
    wanted, before, after = rows.between()
    working = np.empty((len(before), len(columns.before), math.prod(image.shape[2:])))
    lowest, highest = np.inf, -np.inf
    for band in _bands(image, scale, len(before), len(weights) - 1):
        first, last = before[band][0], after[band][-1]
        lines = _smooth_lines(image, wanted[first : last + 1], weights)
        lowest = np.fmin(lowest, np.fmin.reduce(lines, axis=None))
        highest = np.fmax(highest, np.fmax.reduce(lines, axis=None))
        if scale == 1:
            working[band] = lines.reshape(working[band].shape)
        else:
            ends = before[band] - first, after[band] - first, rows.parts[band]
            sample_lines(lines, *ends, columns.before, columns.after, columns.parts, working[band])
    # Weights that add up to a bit more than 1 would make white brighter than white.
    return np.clip(working, lowest, highest, out=working).reshape(*working.shape[:2], *image.shape[2:])


@dataclass(frozen=True)
class _Samples:
    """Where the samples of an axis lie: between which two pixels, and how far behind the first, in [0, 1)."""

    before: Ints
    after: Ints
    parts: Floats

    @classmethod
    def along(cls, n: int, scale: float) -> Self:
        """Place samples as ``skimage.transform.rescale`` does: their extents tile those of the pixels."""
        n_samples = max(1, round(n * scale))
        places = (np.arange(n_samples) + 0.5) * (n / n_samples) - 0.5
        before = np.floor(places).astype(np.int64)
        parts = places - before
        return cls(before, before + (parts > 0), parts)

    def between(self) -> tuple[Ints, Ints, Ints]:
        """Return which pixels the samples lie between, in order, and the places of `before` and `after` in these."""
        both = np.stack([self.before, self.after])
        pixels, places = np.unique(both, return_inverse=True)
        before, after = places.reshape(both.shape)
        return pixels, before, after


def _gaussian_weights(sigma: float) -> Floats:
    """Return the weights of scipy.ndimage.gaussian_filter, from the farthest pixel to that in the middle."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights /= weights.sum()
    # SciPy reads the first half of the turned array, whose values need not be those of the other to the last bit.
    return np.ascontiguousarray(weights[radius:][::-1])


def _bands(image: Image, scale: float, n_rows: int, radius: int) -> Iterator[slice]:
    """Divide the rows of the working grid into bands whose lines of the image fit into a processor's cache."""
    line_bytes = 8 * image.size // image.shape[0]
    # The lines beyond a band's ends are converted for its neighbours too: they must not be most of it.
    n_lines = max(4 * radius, _BAND_BYTES // line_bytes)
    height = max(1, int(n_lines / min(1 / scale, 2 * radius + 2)))
    return (slice(start, start + height) for start in range(0, n_rows, height))


def _smooth_lines(image: Image, wanted: Ints, weights: Floats) -> Floats:
    """Smooth some lines of an image; return floats, those of an integer image as parts of its largest value."""
    from segmentation.kernels.resample import KEEP, SINGLE, TRUNCATE, smooth_lines

    radius = len(weights) - 1
    reach = np.arange(-radius, radius + 1)
    lines, places = _lines(image, _reflected(wanted[:, None] + reach, image.shape[0]))
    columns = _reflected(np.arange(-radius, image.shape[1] + radius), image.shape[1])
    is_integer = image.dtype.kind in "iu"
    rounding = TRUNCATE if is_integer else SINGLE if image.dtype == np.float32 else KEEP
    smoothed: Floats = smooth_lines(lines, places, columns, weights, rounding)
    if is_integer:
        smoothed *= 1.0 / np.iinfo(image.dtype).max
    if image.dtype.kind == "i":  # the smallest is farther from 0 than the largest
        np.maximum(smoothed, -1.0, out=smoothed)
    return smoothed


def _reflected(places: Ints, n: int) -> Ints:
    """Bring places beyond the ends of an axis of n pixels back: c b a | a b c | c b a."""
    places = places % (2 * n)
    return np.where(places < n, places, 2 * n - 1 - places)


def _lines(image: Image, places: Ints) -> tuple[Floats, Ints]:
    """Return those lines of an image that are named, as floats, shape (H, N*C), and the places among them."""
    named = np.zeros(image.shape[0], np.bool_)
    named[places] = True
    first, last = int(named.argmax()), image.shape[0] - int(named[::-1].argmax())
    if named[first:last].all():
        lines, places = image[first:last], places - first
    else:
        lines, places = image[named], (np.cumsum(named) - 1)[places]
    return read_only(lines.astype(np.float64, order="C", copy=False).reshape(len(lines), -1)), places


def rescale_mask(mask: Bools, shape: tuple[int, int]) -> Bools:
    """Sample a mask at the centres of the pixels of a coarser grid.

    Parameters
    ----------
    mask : ndarray of bool, shape (M, N)
        True where the image is to be segmented.
    shape : tuple of int
        Shape (m, n) of the coarser grid, m <= M and n <= N.

    Returns
    -------
    rescaled : ndarray of bool, shape (m, n)
        Pixel (r, c) is the mask's pixel (floor((r + .5)·M/m), floor((c + .5)·N/n)).

    Notes
    -----
    The centre sampled here lies in the block of original pixels that `labels.upscale_labels` gives back to
    (r, c), so each working pixel that is segmented keeps an original pixel inside the mask.

    Examples
    --------
    >>> rescale_mask(np.array([[True, True, True, False, False, False]]), (1, 2))
    array([[ True, False]])
    """
    rows = centres(shape[0], mask.shape[0])
    columns = centres(shape[1], mask.shape[1])
    return mask[np.ix_(rows, columns)]


def centres(n: int, of: int) -> Ints:
    """Return, for each of `n` cells along an axis, the index at its centre on the same axis of `of` cells.

    Examples
    --------
    >>> centres(2, of=6)
    array([1, 4])
    >>> centres(6, of=2)
    array([0, 0, 0, 1, 1, 1])
    """
    # Integers: a floor of floats may fall on the wrong side.
    return (2 * np.arange(n, dtype=np.int64) + 1) * of // (2 * n)
