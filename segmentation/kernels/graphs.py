"""Sparse matrices of pixel graphs."""

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled


@compiled
def symmetric_csr(
    n_nodes: int, first: Integers, second: Integers, bounds: Integers, weights: Floats, diagonal: Floats
) -> tuple[Integers, Integers, Floats]:
    """Make a symmetric CSR matrix with sorted indices of pairs of nodes, without sorting anything.

    Parameters
    ----------
    n_nodes : int
        P.
    first, second : ndarray of int32, shape (E,)
        The nodes of every pair, first < second. They come in groups; inside a group both ascend, and for equal nodes
        the other end lies farther away in later groups: one group for each direction on a grid, in raster order.
    bounds : ndarray of int64
        Where each group starts, then E.
    weights : ndarray of float64, shape (E,)
        Of the pairs.
    diagonal : ndarray of float64, shape (P,) or (0,)
        Entries on the diagonal; none are stored if it is empty.

    Returns
    -------
    indptr, indices : ndarray of int32
    data : ndarray of float64
    """
    indptr = np.zeros(n_nodes + 1, np.int32)
    for pair in range(len(first)):
        indptr[first[pair] + 1] += 1
        indptr[second[pair] + 1] += 1
    for node in range(n_nodes):
        indptr[node + 1] += indptr[node] + (1 if len(diagonal) else 0)
    ends = indptr[:-1].copy()
    indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1])
    for group in range(len(bounds) - 2, -1, -1):  # the farthest before a node comes first in its row
        for pair in range(bounds[group], bounds[group + 1]):
            _append(indices, data, ends, second[pair], first[pair], weights[pair])
    for node in range(len(diagonal)):
        _append(indices, data, ends, node, node, diagonal[node])
    for pair in range(len(first)):
        _append(indices, data, ends, first[pair], second[pair], weights[pair])
    return indptr, indices, data


@compiled
def _append(indices: Integers, data: Floats, ends: Integers, row: int, column: int, value: float) -> None:
    indices[ends[row]], data[ends[row]] = column, value
    ends[row] += 1


@compiled
def contrasts(pixels: Floats, first: Integers, second: Integers) -> Floats:
    """Compare pairs of pixels, shape (P, C): the root mean square of the differences of their channels."""
    found, n_channels = np.empty(len(first)), pixels.shape[1]
    for pair in range(len(first)):
        if n_channels == 1:
            found[pair] = abs(pixels[first[pair], 0] - pixels[second[pair], 0])
        else:
            total = 0.0
            for channel in range(n_channels):
                difference = pixels[first[pair], channel] - pixels[second[pair], channel]
                total += difference * difference
            found[pair] = np.sqrt(total / n_channels)
    return found
