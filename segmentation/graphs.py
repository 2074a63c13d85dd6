"""Sparse graphs of the pixels of an image."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from segmentation.arrays import Bools, Floats, Image, Ints
from segmentation.errors import ImageError, ParameterError

Indices = NDArray[np.int32]
#: exp() of more than this overflows; only the diagonal of images with negative values gets there.
LARGEST_EXPONENT = 700.0


def pixel_graph(
    image: Image,
    *,
    mask: Bools | None = None,
    beta: float = 10.0,
    eps: float = 1e-6,
    connectivity: int = 4,
) -> csr_array:
    """Weight each pair of neighbouring pixels by how alike they are: exp(-beta·g/std) + eps.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale.
    mask : ndarray of bool, shape (M, N), optional
        Pixels that are nodes of the graph; all of them without a mask.
    beta : float
        Decay of similarity with contrast, > 0.
    eps : float
        Similarity that even the strongest border keeps, >= 0.
    connectivity : {4, 8}
        Neighbours of a pixel.

    Returns
    -------
    weights : csr_array of float64, shape (P, P)
        Symmetric, with sorted indices; nodes are the (masked) pixels in raster order.

    Raises
    ------
    ParameterError
        If `beta` is not positive, `eps` negative, or `connectivity` neither 4 nor 8.

    Notes
    -----
    O(P) time and memory. g is the absolute difference of two grey values, or the root mean square of the
    differences of the channels.

    For a grey image with 4 neighbours this is, to the last bit,
    ``sklearn.feature_extraction.image.img_to_graph`` followed by the formula above [1]_. In that matrix the
    diagonal carries the pixel values themselves, and they enter `std`, so the weights depend on brightness
    too. The diagonal is kept here for equality; cuts and eigenvectors ignore it. A flat image, where `std` is
    0, has no contrast to scale by: its weights are 1 + eps.

    References
    ----------
    .. [1] scikit-learn, "Segmenting the picture of greek coins in regions", example of the user guide.

    Examples
    --------
    >>> weights = pixel_graph(np.array([[0.0, 0.0, 9.0]]), beta=1.0, eps=0.0)
    >>> weights.toarray().round(2)
    array([[1.  , 1.  , 0.  ],
           [1.  , 1.  , 0.13],
           [0.  , 0.13, 0.13]])
    """
    if not (beta > 0 and eps >= 0):
        raise ParameterError(f"beta must be > 0 and eps >= 0, got {beta} and {eps}")
    from segmentation.kernels.graphs import contrasts

    pairs = _pairs(image.shape[:2], mask, _neighbours(connectivity))
    pixels = np.require(pixel_rows(image, mask), requirements=["C", "W"])
    contrast = contrasts(pixels, pairs.first, pairs.second)
    # Signed for grey images, as in scikit-learn.
    diagonal = pixels[:, 0] if pixels.shape[1] == 1 else _magnitude(pixels)
    # The order of the entries decides the last bits of their standard deviation.
    spread = float(np.concatenate([contrast, contrast, diagonal]).std())
    return _matrix(
        len(pixels), pairs, _similarity(contrast, spread, beta, eps), _similarity(diagonal, spread, beta, eps)
    )


def affinity_graph(
    image: Image,
    *,
    mask: Bools | None = None,
    radius: float = 5.0,
    sigma_value: float = 0.1,
    sigma_distance: float = 4.0,
) -> csr_array:
    """Weight all pairs of pixels closer than a radius by how alike and how close they are.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities; the unit of `sigma_value`.
    mask : ndarray of bool, shape (M, N), optional
        Pixels that are nodes of the graph; all of them without a mask.
    radius : float
        Pairs at this distance or farther have no edge, in pixels, > 1.
    sigma_value : float
        Difference of intensities at which similarity has fallen to 1/e, > 0.
    sigma_distance : float
        Distance in pixels at which similarity has fallen to 1/e, > 0.

    Returns
    -------
    weights : csr_array of float64, shape (P, P)
        Symmetric, with sorted indices and no diagonal; nodes are the (masked) pixels in raster order.

    Raises
    ------
    ImageError
        If the graph would have 2³¹ entries or more.
    ParameterError
        If `radius` is not above 1, or a sigma not above 0.

    Notes
    -----
    exp(-g²/sigma_value²) · exp(-d²/sigma_distance²) for pixels that differ by g (root mean square over the channels)
    and lie d apart: the affinity of [1]_, with its values as defaults. O(P·radius²) time and memory: some 68 neighbours
    a pixel at radius 5.

    References
    ----------
    .. [1] Shi & Malik, "Normalized cuts and image segmentation", IEEE TPAMI 22(8), 2000.

    Examples
    --------
    >>> affinity_graph(np.array([[0.0, 0.0, 0.1]]), radius=2).toarray().round(2)
    array([[0.  , 0.94, 0.  ],
           [0.94, 0.  , 0.35],
           [0.  , 0.35, 0.  ]])
    """
    if not (radius > 1 and sigma_value > 0 and sigma_distance > 0):
        raise ParameterError(
            "radius must be > 1 and sigma_value and sigma_distance > 0, "
            f"got {radius}, {sigma_value} and {sigma_distance}"
        )
    from segmentation.kernels.graphs import contrasts

    steps = _within(radius)
    n_entries = 2 * len(steps) * image.shape[0] * image.shape[1]
    if n_entries > np.iinfo(np.int32).max:
        raise ImageError(f"a graph of {n_entries:,} edges is too large; use a smaller radius or scale")
    pairs = _pairs(image.shape[:2], mask, steps)
    pixels = np.require(pixel_rows(image, mask), requirements=["C", "W"])
    exponent = contrasts(pixels, pairs.first, pairs.second)
    with np.errstate(over="ignore"):  # the similarity is then 0, as it should be
        closeness = (np.hypot(*np.array(steps, dtype=np.float64).T) / sigma_distance) ** 2
        exponent /= sigma_value
        exponent **= 2
    exponent += np.repeat(closeness, np.diff(pairs.bounds))
    return _matrix(len(pixels), pairs, np.exp(-exponent), np.empty(0))


def pixel_rows(image: Image, mask: Bools | None) -> Floats:
    """List the (masked) pixels of an image in raster order, as floats of shape (P, C)."""
    pixels = image.reshape(image.shape[0] * image.shape[1], -1)
    return (pixels if mask is None else pixels[mask.ravel()]).astype(np.float64, copy=False)


def _magnitude(values: Floats) -> Floats:
    """Root mean square over the channels; for one channel exactly the absolute value."""
    if values.shape[1] == 1:
        return np.abs(values[:, 0])
    magnitude: Floats = np.sqrt(np.mean(values**2, axis=1))
    return magnitude


def _similarity(contrast: Floats, spread: float, beta: float, eps: float) -> Floats:
    if spread < np.finfo(np.float64).tiny:
        return np.full(len(contrast), 1 + eps)
    # Where the product overflows, the similarity is 0 as it should be.
    with np.errstate(over="ignore"):
        exponent = np.minimum(-beta * contrast / spread, LARGEST_EXPONENT)
    similarity: Floats = np.exp(exponent) + eps
    return similarity


def grid_connectivity(shape: tuple[int, int], *, mask: Bools | None = None, connectivity: int = 4) -> csr_array:
    """Connect each pixel of a grid with its neighbours.

    Parameters
    ----------
    shape : tuple of int
        Shape (M, N) of the grid.
    mask : ndarray of bool, shape (M, N), optional
        Pixels that are nodes of the graph; all of them without a mask.
    connectivity : {4, 8}
        Neighbours of a pixel.

    Returns
    -------
    connections : csr_array of int64, shape (P, P)
        Symmetric, zero diagonal, 1 where pixels are neighbours; nodes are the (masked) pixels in raster
        order.

    Raises
    ------
    ParameterError
        If `connectivity` is neither 4 nor 8.

    Notes
    -----
    O(P) time and memory. ``sklearn.feature_extraction.image.grid_to_graph`` without its diagonal.

    Examples
    --------
    >>> grid_connectivity((2, 2)).toarray()
    array([[0, 1, 1, 0],
           [1, 0, 0, 1],
           [1, 0, 0, 1],
           [0, 1, 1, 0]])
    """
    pairs = _pairs(shape, mask, _neighbours(connectivity))
    n_nodes = shape[0] * shape[1] if mask is None else int(np.count_nonzero(mask))
    return _matrix(n_nodes, pairs, np.ones(len(pairs.first)), np.empty(0)).astype(np.int64)


class _Pairs(NamedTuple):
    """Pairs of nodes, the first before the second, in groups that start at `bounds` and end where the next starts."""

    first: Indices
    second: Indices
    bounds: Ints


#: Steps down and right from a pixel to others, in raster order.
_Steps = list[tuple[int, int]]


def _neighbours(connectivity: int) -> _Steps:
    """List the steps from a pixel to those of its neighbours that come after it."""
    if connectivity not in (4, 8):
        raise ParameterError(f"connectivity must be 4 or 8, got {connectivity}")
    return [(0, 1), (1, 0)] if connectivity == 4 else [(0, 1), (1, -1), (1, 0), (1, 1)]


def _within(radius: float) -> _Steps:
    """List the steps from a pixel to those after it that are closer than a radius."""
    reach = math.ceil(radius)
    steps = [(down, right) for down in range(reach + 1) for right in range(-reach, reach + 1)]
    return [step for step in steps if step > (0, 0) and step[0] ** 2 + step[1] ** 2 < radius**2]


def _pairs(shape: tuple[int, ...], mask: Bools | None, steps: _Steps) -> _Pairs:
    """List every pair of nodes that are a step apart, step by step."""
    # 32 bits halve the memory of the graph.
    pixels = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape[0], shape[1])
    selected = None if mask is None else mask.ravel()
    node = None if selected is None else np.cumsum(selected, dtype=np.int32) - np.int32(1)
    first, second = [], []
    for down, right in steps:
        left = pixels[: max(0, shape[0] - down), max(0, -right) : max(0, shape[1] - max(0, right))].ravel()
        other = left + np.int32(down * shape[1] + right)
        if selected is not None and node is not None:
            inside = selected[left] & selected[other]
            left, other = node[left[inside]], node[other[inside]]
        first.append(left)
        second.append(other)
    bounds = np.cumsum([0, *(len(nodes) for nodes in first)], dtype=np.int64)
    return _Pairs(np.concatenate(first), np.concatenate(second), bounds)


def _matrix(n_nodes: int, pairs: _Pairs, weights: Floats, diagonal: Floats) -> csr_array:
    from segmentation.kernels.graphs import symmetric_csr

    indptr, indices, data = symmetric_csr(
        n_nodes, pairs.first, pairs.second, pairs.bounds, weights, np.ascontiguousarray(diagonal)
    )
    return csr_array((data, indices, indptr), shape=(n_nodes, n_nodes))


class Component(NamedTuple):
    """A connected part of a graph: its nodes in ascending order, and the graph between them."""

    nodes: Ints
    graph: csr_array


def connected_parts(graph: csr_array) -> list[Component]:
    """Split a graph into its connected components, ordered by their first nodes.

    Parameters
    ----------
    graph : csr_array, shape (P, P)
        Symmetric; an entry that is not zero is an edge.

    Returns
    -------
    parts : list of Component

    Notes
    -----
    O(P log P + edges) time, whatever the number of components.

    Examples
    --------
    >>> [part.nodes.tolist() for part in connected_parts(grid_connectivity((1, 3)))]
    [[0, 1, 2]]
    >>> mask = np.array([[True, False, True, True]])
    >>> [part.nodes.tolist() for part in connected_parts(grid_connectivity((1, 4), mask=mask))]
    [[0], [1, 2]]
    """
    from scipy.sparse.csgraph import connected_components

    n_parts, part = connected_components(graph, directed=False)
    if n_parts == 1:
        return [Component(np.arange(graph.shape[0]), graph)]
    # Nodes ordered by component make every component one block on the diagonal.
    order = np.argsort(part, kind="stable")
    blocks = graph[order][:, order]
    ends = np.cumsum(np.bincount(part, minlength=n_parts))
    starts = ends - np.bincount(part, minlength=n_parts)
    parts = [
        Component(order[start:end], blocks[start:end, start:end])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return sorted(parts, key=lambda found: int(found.nodes[0]))
