"""What lies along the borders of regions, and in the regions, as `segmentation.kernels.merging` takes it."""

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Integers, Ints
from segmentation.kernels.compiled import compiled
from segmentation.kernels.cues import N_ORIENTATIONS
from segmentation.kernels.merging import (
    HISTOGRAMS,
    MEANS,
    N_BINS,
    N_PLANES,
    N_REGION_SUMS,
    PERIMETER,
    SIZE,
    SQUARES,
    STRENGTH,
    TEXTONS,
)

Singles = NDArray[np.float32]


@compiled
def border_sides(labels: Integers) -> Integers:
    """List the sides between pixels of different regions.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
        0 belongs to no region.

    Returns
    -------
    sides : ndarray of int32, shape (S, 5)
        Row and column of the pixel above or to the left, 1 if the other is below it (0 if beside it), and the smaller
        and the larger of the labels; in raster order.
    """
    n_rows, n_columns = labels.shape
    count = 0
    for row in range(n_rows):
        for column in range(n_columns):
            here = labels[row, column]
            if column + 1 < n_columns:
                count += here != labels[row, column + 1]
            if row + 1 < n_rows:
                count += here != labels[row + 1, column]
    sides = np.empty((count, 5), np.int32)
    count = 0
    for row in range(n_rows):
        for column in range(n_columns):
            here = labels[row, column]
            if here == 0:
                continue
            for down in range(2):
                if (row + 1 < n_rows) if down else (column + 1 < n_columns):
                    other = labels[row + down, column + 1 - down]
                    if other != 0 and other != here:
                        sides[count, 0], sides[count, 1], sides[count, 2] = row, column, down
                        sides[count, 3], sides[count, 4] = min(here, other), max(here, other)
                        count += 1
    return sides[:count].copy()


@compiled
def border_directions(sides: Integers, borders: Ints, n_borders: int) -> Floats:
    """Fit a line to each border; return its angle in steps of π/8, in [0, 8), from the columns' axis to the rows'."""
    moments = np.zeros((n_borders, 6))
    for index in range(len(sides)):
        sums, down = moments[borders[index]], sides[index, 2]
        y, x = sides[index, 0] + 0.5 * down, sides[index, 1] + 0.5 * (1 - down)
        sums[0] += 1
        sums[1] += y
        sums[2] += x
        sums[3] += y * y
        sums[4] += x * x
        sums[5] += x * y
    angles = np.empty(n_borders)
    for border in range(n_borders):
        n, y, x, yy, xx, xy = moments[border]
        yy, xx, xy = yy - y * y / n, xx - x * x / n, xy - x * y / n
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        angles[border] = (angle / np.pi * N_ORIENTATIONS) % N_ORIENTATIONS
    for index in range(len(sides)):
        # A single side has no direction but its own.
        if moments[borders[index], 0] == 1:
            angles[borders[index]] = 0.0 if sides[index, 2] else 0.5 * N_ORIENTATIONS
    return angles


@compiled
def sum_along(
    sides: Integers, borders: Ints, angles: Floats, maps: Singles, level: int, totals: Floats, sums: Floats
) -> None:
    """Add up along every border what oriented maps say in its direction.

    Parameters
    ----------
    sides : ndarray of int32, shape (S, 5)
    borders : ndarray of int64, shape (S,)
        Border of every side.
    angles : ndarray of float64
        Direction of every border.
    maps : ndarray of float32, shape (m, n, 8)
        Of a grid whose pixels are `level` pixels of the image wide.
    totals : ndarray of float64, shape (S,)
        What is said is added here for every side,
    sums : ndarray of float64, shape (number of borders,)
        and here for every border.
    """
    for index in range(len(sides)):
        border = borders[index]
        above, below, left, right, y, x = _corners(sides[index], level, maps.shape[0], maps.shape[1])
        turn = angles[border]
        one = int(turn) % N_ORIENTATIONS
        other, part = (one + 1) % N_ORIENTATIONS, turn - int(turn)
        upper = (1 - x) * ((1 - part) * maps[above, left, one] + part * maps[above, left, other])
        upper += x * ((1 - part) * maps[above, right, one] + part * maps[above, right, other])
        lower = (1 - x) * ((1 - part) * maps[below, left, one] + part * maps[below, left, other])
        lower += x * ((1 - part) * maps[below, right, one] + part * maps[below, right, other])
        value = (1 - y) * upper + y * lower
        totals[index] += value
        sums[border] += value


@compiled
def _corners(side: Integers, level: int, n_rows: int, n_columns: int) -> tuple[int, int, int, int, float, float]:
    """Return the rows and columns of a coarser grid that a side's middle lies between, and how far behind the first."""
    y = (side[0] + 0.5 * side[2] + 0.5) / level - 0.5
    x = (side[1] + 0.5 * (1 - side[2]) + 0.5) / level - 0.5
    y, x = min(max(y, 0.0), n_rows - 1.0), min(max(x, 0.0), n_columns - 1.0)
    above, left = int(y), int(x)
    return above, min(above + 1, n_rows - 1), left, min(left + 1, n_columns - 1), y - above, x - left


