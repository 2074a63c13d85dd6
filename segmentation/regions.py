"""The region table: what can be said about each region in one row of numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Image, Ints, Labels, read_only
from segmentation.errors import ParameterError

#: Columns of equal length, one row per region, in the order of `region_table`.
RegionTable = dict[str, NDArray[Any]]

_BOX_COLUMNS = ("bbox_row_min", "bbox_col_min", "bbox_row_max", "bbox_col_max")
_MEAN_COLUMNS = ("mean_intensity", "mean_red", "mean_green", "mean_blue")
# Which kind of border pixel it is, by 1 + 2 * (border pixels of its region beside it) + 10 * (those diagonal to it),
# and how much of the perimeter each kind stands for: Benkrid & Crookes.
_BORDER_KINDS = np.zeros(50, np.uint8)
_BORDER_KINDS[[5, 7, 15, 17, 25, 27]] = 1
_BORDER_KINDS[[21, 33]] = 2
_BORDER_KINDS[[13, 23]] = 3
_BORDER_LENGTHS = np.array([0, 1, np.sqrt(2), (1 + np.sqrt(2)) / 2])
# Other images are converted to the last of these: loops are compiled for each.
_SUMMED_AS_THEY_ARE = ("uint8", "uint16", "float32", "float64")


def region_table(labels: Labels, image: Image | None = None) -> RegionTable:
    """Measure every region.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.
    image : ndarray, shape (M, N) or (M, N, 3), optional
        Grey or RGB.

    Returns
    -------
    table : dict of ndarray
        One row per region in ascending order of labels, the same columns for every image:

        - ``label``, ``area`` (pixels), ``centroid_row``, ``centroid_col``,
        - ``bbox_row_min``, ``bbox_col_min``, ``bbox_row_max``, ``bbox_col_max``, the latter two exclusive,
        - ``mean_intensity`` over all channels, NaN without an image; ``mean_red``, ``mean_green``,
          ``mean_blue``, NaN unless the image is RGB,
        - ``perimeter`` (pixels, along the centres of border pixels [1]_), ``eccentricity`` of the ellipse
          with the same second moments, 0 for a circle to 1 for a line.

    Raises
    ------
    ParameterError
        If image and labels differ in shape, or a label is negative.

    Notes
    -----
    O(M·N) time whatever the number of regions. Equal to ``skimage.measure.regionprops_table``, whose
    eccentricity takes pixels as points: nothing (1/12) is added to the moments for their extent.

    References
    ----------
    .. [1] Benkrid & Crookes, "Design and FPGA implementation of a perimeter estimator", The Queen's
       University of Belfast, 2000.

    Examples
    --------
    >>> table = region_table(np.array([[1, 1, 2], [1, 1, 2]]), np.array([[0, 0, 5], [2, 2, 7]]))
    >>> table["area"], table["centroid_col"], table["mean_intensity"]
    (array([4, 2]), array([0.5, 2. ]), array([1., 6.]))
    """
    if labels.ndim != 2:
        raise ParameterError(f"labels must have shape (M, N), got {labels.shape}")
    if image is not None and (image.shape[:2] != labels.shape or image.shape[2:] not in ((), (1,), (3,))):
        raise ParameterError(
            f"an image of shape (M, N) or (M, N, 3) and labels of shape (M, N) are expected, "
            f"got {image.shape} and {labels.shape}"
        )
    labels = _compact(labels)
    bounds, counts, borders = _measure(labels)
    present = np.flatnonzero(counts[:, 0])
    bounds, counts, borders = bounds[present], counts[present], borders[present]
    moments = _moments(counts, bounds)
    n_pixels = counts[:, 0].astype(np.float64)
    sums = np.zeros((0, len(present)))
    if image is not None and len(present):
        sums = _channel_sums(labels, image)[:, present]
    return {
        "label": present,
        "area": counts[:, 0].copy(),
        "centroid_row": moments[0] / n_pixels + bounds[:, 0],
        "centroid_col": moments[1] / n_pixels + bounds[:, 1],
        **dict(zip(_BOX_COLUMNS, bounds.T.copy(), strict=True)),
        **mean_columns(sums, n_pixels),
        "perimeter": borders @ _BORDER_LENGTHS,
        "eccentricity": _eccentricities(n_pixels, moments),
    }


def mean_columns(sums: Floats, n_pixels: Floats) -> RegionTable:
    """Return the columns of means, from sums of shape (C, K) over regions of so many pixels; C is 1, 3, or 0: unknown.

    Examples
    --------
    >>> mean_columns(np.array([[6.0]]), np.array([3.0]))
    {'mean_intensity': array([2.]), 'mean_red': array([nan]), 'mean_green': array([nan]), 'mean_blue': array([nan])}
    """
    totals = np.full((4, len(n_pixels)), np.nan)
    if len(sums):
        totals[0] = sums.mean(axis=0)
    if len(sums) == 3:
        totals[1:] = sums
    return dict(zip(_MEAN_COLUMNS, totals / n_pixels, strict=True))


def _compact(labels: Labels) -> Labels:
    """Return the labels as one of two types: the loops are compiled for each."""
    if labels.min(initial=0) < 0:
        raise ParameterError(f"labels must be >= 0, got {labels.min()}")
    if labels.max(initial=0) >= 2**32:
        raise ParameterError(f"labels must be below 2**32, got {labels.max()}")
    smallest = np.uint16 if labels.max(initial=0) < 2**16 else np.uint32
    return read_only(labels.astype(smallest, copy=False))


def _measure(labels: Labels) -> tuple[Ints, Ints, Ints]:
    """Return bounds, sums and border pixels per label, see `segmentation.kernels.regions.measure_regions`."""
    if labels.size == 0:  # the columns are asked for where nothing is to be measured
        return np.zeros((1, 4), np.int64), np.zeros((1, 6), np.int64), np.zeros((1, 4), np.int64)
    from segmentation.kernels.regions import measure_regions

    measured: tuple[Ints, Ints, Ints] = measure_regions(labels, int(labels.max()) + 1, _BORDER_KINDS)
    return measured


def _moments(sums: Ints, bounds: Ints) -> Floats:
    """Return the sums of y, x, yy, xx, yx per region, shape (5, K), from the corner of its bounding box.

    From the corner of the image the squares would grow beyond what float64 holds exactly.
    """
    n, y, x, yy, xx, yx = sums.T
    top, left = bounds[:, 0], bounds[:, 1]
    moved = (
        y - n * top,
        x - n * left,
        yy - 2 * top * y + n * top**2,
        xx - 2 * left * x + n * left**2,
        yx - top * x - left * y + n * top * left,
    )
    return np.stack(moved).astype(np.float64)


def _channel_sums(labels: Labels, image: Image) -> Floats:
    """Return the sums of each channel per label, shape (C, n_slots)."""
    from segmentation.kernels.regions import sum_channels

    dtype = image.dtype.name if image.dtype.name in _SUMMED_AS_THEY_ARE else _SUMMED_AS_THEY_ARE[-1]
    pixels = np.ascontiguousarray(image.reshape(*labels.shape, -1), dtype=dtype)
    sums: Floats = sum_channels(labels, read_only(pixels), int(labels.max()) + 1).T
    return sums


def _eccentricities(area: Floats, moments: Floats) -> Floats:
    y, x, yy, xx, yx = moments
    # Variances times area squared: integers, so that symmetric regions get exactly 0.
    var_y, var_x, covariance = area * yy - y * y, area * xx - x * x, area * yx - y * x
    spread = np.hypot(var_y - var_x, 2 * covariance)
    major = var_y + var_x + spread
    squared: Floats = np.divide(2 * spread, major, out=np.zeros_like(major), where=major > 0)
    return np.sqrt(squared)
