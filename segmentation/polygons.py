"""Regions as polygons along pixel edges: exact, valid, with holes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Ints, Labels
from segmentation.errors import ParameterError

#: Closed ring of corners (x, y), shape (n, 2): the last row repeats the first.
Ring = NDArray[np.int64]
#: The exterior ring, then the holes.
Polygon = list[Ring]


@dataclass(frozen=True)
class RegionPolygons:
    """The 4-connected pieces of one region, one polygon each."""

    label: int
    polygons: list[Polygon]


@dataclass(frozen=True)
class _Runs:
    """Straight stretches of border in one direction: every corner starts one.

    A run goes along one side of a row or column of pixels that belong to one piece.
    """

    first: Ints  # flat index of the pixel where it starts
    last: Ints  # flat index of the pixel where it ends
    corner: NDArray[np.int64]  # (x, y) where it starts, shape (n, 2)


def region_polygons(labels: Labels) -> Iterator[RegionPolygons]:
    """Trace every region along its pixel edges.

    Pixel (r, c) covers the square from (x, y) = (c, r) to (c + 1, r + 1).

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.

    Yields
    ------
    RegionPolygons
        In ascending order of labels. The polygons cover exactly the region's pixels; rings have no collinear
        points and touch neither themselves nor, except in single corners, each other. Exterior rings are
        counter-clockwise by the formula of [1]_ (positive signed area of x, y), holes clockwise.

    Raises
    ------
    ParameterError
        If `labels` is not a matrix.

    Notes
    -----
    O(M·N) time in NumPy, plus O(corners) in Python.

    References
    ----------
    .. [1] "The GeoJSON Format", RFC 7946, section 3.1.6, 2016.

    Examples
    --------
    >>> for region in region_polygons(np.array([[1, 1, 2], [1, 1, 2]])):
    ...     print(region.label, region.polygons[0][0].tolist())
    1 [[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]
    2 [[2, 0], [3, 0], [3, 2], [2, 2], [2, 0]]
    """
    from skimage.measure import label as connected_pieces

    if labels.ndim != 2:
        raise ParameterError(f"labels must have shape (M, N), got {labels.shape}")
    # The margin makes the edge of the image a border like any other, and every neighbour exist.
    padded = np.pad(labels, 1)
    pieces: Labels = connected_pieces(padded, background=0, connectivity=1)
    runs = _border_runs(pieces)
    corners = np.concatenate([run.corner for run in runs]) - 1
    pixels = np.concatenate([run.first for run in runs])
    piece_of_run = pieces.reshape(-1)[pixels]
    label_of_piece = np.zeros(int(pieces.max()) + 1, np.int64)
    label_of_piece[pieces] = padded
    polygon_of_piece: dict[int, Polygon] = {}
    # The exterior holds a piece's topmost border, and top runs come first: exteriors precede their holes.
    for cycle in _cycles(_successors(pieces, runs)):
        ring = corners[[*cycle, cycle[0]]]
        polygon_of_piece.setdefault(int(piece_of_run[cycle[0]]), []).append(ring)
    order = sorted(polygon_of_piece, key=lambda piece: int(label_of_piece[piece]))
    for label, group in groupby(order, key=lambda piece: int(label_of_piece[piece])):
        yield RegionPolygons(label, [polygon_of_piece[piece] for piece in group])


def _border_runs(pieces: Labels) -> tuple[_Runs, _Runs, _Runs, _Runs]:
    """Return the runs along the top (to the right), right (down), bottom (left) and left (up) of pixels.

    These directions keep the piece on the same side all around: exteriors come out counter-clockwise.
    """
    top = _runs_along_rows(pieces, -1)
    bottom = _runs_along_rows(pieces, 1)
    right = _transposed(_runs_along_rows(pieces.T, 1), pieces.shape)
    left = _transposed(_runs_along_rows(pieces.T, -1), pieces.shape)
    n_columns = pieces.shape[1]
    return (
        _Runs(*top, _corners(top[0], n_columns, 0, 0)),
        _Runs(*right, _corners(right[0], n_columns, 1, 0)),
        _Runs(bottom[1], bottom[0], _corners(bottom[1], n_columns, 1, 1)),
        _Runs(left[1], left[0], _corners(left[1], n_columns, 0, 1)),
    )


def _runs_along_rows(pieces: Labels, side: int) -> tuple[Ints, Ints]:
    """Return the leftmost and rightmost pixels of runs along a border above (-1) or below (1) a row."""
    edge = (pieces != np.roll(pieces, -side, axis=0)) & (pieces != 0)
    goes_on = edge[:, 1:] & edge[:, :-1] & (pieces[:, 1:] == pieces[:, :-1])
    starts, ends = edge.copy(), edge
    starts[:, 1:] &= ~goes_on
    ends[:, :-1] &= ~goes_on
    return np.flatnonzero(starts), np.flatnonzero(ends)


def _transposed(runs: tuple[Ints, Ints], shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    n_rows, n_columns = shape
    first, last = ((flat % n_rows) * n_columns + flat // n_rows for flat in runs)
    return first, last


def _corners(pixels: Ints, n_columns: int, right: int, below: int) -> NDArray[np.int64]:
    return np.stack([pixels % n_columns + right, pixels // n_columns + below], axis=1)


def _successors(pieces: Labels, runs: tuple[_Runs, _Runs, _Runs, _Runs]) -> Ints:
    """Return, for each run, the run that starts in the corner where it ends.

    Where the piece goes on diagonally across that corner, the border crosses to that pixel: its other two
    sides then lie in different rings, so that no ring touches itself.
    """
    n_columns = pieces.shape[1]
    flat = pieces.reshape(-1)
    offsets = np.cumsum([0, *(len(run.first) for run in runs)])
    starts = [_Lookup(run.first) for run in runs]
    successors = []
    for direction, ahead in enumerate((1 - n_columns, n_columns + 1, n_columns - 1, -n_columns - 1)):
        last = runs[direction].last
        crosses = flat[last + ahead] == flat[last]
        outward, inward = (direction - 1) % 4, (direction + 1) % 4
        following = np.empty(len(last), np.int64)
        following[crosses] = offsets[outward] + starts[outward](last[crosses] + ahead)
        following[~crosses] = offsets[inward] + starts[inward](last[~crosses])
        successors.append(following)
    return np.concatenate(successors)


class _Lookup:
    """Positions of values in an array without duplicates."""

    def __init__(self, values: Ints) -> None:
        self._order = np.argsort(values, kind="stable")
        self._values = values[self._order]

    def __call__(self, wanted: Ints) -> Ints:
        found: NDArray[Any] = self._order[np.searchsorted(self._values, wanted)]
        return found


def _cycles(successors: Ints) -> Iterator[list[int]]:
    following = successors.tolist()
    seen = bytearray(len(following))
    for start in range(len(following)):
        if seen[start]:
            continue
        cycle, here = [], start
        while not seen[here]:
            seen[here] = 1
            cycle.append(here)
            here = following[here]
        yield cycle
