"""Normalized cuts: eigenvectors of the pixel graph, then labels from the eigenvectors."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from scipy.sparse import coo_array, csc_array, csr_array

from segmentation.arrays import Floats, Ints, NodeLabels
from segmentation.assigners import ASSIGNERS
from segmentation.errors import ImageError, ParameterError
from segmentation.graphs import Component, Indices, connected_parts
from segmentation.multilevel import as_level, multilevel_cut

#: How a cut is found: by one that needs no eigenvectors of the pixels, or from those of an eigenvalue solver.
EIGENVALUE_SOLVERS = ("arpack", "lobpcg", "amg")
SOLVERS = ("multilevel", *EIGENVALUE_SOLVERS)
#: A diagonal entry this much above the degree of its node takes more than half of the digits from it.
LARGEST_LOOP = 2.0**26
#: Where arpack looks for eigenvalues: so far below 0, the smallest, that the shifted Laplacian is positive definite.
SHIFT = -1e-5
#: Fewer nodes are factored in scikit-learn's order: the time does not matter, and the eigenvectors are its to the bit.
SMALL = 1000


def spectral(
    weights: csr_array,
    *,
    n_regions: int = 26,
    extra_regions: int = 3,
    eigen_solver: str = "multilevel",
    eigen_tol: float = 1e-7,
    assign_labels: str = "kmeans",
    smallest_region: int = 1,
    seed: int = 42,
) -> NodeLabels:
    """Cut a graph into parts that are alike inside and weakly connected to the rest.

    Parameters
    ----------
    weights : csr_array of float64, shape (P, P)
        Symmetric similarities; the diagonal is ignored.
    n_regions : int
        Number of regions wanted, >= 1.
    extra_regions : int
        Regions on top of those wanted, >= 0; k is the sum of both.
    eigen_solver : {"multilevel", "arpack", "lobpcg", "amg"}
        "multilevel" looks for the lowest normalized cut without eigenvectors of the pixels, see
        `segmentation.multilevel.multilevel_cut`; the others are solvers of the eigenvalue problem, see
        `spectral_embedding`.
    eigen_tol : float
        Their stopping tolerance.
    assign_labels : {"kmeans", "discretize", "cluster_qr"}
        How eigenvectors become labels.
    smallest_region : int
        Nodes that a region of "multilevel" is to have: smaller ones are merged before all others.
    seed : int
        Seed of everything random.

    Returns
    -------
    labels : ndarray of int, shape (P,)
        From 0, in no particular order.

    Raises
    ------
    ImageError
        If k is larger than P, or the solver fails on this graph.
    ParameterError
        If a name is unknown, or "amg" is asked for without pyamg.

    Notes
    -----
    With a solver of the eigenvalue problem and a connected graph the partition is that of
    ``sklearn.cluster.spectral_clustering`` [1]_ with the same parameters. A graph in several components is solved
    one component at a time, because the eigenvectors of the whole do not tell them apart: isolated pixels each get a
    label of their own on top of k, every other component is at least one region, and the regions that are left go
    where the relaxed normalized cut is cheapest, to the smallest eigenvalues over all components. With fewer regions
    than components there is thus one per component. "multilevel" keeps the same rules.

    The cost of the eigenvectors grows a little faster than P·k: 0.02 s for 4,700 pixels and 1.7 s for 116,000 with
    "arpack" at k = 29; with "kmeans" the labels cost about as much again. "multilevel" takes 0.006 and 0.04 s for both.

    References
    ----------
    .. [1] Shi & Malik, "Normalized cuts and image segmentation", IEEE TPAMI 22(8), 2000.

    Examples
    --------
    >>> from segmentation.graphs import pixel_graph
    >>> image = np.array([[0.0, 0.0, 0.0, 9.0, 9.0, 9.0]])
    >>> labels = spectral(pixel_graph(image), n_regions=2, extra_regions=0)
    >>> bool(labels[0] == labels[2] != labels[3] == labels[5])
    True
    """
    if n_regions < 1 or extra_regions < 0:
        raise ParameterError(f"n_regions must be >= 1 and extra_regions >= 0, got {n_regions} and {extra_regions}")
    if eigen_solver not in SOLVERS:
        raise ParameterError(f"unknown eigen_solver {eigen_solver!r}; choose {', '.join(SOLVERS)}")
    if assign_labels not in ASSIGNERS:
        raise ParameterError(f"unknown assign_labels {assign_labels!r}; choose {', '.join(ASSIGNERS)}")
    n_pixels, k = weights.shape[0], n_regions + extra_regions
    if k > n_pixels:
        raise ImageError(
            f"{n_regions} + {extra_regions} regions are more than the {n_pixels} pixels of the working grid; "
            "ask for fewer, or use a larger scale"
        )
    if k == n_pixels:
        return np.arange(n_pixels)
    if eigen_solver == "multilevel":
        return multilevel_cut(weights, n_regions=k, smallest=smallest_region)
    return _from_eigenvectors(weights, k, eigen_solver, eigen_tol, assign_labels, seed)


def _from_eigenvectors(
    weights: csr_array, k: int, eigen_solver: str, eigen_tol: float, assign_labels: str, seed: int
) -> NodeLabels:
    # scikit-learn gives one stream of random numbers to the solver first, then to the assignment.
    random_state = RandomState(seed)
    parts = _solvable_parts(weights)
    large = [part for part in parts if len(part.nodes) > 1]
    embeddings = _embed(large, k, eigen_solver, eigen_tol, random_state)
    labels: Ints = np.arange(weights.shape[0])
    for part, embedding in zip(large, embeddings, strict=True):
        local = _assign(embedding, ASSIGNERS[assign_labels], random_state)
        # The first pixel of a region names it, so that names are unique over the components.
        _, first, inverse = np.unique(local, return_index=True, return_inverse=True)
        labels[part.nodes] = part.nodes[first][inverse]
    return labels


def _solvable_parts(weights: csr_array) -> list[Component]:
    """Split a graph into the components that its eigenvectors can tell from noise, weights of the order of 1.

    An edge whose entry in the normalized Laplacian is below rounding error is as good as none: parts that hang
    together by such edges only are separate to the solver, whose eigenvectors would then mix them at will.
    """
    row, column, weight = _edges(weights)
    root = np.sqrt(np.bincount(row, weights=weight, minlength=weights.shape[0]))
    kept = weight > np.finfo(np.float64).eps * root[row] * root[column]
    graph = _with_diagonal(row[kept], column[kept], weight[kept], weights.diagonal()).tocsr()
    parts = connected_parts(graph)
    for _, graph in parts:
        # A power of 4 scales the weights and the square roots of their sums without rounding.
        _, exponent = np.frexp(graph.data.max(initial=0.0))
        graph.data = np.ldexp(graph.data, -2 * (int(exponent) // 2))
    return parts


def _edges(weights: csr_array) -> tuple[Indices, Indices, Floats]:
    """List the rows, columns and weights of all entries off the diagonal, both directions of each edge."""
    entries = weights.tocoo()
    between = entries.row != entries.col
    return entries.row[between], entries.col[between], entries.data[between]


def _with_diagonal(row: Indices, column: Indices, weight: Floats, diagonal: Floats) -> coo_array:
    """Put the edges of a graph and its diagonal together, the diagonal last.

    The diagonal means nothing to a cut, but scikit-learn adds it to the degrees of the pixels and takes it off
    again. In this order that leaves the very last bits that it leaves in scikit-learn, and so the same labels even
    where a solver runs away from the smallest difference. A diagonal that would swallow the degrees (that of an
    image with negative values may) is left out.
    """
    degrees = np.bincount(row, weights=weight, minlength=len(diagonal))
    nodes = np.arange(len(diagonal), dtype=row.dtype)
    if (diagonal > LARGEST_LOOP * degrees)[degrees > 0].any():
        nodes = nodes[:0]
    return coo_array(
        (
            np.concatenate([weight, diagonal[nodes]]),
            (np.concatenate([row, nodes]), np.concatenate([column, nodes])),
        ),
        shape=(len(diagonal), len(diagonal)),
    )


def _embed(
    parts: list[Component], k: int, eigen_solver: str, eigen_tol: float, random_state: RandomState
) -> list[Floats]:
    """Compute for each part as many eigenvectors as it is to have regions."""
    # Each part is a region already; at most, one of them is split into all the others.
    spare = max(0, k - len(parts))
    embeddings = []
    for nodes, graph in parts:
        n_components = min(1 + spare, len(nodes))
        if n_components == 1:
            embeddings.append(np.ones((len(nodes), 1)))
        else:
            embeddings.append(
                spectral_embedding(
                    graph,
                    n_components,
                    eigen_solver=eigen_solver,
                    eigen_tol=eigen_tol,
                    random_state=random_state,
                )
            )
    return embeddings if len(parts) <= 1 else _allocate(parts, embeddings, spare)


def _allocate(parts: list[Component], embeddings: list[Floats], spare: int) -> list[Floats]:
    """Keep of each embedding the eigenvectors whose eigenvalues are among the smallest of all parts."""
    quotients = [_rayleigh_quotients(part.graph, u) for part, u in zip(parts, embeddings, strict=True)]
    orders = [np.argsort(quotient, kind="stable") for quotient in quotients]
    # The first eigenvalue of each part is 0 and stands for the part itself.
    cost = np.concatenate([q[order][1:] for q, order in zip(quotients, orders, strict=True)])
    owner = np.repeat(np.arange(len(parts)), [len(order) - 1 for order in orders])
    cheapest = np.argsort(cost, kind="stable")[:spare]
    n_regions = 1 + np.bincount(owner[cheapest], minlength=len(parts))
    return [u[:, order[:n]] for u, order, n in zip(embeddings, orders, n_regions.tolist(), strict=True)]


def _rayleigh_quotients(weights: csr_array, embedding: Floats) -> Floats:
    """Return uᵀ(D - W)u / uᵀDu of each column u: the eigenvalue if u is an eigenvector."""
    row, column, weight = _edges(weights)
    volume = np.bincount(row, weights=weight) @ embedding**2
    # Over both directions of each edge, hence the half.
    cut = np.array([weight @ (u[row] - u[column]) ** 2 / 2 for u in embedding.T])
    quotients: Floats = cut / volume
    return quotients


def _assign(embedding: Floats, assign: Callable[..., NodeLabels], random_state: RandomState) -> NodeLabels:
    n_nodes, n_regions = embedding.shape
    if n_regions == 1:
        return np.zeros(n_nodes, dtype=np.int64)
    if n_regions == n_nodes:
        return np.arange(n_nodes)
    return assign(embedding, random_state)


def spectral_embedding(
    weights: csr_array,
    n_components: int,
    *,
    eigen_solver: str = "arpack",
    eigen_tol: float = 1e-7,
    random_state: int | RandomState = 42,
) -> Floats:
    """Compute the smallest eigenvectors of a connected graph: the relaxed normalized cut.

    Parameters
    ----------
    weights : csr_array of float64, shape (P, P)
        Symmetric similarities of a connected graph; the diagonal is ignored.
    n_components : int
        Number of eigenvectors, in [1, P].
    eigen_solver : {"arpack", "lobpcg", "amg"}
        "arpack" is exact and the fastest up to some 100,000 pixels. "lobpcg" is exact and slow. "amg"
        preconditions lobpcg with an algebraic multigrid; it needs pyamg.
    eigen_tol : float
        Stopping tolerance of the solver, >= 0; 0 is its own default.
    random_state : int or RandomState
        Start of the iteration.

    Returns
    -------
    embedding : ndarray of float64, shape (P, n_components)
        Eigenvectors u of (D - W)u = λDu, smallest λ first.

    Raises
    ------
    ImageError
        If the solver fails on this graph.
    ParameterError
        If the solver is unknown, or "amg" is asked for without pyamg.

    Notes
    -----
    The eigenvectors are those of ``sklearn.manifold.spectral_embedding``: signs, scale and start of the iteration
    are the same. "lobpcg" and "amg" are computed by it, and may stop before `eigen_tol` is reached ("amg" mostly
    does, after 20 rounds); the normalized cut of the labels tells how good the result is. "arpack" is Lanczos
    iteration [1]_ on the inverse of the Laplacian, shifted a little; its factors are found in an order of the pixels
    that respects symmetry [2]_, with half the entries, in 0.6 of scikit-learn's time. From 1,000 pixels on the
    vectors agree with scikit-learn's to `eigen_tol`, except that those of equal eigenvalues may be turned among
    themselves; with fewer they are equal.

    References
    ----------
    .. [1] Lehoucq, Sorensen & Yang, "ARPACK users' guide", SIAM, 1998.
    .. [2] Liu, "Modification of the minimum-degree algorithm by multiple elimination", ACM TOMS 11(2), 1985.

    Examples
    --------
    >>> from segmentation.graphs import grid_connectivity
    >>> spectral_embedding(grid_connectivity((3, 4)).astype(float), 2).shape
    (12, 2)
    """
    if eigen_solver not in EIGENVALUE_SOLVERS:
        raise ParameterError(f"unknown eigen_solver {eigen_solver!r}; choose {', '.join(EIGENVALUE_SOLVERS)}")
    if eigen_solver == "amg":
        _require_pyamg()
        # scikit-learn takes arpack too, with a warning: lobpcg is not made for so few pixels.
        if weights.shape[0] < 5 * n_components:
            eigen_solver = "arpack"
    if eigen_solver == "arpack" and n_components >= weights.shape[0] - 1:
        return _dense_embedding(weights, n_components)
    random = random_state if isinstance(random_state, RandomState) else RandomState(random_state)
    try:
        if eigen_solver == "arpack":
            embedding = _arpack_embedding(weights, n_components, eigen_tol, random)
        else:
            embedding = _scikit_learn_embedding(weights, n_components, eigen_solver, eigen_tol, random)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        raise ImageError(
            f"the eigenvalue solver {eigen_solver!r} failed for {n_components} eigenvectors of "
            f"{weights.shape[0]} pixels; try another eigen_solver"
        ) from error
    if not np.isfinite(embedding).all():
        raise ImageError(f"the eigenvalue solver {eigen_solver!r} gave NaN; try another eigen_solver")
    return embedding


def _require_pyamg() -> None:
    try:
        import pyamg  # noqa: F401
    except ImportError as error:
        raise ParameterError("eigen_solver 'amg' needs pyamg: pip install regionflow[amg]") from error


def _dense_embedding(weights: csr_array, n_components: int) -> Floats:
    """Solve a graph of so few nodes that arpack cannot have that many of its eigenvectors."""
    from scipy.linalg import eigh

    row, _, weight = _edges(weights)
    root = np.sqrt(np.bincount(row, weights=weight))
    laplacian = -weights.toarray() / root / root[:, np.newaxis]
    np.fill_diagonal(laplacian, 1.0)
    _, vectors = eigh(laplacian, subset_by_index=(0, n_components - 1))
    embedding: Floats = vectors / root[:, np.newaxis]
    return embedding


def _graph_of_32_bits(weights: csr_array) -> coo_array:
    """Order the entries as scikit-learn's graphs have them, with the indices that arpack and SuperLU are made for."""
    row, column, weight = _edges(weights)
    return _with_diagonal(row.astype(np.int32), column.astype(np.int32), weight, weights.diagonal())


