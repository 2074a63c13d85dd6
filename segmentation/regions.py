"""The region table: what can be said about each region in one row of numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Image, Ints, Labels
from segmentation.errors import ParameterError

#: Columns of equal length, one row per region, in the order of `region_table`.
RegionTable = dict[str, NDArray[Any]]

_BOX_COLUMNS = ("bbox_row_min", "bbox_col_min", "bbox_row_max", "bbox_col_max")
_MEAN_COLUMNS = ("mean_intensity", "mean_red", "mean_green", "mean_blue")
# How much of the perimeter a border pixel stands for, by
# 1 + 2 * (border pixels of its region beside it) + 10 * (those diagonal to it): Benkrid & Crookes.
_PERIMETER_WEIGHTS = np.zeros(50)
_PERIMETER_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1
_PERIMETER_WEIGHTS[[21, 33]] = np.sqrt(2)
_PERIMETER_WEIGHTS[[13, 23]] = (1 + np.sqrt(2)) / 2
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


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
        If image and labels differ in shape.

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
    runs = _row_runs(labels)
    area = _totals(runs, runs.length)
    present = np.flatnonzero(area[1:]) + 1
    bounds = _bounding_boxes(runs)
    moments = _moments(runs, bounds)[:, present]
    n_pixels = area[present]
    centroid = moments[:2] / n_pixels + bounds[:2, present]
    means = np.full((4, len(present)), np.nan)
    if image is not None:
        means = _channel_sums(runs, image)[:, present] / n_pixels
    return {
        "label": present,
        "area": n_pixels.astype(np.int64),
        "centroid_row": centroid[0],
        "centroid_col": centroid[1],
        **dict(zip(_BOX_COLUMNS, bounds[:, present], strict=True)),
        **dict(zip(_MEAN_COLUMNS, means, strict=True)),
        "perimeter": _perimeters(labels, runs.n_slots)[present],
        "eccentricity": _eccentricities(n_pixels, moments),
    }


@dataclass(frozen=True)
class _Runs:
    """Longest stretches of one label along rows: a few per region and row stand for all its pixels."""

    pixel: Ints  # flat index of the first pixel
    label: Ints
    row: Ints
    column: Ints
    length: Ints
    n_slots: int  # highest label + 1


def _row_runs(labels: Labels) -> _Runs:
    starts = np.ones(labels.shape, np.bool_)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    pixel = np.flatnonzero(starts)
    row, column = np.divmod(pixel, max(1, labels.shape[1]))
    return _Runs(
        pixel=pixel,
        label=labels.reshape(-1)[pixel].astype(np.intp),
        row=row,
        column=column,
        length=np.diff(pixel, append=labels.size),
        n_slots=int(labels.max(initial=0)) + 1,
    )


def _totals(runs: _Runs, values: NDArray[Any]) -> Floats:
    return np.bincount(runs.label, weights=values, minlength=runs.n_slots).astype(np.float64, copy=False)


def _bounding_boxes(runs: _Runs) -> Ints:
    """Return row and column minima, then maxima (exclusive), shape (4, n_slots)."""
    bounds = np.zeros((4, runs.n_slots), np.int64)
    bounds[:2] = np.iinfo(np.int64).max
    np.minimum.at(bounds[0], runs.label, runs.row)
    np.minimum.at(bounds[1], runs.label, runs.column)
    np.maximum.at(bounds[2], runs.label, runs.row + 1)
    np.maximum.at(bounds[3], runs.label, runs.column + runs.length)
    return bounds


def _moments(runs: _Runs, bounds: Ints) -> Floats:
    """Return the sums of y, x, yy, xx, yx per label, shape (5, n_slots), from the corner of its bounding box.

    From the corner of the image the squares would grow beyond what float64 holds exactly.
    """
    y = runs.row - bounds[0, runs.label]
    first = runs.column - bounds[1, runs.label]
    last = first + runs.length - 1
    x = (first + last) * runs.length // 2
    xx = (last * (last + 1) * (2 * last + 1) - (first - 1) * first * (2 * first - 1)) // 6
    return np.stack([_totals(runs, sums) for sums in (y * runs.length, x, y * y * runs.length, xx, y * x)])


def _channel_sums(runs: _Runs, image: Image) -> Floats:
    """Return the sums of intensity, red, green, blue per label, shape (4, n_slots); grey has NaN colours."""
    sums = np.full((4, runs.n_slots), np.nan)
    if image.ndim == 3 and image.shape[2] == 3:
        for channel in range(3):
            sums[1 + channel] = _pixel_sums(runs, image[..., channel])
        sums[0] = sums[1:].mean(axis=0)
    else:
        sums[0] = _pixel_sums(runs, image)
    return sums


def _pixel_sums(runs: _Runs, values: Image) -> Floats:
    return _totals(runs, np.add.reduceat(values.reshape(-1), runs.pixel, dtype=np.float64))


def _eccentricities(area: Floats, moments: Floats) -> Floats:
    y, x, yy, xx, yx = moments
    # Variances times area squared: integers, so that symmetric regions get exactly 0.
    var_y, var_x, covariance = area * yy - y * y, area * xx - x * x, area * yx - y * x
    spread = np.hypot(var_y - var_x, 2 * covariance)
    major = var_y + var_x + spread
    squared: Floats = np.divide(2 * spread, major, out=np.zeros_like(major), where=major > 0)
    return np.sqrt(squared)


def _perimeters(labels: Labels, n_slots: int) -> Floats:
    padded = np.pad(labels, 1)
    border = np.zeros(padded.shape, np.bool_)
    centre = padded[1:-1, 1:-1]
    for row, column in _BESIDE:
        border[1:-1, 1:-1] |= centre != _shifted(padded, row, column)
    outline = np.where(border, padded, 0).reshape(-1)
    pixels = np.flatnonzero(outline)
    own = outline[pixels]
    code = np.ones(len(pixels), np.intp)
    for weight, neighbours in ((2, _BESIDE), (10, _DIAGONAL)):
        for row, column in neighbours:
            code += weight * (outline[pixels + row * padded.shape[1] + column] == own)
    lengths = np.bincount(own.astype(np.intp), weights=_PERIMETER_WEIGHTS[code], minlength=n_slots)
    return lengths.astype(np.float64, copy=False)


def _shifted(padded: Labels, row: int, column: int) -> Labels:
    n_rows, n_columns = padded.shape
    return padded[1 + row : n_rows - 1 + row, 1 + column : n_columns - 1 + column]
