"""How probable a boundary is at every pixel: what trees say of cues there and around, along and across its direction.

A view is one number of a pixel, looked up in a map: at the pixel itself, or at two places on either side of it, so many
pixels away along the strongest orientation or across it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Integers, Ints
from segmentation.kernels.compiled import compiled
from segmentation.kernels.cues import N_ORIENTATIONS
from segmentation.kernels.forest import Forest, write_log_odds

Singles = NDArray[np.float32]

#: Kinds of views: at the pixel; at the pixel, across its orientation; sum along; lesser, larger, and difference across.
KINDS = ("here", "crosswise", "along", "lesser", "larger", "difference")
HERE, CROSSWISE, ALONG, LESSER, LARGER, DIFFERENCE = range(6)
#: Features after the views: three of the scene, distances to the image's border, and the orientation.
N_PLACE = 6
#: Pixels, on the grid of half size, from which on the border of the image is out of sight.
_SIGHT = 16
_BLOCK = 32


class Maps(NamedTuple):
    """What is looked at, on the grid of half the image's size, (m, n), or of a quarter."""

    fine: Singles  # oriented maps of half size, (P, m, n, 8)
    coarse: Singles  # oriented maps of a quarter, (Q, ceil(m / 2), ceil(n / 2), 8)
    planes: Singles  # maps without orientation, (R, m, n)
    orientations: Integers  # the strongest orientation, (m, n)
    scene: Floats  # mean and standard deviation of the cues, mean steepness


class Views(NamedTuple):
    """Views of a pixel: map (oriented ones first, in the order of `Maps`), kind, and offsets of the two places."""

    maps: Ints  # (V,)
    kinds: Ints  # (V,)
    offsets: Ints  # rows and columns for each orientation, (V, 8, 2, 2)


@compiled
def boundary_probabilities(maps: Maps, views: Views, forest: Forest) -> Singles:
    """Return how probable people draw a boundary at every pixel, shape (m, n).

    Notes
    -----
    O(mn (V + T D)) time, for V views and T trees of depth D.
    """
    n_rows, n_columns = maps.orientations.shape
    probabilities = np.empty((n_rows, n_columns), np.float32)
    rows, odds = np.empty((_BLOCK, len(views.maps) + N_PLACE), np.float32), np.empty(_BLOCK)
    for row in range(n_rows):
        for start in range(0, n_columns, _BLOCK):
            count = min(_BLOCK, n_columns - start)
            _look(maps, views, row, start, rows[:count])
            write_log_odds(forest, rows[:count], odds[:count])
            for index in range(count):
                probabilities[row, start + index] = 1 / (1 + np.exp(-odds[index]))
    return probabilities


@compiled
def look_at(maps: Maps, views: Views) -> Singles:
    """Return the features of all pixels, shape (m, n, V + N_PLACE)."""
    n_rows, n_columns = maps.orientations.shape
    features = np.empty((n_rows, n_columns, len(views.maps) + N_PLACE), np.float32)
    for row in range(n_rows):
        _look(maps, views, row, 0, features[row])
    return features


@compiled
def _look(maps: Maps, views: Views, row: int, start: int, features: Singles) -> None:
    """Write the features of pixels side by side, shape (B, V + N_PLACE)."""
    n_rows, n_columns = maps.orientations.shape
    n_fine, n_oriented = len(maps.fine), len(maps.fine) + len(maps.coarse)
    orientations = maps.orientations[row, start:]
    for view in range(len(views.maps)):
        number, kind, offsets = views.maps[view], views.kinds[view], views.offsets[view]
        if number < n_fine:
            _look_at_oriented(maps.fine[number], 0, kind, offsets, orientations, row, start, features[:, view])
        elif number < n_oriented:
            coarse = maps.coarse[number - n_fine]
            _look_at_oriented(coarse, 1, kind, offsets, orientations, row, start, features[:, view])
        else:
            _look_at_plane(maps.planes[number - n_oriented], kind, offsets, orientations, row, start, features[:, view])
    last = len(views.maps)
    for index in range(len(features)):
        column = start + index
        features[index, last : last + 3] = maps.scene
        features[index, last + 3] = min(row, n_rows - 1 - row, _SIGHT)
        features[index, last + 4] = min(column, n_columns - 1 - column, _SIGHT)
        features[index, last + 5] = min(orientations[index], N_ORIENTATIONS - orientations[index])


@compiled
def _look_at_oriented(
    map_: Singles, halvings: int, kind: int, offsets: Ints, orientations: Integers, row: int, start: int, seen: Singles
) -> None:
    """Look at a map of the grid's size, or of that halved."""
    for index in range(len(seen)):
        column, orientation = start + index, orientations[index]
        if kind == HERE:
            seen[index] = _between(map_, halvings, row, column, orientation)
        elif kind == CROSSWISE:
            across = (orientation + N_ORIENTATIONS // 2) % N_ORIENTATIONS
            seen[index] = _between(map_, halvings, row, column, across)
        else:
            places = offsets[orientation]
            one_row, one_column = _inside(map_, halvings, row + places[0, 0], column + places[0, 1])
            other_row, other_column = _inside(map_, halvings, row + places[1, 0], column + places[1, 1])
            one, other = map_[one_row, one_column, orientation], map_[other_row, other_column, orientation]
            seen[index] = _of_two(kind, one, other)


@compiled
def _look_at_plane(
    plane: Singles, kind: int, offsets: Ints, orientations: Integers, row: int, start: int, seen: Singles
) -> None:
    for index in range(len(seen)):
        column = start + index
        if kind == HERE:
            seen[index] = plane[row, column]
        else:
            places = offsets[orientations[index]]
            one_row, one_column = _inside(plane, 0, row + places[0, 0], column + places[0, 1])
            other_row, other_column = _inside(plane, 0, row + places[1, 0], column + places[1, 1])
            seen[index] = _of_two(kind, plane[one_row, one_column], plane[other_row, other_column])


@compiled
def _inside(map_: Singles, halvings: int, row: int, column: int) -> tuple[int, int]:
    """Return the nearest pixel of a map."""
    return min(max(row, 0) >> halvings, map_.shape[0] - 1), min(max(column, 0) >> halvings, map_.shape[1] - 1)


@compiled
def _of_two(kind: int, one: float, other: float) -> float:
    if kind == ALONG:
        return one + other
    if kind == LESSER:
        return min(one, other)
    return max(one, other) if kind == LARGER else abs(one - other)


@compiled
def _between(map_: Singles, halvings: int, row: int, column: int, orientation: int) -> float:
    """Interpolate an oriented map between the centres of its pixels."""
    if halvings == 0:
        return float(map_[row, column, orientation])
    # Of a pixel half as large, the centre lies a quarter off that of the pixel that it is a part of.
    y = min(max(0.5 * row - 0.25, 0.0), map_.shape[0] - 1.0)
    x = min(max(0.5 * column - 0.25, 0.0), map_.shape[1] - 1.0)
    above, left = int(y), int(x)
    below, right = min(above + 1, map_.shape[0] - 1), min(left + 1, map_.shape[1] - 1)
    down, aside = y - above, x - left
    upper = (1 - aside) * map_[above, left, orientation] + aside * map_[above, right, orientation]
    lower = (1 - aside) * map_[below, left, orientation] + aside * map_[below, right, orientation]
    return float((1 - down) * upper + down * lower)
