"""Sparse graphs of the pixels of an image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from segmentation.arrays import Bools, Floats, Image, Ints
from segmentation.errors import ParameterError

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
    first, second = _neighbours(image.shape[:2], mask, connectivity)
    pixels = pixel_rows(image, mask)
    gradient = _magnitude(pixels[first] - pixels[second])
    # Signed for grey images, as in scikit-learn.
    diagonal = pixels[:, 0] if pixels.shape[1] == 1 else _magnitude(pixels)
    # The order of the entries decides the last bits of their standard deviation.
    similarity = _similarity(np.concatenate([gradient, gradient, diagonal]), beta, eps)
    nodes = np.arange(len(pixels), dtype=np.int32)
    rows = np.concatenate([first, second, nodes])
    columns = np.concatenate([second, first, nodes])
    return coo_array((similarity, (rows, columns)), shape=(len(pixels), len(pixels))).tocsr()


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


def _similarity(contrast: Floats, beta: float, eps: float) -> Floats:
    spread = contrast.std()
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
    first, second = _neighbours(shape, mask, connectivity)
    n_nodes = shape[0] * shape[1] if mask is None else int(np.count_nonzero(mask))
    rows = np.concatenate([first, second])
    columns = np.concatenate([second, first])
    return coo_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(n_nodes, n_nodes)).tocsr()


def _neighbours(shape: tuple[int, ...], mask: Bools | None, connectivity: int) -> tuple[Indices, Indices]:
    """List each pair of neighbouring nodes once: along rows, along columns, then along the diagonals."""
    if connectivity not in (4, 8):
        raise ParameterError(f"connectivity must be 4 or 8, got {connectivity}")
    # 32 bits halve the memory of the graph.
    pixels = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape[0], shape[1])
    pairs = [(pixels[:, :-1], pixels[:, 1:]), (pixels[:-1], pixels[1:])]
    if connectivity == 8:
        pairs += [(pixels[:-1, :-1], pixels[1:, 1:]), (pixels[:-1, 1:], pixels[1:, :-1])]
    first = np.concatenate([pair[0].ravel() for pair in pairs])
    second = np.concatenate([pair[1].ravel() for pair in pairs])
    if mask is None:
        return first, second
    selected = mask.ravel()
    inside = selected[first] & selected[second]
    node = np.cumsum(selected, dtype=np.int32) - 1
    return node[first[inside]], node[second[inside]]


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