@compiled
def sum_strengths(sides: Integers, borders: Ints, strength: Singles, steepness: Singles, sums: Floats) -> None:
    """Add up along every border how strong it is at any orientation, and how steep the image.

    Parameters
    ----------
    sides : ndarray of int32, shape (S, 5)
    borders : ndarray of int64, shape (S,)
    strength : ndarray of float32, shape (ceil(M / 2), ceil(N / 2))
    steepness : ndarray of float32, shape (M, N)
    sums : ndarray of float64, shape (number of borders, 2)
        Is added to.
    """
    for index in range(len(sides)):
        above, below, left, right, y, x = _corners(sides[index], 2, strength.shape[0], strength.shape[1])
        upper = (1 - x) * strength[above, left] + x * strength[above, right]
        lower = (1 - x) * strength[below, left] + x * strength[below, right]
        sums[borders[index], 0] += (1 - y) * upper + y * lower
        row, column, down = sides[index, 0], sides[index, 1], sides[index, 2]
        both = steepness[row, column] + steepness[row + down, column + 1 - down]
        sums[borders[index], 1] += 0.5 * both


@compiled
def region_sums(labels: Integers, planes: Singles, ranges: Floats, codes: Integers, strength: Singles) -> Floats:
    """Add up what is known of the pixels of every region, in the layout of `segmentation.kernels.merging`.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
        Regions from 1; 0 belongs to none.
    planes : ndarray of float32, shape (3, ceil(M / 2), ceil(N / 2))
        Planes of half size.
    ranges : ndarray of float64, shape (3, 2)
        Lowest and highest value of each plane's histogram; a value counts in the two bins whose centres it is between.
    codes : ndarray of int32, shape of a plane
        Textons.
    strength : ndarray of float32, shape of a plane

    Returns
    -------
    sums : ndarray of float64, shape (number of regions, N_REGION_SUMS)
    """
    n_rows, n_columns = labels.shape
    sums = np.zeros((labels.max() + 1, N_REGION_SUMS))
    for row in range(n_rows):
        for column in range(n_columns):
            total = sums[labels[row, column]]
            total[SIZE] += 1
            for plane in range(N_PLANES):
                value = planes[plane, row // 2, column // 2]
                place = min(max((value - ranges[plane, 0]) / (ranges[plane, 1] - ranges[plane, 0]), 0.0), 1.0)
                place *= N_BINS - 1
                before = min(int(place), N_BINS - 2)
                start = HISTOGRAMS + plane * N_BINS + before
                total[start] += 1 - (place - before)
                total[start + 1] += place - before
                total[MEANS + plane] += value
                total[SQUARES + plane] += value * value
            total[TEXTONS + codes[row // 2, column // 2]] += 1
            total[STRENGTH] += strength[row // 2, column // 2]
            for step in range(2):
                for other_row, other_column in ((row - 1 + 2 * step, column), (row, column - 1 + 2 * step)):
                    is_there = 0 <= other_row < n_rows and 0 <= other_column < n_columns
                    if not is_there or labels[other_row, other_column] != labels[row, column]:
                        total[PERIMETER] += 1
    return sums[1:].copy()


@compiled
def contour_map(labels: Integers, merges: Integers, heights: Singles, n_base: int) -> Singles:
    """Give every pixel the height of the highest of its borders to the right and below; 0 if it has none.

    Parameters
    ----------
    labels : ndarray of int32, shape (M, N)
        Base regions from 1; 0 where masked.
    merges : ndarray of int32, shape (K, 2)
    heights : ndarray of float32, shape (K,)
    n_base : int
        Number of base regions.

    Returns
    -------
    contours : ndarray of float32, shape (M, N)
    """
    parents = np.arange(n_base + len(merges))
    for merge in range(len(merges)):
        parents[merges[merge, 0]] = parents[merges[merge, 1]] = n_base + merge
    contours = np.zeros(labels.shape, np.float32)
    last_one, last_other, last_height = 0, 0, np.float32(0)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            here = labels[row, column]
            if here == 0:
                continue
            for down in range(2):
                if (row + 1 < labels.shape[0]) if down else (column + 1 < labels.shape[1]):
                    other = labels[row + down, column + 1 - down]
                    if other != 0 and other != here:
                        # Neighbouring sides mostly lie between the same two regions.
                        if here != last_one or other != last_other:
                            last_one, last_other = here, other
                            last_height = _height_of_union(parents, heights, n_base, here - 1, other - 1)
                        contours[row, column] = max(contours[row, column], last_height)
    return contours


@compiled
def _height_of_union(parents: Integers, heights: Singles, n_base: int, one: int, other: int) -> np.float32:
    """Climb from two base regions to the merge that joins them: parents have the larger numbers.

    Where none does, as between pieces of a mask, the border never disappears: its height is infinite.
    """
    while one != other:
        lower = min(one, other)
        if parents[lower] == lower:
            return np.float32(np.inf)
        if one < other:
            one = parents[one]
        else:
            other = parents[other]
    return np.float32(heights[one - n_base])
