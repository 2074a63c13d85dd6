"""Basins of a relief: where they begin, how they are flooded, and which of them are too shallow to be any."""

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Integers
from segmentation.kernels.compiled import compiled
from segmentation.kernels.pieces import root

Singles = NDArray[np.float32]

#: Height of pixels that do not exist.
OUTSIDE = -1


@compiled
def relief(maps: Singles, fine: Singles, weight: float, n_levels: int, mask: Bools) -> Integers:
    """Enlarge a map to twice its size, add a finer one, and round.

    Parameters
    ----------
    maps : ndarray of float32, shape (ceil(M / 2), ceil(N / 2))
    fine : ndarray of float32, shape (M, N)
    weight : float
        Of the finer map.
    n_levels : int
        Levels between 0 and 1.
    mask : ndarray of bool, shape (M, N)

    Returns
    -------
    heights : ndarray of int32, shape (M, N)
        At least 0; `OUTSIDE` of the mask.
    """
    n_rows, n_columns = fine.shape
    heights = np.full((n_rows, n_columns), OUTSIDE, np.int32)
    for row in range(n_rows):
        above, down = (row - 1) // 2, 0.25 if row % 2 else 0.75
        below, above = min(above + 1, maps.shape[0] - 1), max(above, 0)
        for column in range(n_columns):
            if not mask[row, column]:
                continue
            left, aside = (column - 1) // 2, 0.25 if column % 2 else 0.75
            right, left = min(left + 1, maps.shape[1] - 1), max(left, 0)
            upper = maps[above, left] * (1 - aside) + maps[above, right] * aside
            lower = maps[below, left] * (1 - aside) + maps[below, right] * aside
            height = upper * (1 - down) + lower * down + weight * fine[row, column]
            heights[row, column] = int(height * n_levels + 0.5)
    return heights