def _arpack_embedding(weights: csr_array, n_components: int, tol: float, random: RandomState) -> Floats:
    from scipy.sparse.linalg import LinearOperator, eigsh

    graph = _graph_of_32_bits(weights)
    if not np.isfinite(graph.data).all():
        raise ValueError("some weights are NaN or infinite")
    degrees = graph.sum(axis=0) - graph.diagonal()
    root = np.where(degrees == 0, 1.0, np.sqrt(degrees))
    start = random.uniform(-1, 1, len(root))
    try:
        shifted, solve = _shifted_laplacian(graph, root)
        inverse = LinearOperator(shifted.shape, matvec=solve, dtype=np.float64)
        # A space that is exhausted early goes on with random numbers, which are not to come from the system.
        _, vectors = eigsh(shifted, k=n_components, sigma=SHIFT, OPinv=inverse, tol=tol, v0=start, rng=0)
    except RuntimeError:
        # Factors or iteration failed: scikit-learn then goes on like this.
        return _scikit_learn_embedding(weights, n_components, "lobpcg", tol, random)
    embedding: Floats = vectors.T / root
    largest = np.abs(embedding).argmax(axis=1)
    embedding *= np.sign(embedding[np.arange(n_components), largest])[:, np.newaxis]
    return embedding.T


