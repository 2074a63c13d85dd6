"""Check an image, smooth it, and bring it and its mask to the working grid."""

import math

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Floats, Image, Ints
from segmentation.errors import ImageError, ParameterError

#: Squares of larger values overflow once summed over an image, so these count as infinite.
LARGEST_VALUE = 1e100


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
    usable = np.abs(image) <= largest  # False for NaN too
    if usable.all():
        return image
    wrong = ~usable if image.ndim == 2 else ~usable.all(axis=2)
    if mask is not None:
        wrong &= mask
    count = int(np.count_nonzero(wrong))
    if count == 1:
        raise ImageError("1 pixel is NaN or infinite; mask it first")
    if count:
        raise ImageError(f"{count} pixels are NaN or infinite; mask them first")
    return np.where(usable, image, image.dtype.type(0))


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
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ParameterError(f"sigma must be a finite number >= 0, got {sigma}")
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
    if not 0 < scale <= 1:
        raise ParameterError(f"scale must be in (0, 1], got {scale}")
    from skimage.transform import rescale as resample
    from skimage.util import img_as_float64

    working: Floats = img_as_float64(image)
    if scale == 1:
        return working
    channel_axis = 2 if image.ndim == 3 else None
    resampled: Floats = resample(working, scale, mode="reflect", anti_aliasing=False, channel_axis=channel_axis)
    return resampled


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