@compiled
def minima(heights: Integers) -> Integers:
    """Give numbers to the regional minima of a relief: connected pixels of equal height without a lower neighbour.

    Parameters
    ----------
    heights : ndarray of int32, shape (M, N)
        At least 0, or `OUTSIDE`.

    Returns
    -------
    labels : ndarray of int32, shape (M, N)
        From 1 in raster order of their first pixels; 0 elsewhere.
    """
    n_rows, n_columns = heights.shape
    labels = np.zeros(heights.shape, np.int32)
    seen = np.zeros(heights.shape, np.bool_)
    stack = np.empty(heights.size, np.int32)
    count = 0
    for row in range(n_rows):
        for column in range(n_columns):
            if seen[row, column] or heights[row, column] == OUTSIDE or _has_lower(heights, row, column):
                continue
            # The stack is not emptied: in the end it lists the plateau.
            height, is_lowest = heights[row, column], True
            seen[row, column], stack[0] = True, row * n_columns + column
            done, end = 0, 1
            while done < end:
                r, c = stack[done] // n_columns, stack[done] % n_columns
                done += 1
                for other_row, other_column in ((r - 1, c), (r, c - 1), (r, c + 1), (r + 1, c)):
                    if not (0 <= other_row < n_rows and 0 <= other_column < n_columns):
                        continue
                    other = heights[other_row, other_column]
                    if OUTSIDE < other < height:
                        is_lowest = False
                    elif other == height and not seen[other_row, other_column]:
                        seen[other_row, other_column] = True
                        stack[end] = other_row * n_columns + other_column
                        end += 1
            if is_lowest:
                count += 1
                for place in range(end):
                    labels[stack[place] // n_columns, stack[place] % n_columns] = count
    return labels


@compiled
def _has_lower(heights: Integers, row: int, column: int) -> bool:
    height = heights[row, column]
    return bool(
        (column > 0 and OUTSIDE < heights[row, column - 1] < height)
        or (row > 0 and OUTSIDE < heights[row - 1, column] < height)
        or (column + 1 < heights.shape[1] and OUTSIDE < heights[row, column + 1] < height)
        or (row + 1 < heights.shape[0] and OUTSIDE < heights[row + 1, column] < height)
    )


@compiled
def flood_basins(heights: Integers, labels: Integers) -> None:
    """Grow the minima of a relief until they meet: always the lowest pixel first, of equal ones that reached first.

    Parameters
    ----------
    heights : ndarray of int32, shape (M, N)
        At least 0, or `OUTSIDE`.
    labels : ndarray of int32, shape (M, N)
        From `minima`; is filled.

    Notes
    -----
    O(MN) time. From any pixel a way leads down to a minimum, so no pixel is ever reached that is lower than the
    flood, and all of one height are reached before it rises: Meyer's hierarchical queue is one list for every height,
    as long as there are pixels of it, and these lie one behind the other in an array that is read from start to end.
    """
    n_rows, n_columns = labels.shape
    flat, relief_ = labels.reshape(-1), heights.reshape(-1)
    ends = np.zeros(heights.max() + 2, np.int64)
    for pixel in range(len(flat)):
        if relief_[pixel] != OUTSIDE:
            ends[relief_[pixel] + 1] += 1
    ends = np.cumsum(ends)
    queue = np.empty(ends[-1], np.int32)
    for pixel in range(len(flat)):
        if flat[pixel] > 0:
            _put(queue, ends, relief_[pixel], pixel)
        elif relief_[pixel] != OUTSIDE:
            flat[pixel] = -1 - relief_[pixel]  # not reached: with its height there is one array to look into
    for pixel in queue:
        row, column = pixel // n_columns, pixel % n_columns
        for step, is_there in (
            (-n_columns, row > 0),
            (-1, column > 0),
            (1, column < n_columns - 1),
            (n_columns, row < n_rows - 1),
        ):
            other = pixel + step
            if is_there and flat[other] < 0:
                _put(queue, ends, -1 - flat[other], other)
                flat[other] = flat[pixel]


@compiled
def _put(queue: Integers, ends: Integers, height: int, pixel: int) -> None:
    queue[ends[height]] = pixel
    ends[height] += 1


@compiled
def join_shallow(
    heights: Integers, labels: Integers, sides: Integers, depth: int, area: int
) -> tuple[Integers, Integers, Integers]:
    """Join basins across their lowest passes, lowest first, where one of the two is shallow or small.

    Parameters
    ----------
    heights : ndarray of int32, shape (M, N)
    labels : ndarray of int32, shape (M, N)
        Basins 1..n, 0 elsewhere.
    sides : ndarray of int32, shape (S, 5)
        From `segmentation.kernels.borders.border_sides`.
    depth, area : int
        A basin stays one if it is at least so deep below the pass, and has so many pixels.

    Returns
    -------
    roots : ndarray of int32, shape (n + 1,)
        The first of the basins that each has become one with.
    joins : ndarray of int32, shape (J, 2)
        The nodes that were joined one after the other: basin b is node b - 1, join i makes node n + i.
    nodes : ndarray of int32, shape (n + 1,)
        The last node of every root.

    Notes
    -----
    O(MN) time. What remains are the basins with a dynamics of at least `depth` [1]_.

    References
    ----------
    .. [1] Najman & Schmitt, "Geodesic saliency of watershed contours and hierarchical segmentation", IEEE TPAMI
       18(12), 1996.
    """
    n_basins = labels.max()
    roots, nodes = np.arange(n_basins + 1).astype(np.int32), np.arange(-1, n_basins).astype(np.int32)
    joins, count = np.empty((n_basins, 2), np.int32), 0
    sizes, lowest = np.zeros(n_basins + 1, np.int64), np.full(n_basins + 1, heights.max() + 1)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            basin = labels[row, column]
            sizes[basin] += 1
            lowest[basin] = min(lowest[basin], heights[row, column])
    pairs, ends = _by_height(heights, sides)
    height = 0
    for index in range(len(pairs)):
        while index >= ends[height]:
            height += 1
        one, other = root(roots, pairs[index, 0]), root(roots, pairs[index, 1])
        if one == other:
            continue
        if height - max(lowest[one], lowest[other]) < depth or min(sizes[one], sizes[other]) < area:
            one, other = min(one, other), max(one, other)
            joins[count, 0], joins[count, 1] = min(nodes[one], nodes[other]), max(nodes[one], nodes[other])
            nodes[one] = n_basins + count
            count += 1
            roots[other] = one
            sizes[one] += sizes[other]
            lowest[one] = min(lowest[one], lowest[other])
    for basin in range(1, n_basins + 1):
        roots[basin] = root(roots, basin)
    return roots, joins[:count].copy(), nodes


@compiled
def _by_height(heights: Integers, sides: Integers) -> tuple[Integers, Integers]:
    """Sort the pairs of basins of sides by the height of the pass, the higher of two pixels; tell where each ends."""
    passes = np.empty(len(sides), np.int32)
    places = np.zeros(heights.max() + 2, np.int64)
    for index in range(len(sides)):
        row, column, down = sides[index, 0], sides[index, 1], sides[index, 2]
        passes[index] = max(heights[row, column], heights[row + down, column + 1 - down])
        places[passes[index] + 1] += 1
    places = np.cumsum(places)
    pairs = np.empty((len(sides), 2), np.int32)
    for index in range(len(sides)):
        place = places[passes[index]]
        pairs[place, 0], pairs[place, 1] = sides[index, 3], sides[index, 4]
        places[passes[index]] += 1
    return pairs, places