def _shifted_laplacian(graph: coo_array, root: Floats) -> tuple[csc_array, Callable[[Floats], Floats]]:
    """Make the normalized Laplacian less `SHIFT`, and what solves its equations; `root` is that of the degrees."""
    from scipy.sparse.linalg import splu

    # In this order of divisions, and as the transpose, the last bits are those of scikit-learn's.
    entries = -(graph.data / root[graph.row] / root[graph.col])
    matrix = csc_array((entries, (graph.col, graph.row)), shape=graph.shape)
    matrix.setdiag(1.0 - SHIFT)
    if len(root) < SMALL:
        return matrix, splu(matrix).solve
    # Positive definite: the diagonal will do for pivots, so that rows and columns can keep one order.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return matrix, factors.solve


def _scikit_learn_embedding(
    weights: csr_array, n_components: int, eigen_solver: str, eigen_tol: float, random: RandomState
) -> Floats:
    from sklearn.manifold import spectral_embedding as embed

    graph = _graph_of_32_bits(weights)
    # pyamg draws from NumPy's global stream; the same seed must give the same labels in every process.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            # lobpcg tells that it stopped early or solved densely: see the Notes of `spectral_embedding`.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"sklearn\.manifold|scipy\.sparse")
            embedding: Floats = embed(
                graph,
                n_components=n_components,
                eigen_solver=eigen_solver,
                eigen_tol=eigen_tol,
                random_state=random,
                drop_first=False,
            )
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return embedding


def normalized_cut(weights: csr_array, labels: NodeLabels) -> float:
    """Return the normalized cut of a partition: the sum over its regions of cut / volume.

    Parameters
    ----------
    weights : csr_array of float64, shape (P, P)
        Symmetric similarities; the diagonal is ignored.
    labels : ndarray of int, shape (P,)
        Region of each node, >= 0.

    Returns
    -------
    ncut : float
        In [0, number of regions]; lower is better. A region without edges counts 0.

    Notes
    -----
    O(edges) time. The objective that `spectral` relaxes [1]_: cut is the weight of the edges that leave a
    region, volume that of all edges of its pixels.

    References
    ----------
    .. [1] Shi & Malik, "Normalized cuts and image segmentation", IEEE TPAMI 22(8), 2000.

    Examples
    --------
    >>> from segmentation.graphs import grid_connectivity
    >>> chain = grid_connectivity((1, 4))
    >>> round(normalized_cut(chain, np.array([0, 0, 1, 1])), 3)
    0.667
    """
    from segmentation.kernels.ncut import cuts_and_volumes, ratio_sum

    regions = np.array(labels, dtype=np.int32)
    return float(ratio_sum(*cuts_and_volumes(as_level(weights), regions, int(regions.max()) + 1)))
