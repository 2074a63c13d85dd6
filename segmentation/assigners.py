"""Label assigners: from the eigenvectors of a graph to one label per node."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from scipy.sparse import csr_array

from segmentation.arrays import Floats, Ints, NodeLabels
from segmentation.errors import ImageError

#: How k-means is run, as scikit-learn does by itself: starts, rounds, and where these stop, in variances.
STARTS, ROUNDS, TOLERANCE = 10, 300, 1e-4
#: Sums of squares that differ by less than this share of the whole may be in another order in scikit-learn.
NOISE = 1e-10


def assign_kmeans(embedding: Floats, random_state: int | RandomState = 42) -> NodeLabels:
    """Group the rows of an embedding by k-means, the best of ten starts.

    Parameters
    ----------
    embedding : ndarray of float64, shape (P, K)
        Eigenvectors, one region for each.
    random_state : int or RandomState
        Starts of k-means.

    Returns
    -------
    labels : ndarray of int, shape (P,)
        In 0..K-1.

    Notes
    -----
    The seeds and labels are those of ``sklearn.cluster.k_means`` [1]_, in a third to half of its time; O(P·K²) for
    each round at worst. It is called itself where its rounding errors decide, because fewer than K points are distinct
    or two choices are equally good, and where a cluster loses all its points. A point equally near to two centres may
    still go to the other one. The first call on a machine compiles the loops, which takes some seconds; see
    `segmentation.kernels.compiled`.

    References
    ----------
    .. [1] Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982.

    Examples
    --------
    >>> labels = assign_kmeans(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 5.0]]), 0)
    >>> bool(labels[0] == labels[1] != labels[2])
    True
    """
    random = random_state if isinstance(random_state, RandomState) else RandomState(random_state)
    before = random.get_state()
    labels = _kmeans_labels(embedding, random)
    if labels is None:
        random.set_state(before)
        labels = _scikit_learn_labels(embedding, random)
    return labels


def _kmeans_labels(embedding: Floats, random: RandomState) -> Ints | None:
    """Take the best of ten starts; None if scikit-learn might come to something else."""
    from segmentation.kernels.lloyd import lloyd_rounds, seed_points

    n_points, n_clusters = embedding.shape
    points = np.array(embedding, dtype=np.float64, order="C")
    spread = float(np.var(points, axis=0).mean())
    points -= points.mean(axis=0)
    columns = np.ascontiguousarray(points.T)
    chances = np.full(n_points, 1 / n_points)
    best: Ints | None = None
    lowest = np.inf
    for _ in range(STARTS):
        # scikit-learn draws in this order, and as many candidates.
        first = int(random.choice(n_points, p=chances))
        draws = random.uniform(size=(n_clusters - 1, 2 + int(np.log(n_clusters))))
        seeds, nearest, squares, margin = seed_points(columns, first, draws)
        noise = NOISE * spread * points.size
        if not margin > noise:
            return None
        inertia = lloyd_rounds(points, nearest, squares, seeds, TOLERANCE * spread, ROUNDS)
        if np.isnan(inertia):
            return None
        labels = nearest.astype(np.int64)
        # The same partition again is not better, whatever the last bits of its inertia.
        if best is None or np.count_nonzero(np.bincount(best + n_clusters * labels)) > n_clusters:
            if abs(inertia - lowest) <= noise:
                return None
            if inertia < lowest:
                best, lowest = labels, inertia
    return best


def _scikit_learn_labels(embedding: Floats, random: RandomState) -> Ints:
    from sklearn.cluster import k_means
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Pixels that the eigenvectors do not tell apart stay together: the result has fewer regions.
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        _, labels, _ = k_means(
            embedding, embedding.shape[1], random_state=random, n_init=STARTS, max_iter=ROUNDS, tol=TOLERANCE
        )
    return np.asarray(labels, dtype=np.int64)


def assign_discretize(
    embedding: Floats,
    random_state: int | RandomState = 42,
    *,
    max_rounds: int = 20,
) -> NodeLabels:
    """Rotate an embedding until it is closest to a partition.

    Parameters
    ----------
    embedding : ndarray of float64, shape (P, K)
        Eigenvectors, one region for each.
    random_state : int or RandomState
        Choice of the pixel that the first axis starts from.
    max_rounds : int
        Rounds of partition and rotation at most.

    Returns
    -------
    labels : ndarray of int, shape (P,)
        In 0..K-1.

    Raises
    ------
    ImageError
        If a singular value decomposition does not converge.

    Notes
    -----
    O(P·K²) time for each round. The algorithm of [1]_ with the starts and stopping rule of scikit-learn.

    References
    ----------
    .. [1] Yu & Shi, "Multiclass spectral clustering", ICCV 2003.

    Examples
    --------
    >>> labels = assign_discretize(np.array([[1.0, -1.0], [1.0, -0.9], [1.0, 1.1]]), 0)
    >>> bool(labels[0] == labels[1] != labels[2])
    True
    """
    n_nodes, n_regions = embedding.shape
    random = random_state if isinstance(random_state, RandomState) else RandomState(random_state)
    # Norms column by column, as scikit-learn sums them: the last bit can decide between labels further down.
    norms = np.array([np.linalg.norm(column) for column in embedding.T])
    vectors = embedding / norms * np.sqrt(n_nodes)
    # Every axis points away from the first pixel.
    vectors *= np.where(vectors[0] == 0, 1.0, -np.sign(vectors[0]))
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    rotation = _orthogonal_rows(vectors, int(random.randint(n_nodes))).T
    objective = 0.0
    labels: Ints = np.zeros(n_nodes, dtype=np.int64)
    for _ in range(max_rounds + 1):
        labels = np.argmax(vectors @ rotation, axis=1)
        partition = csr_array((np.ones(n_nodes), (labels, np.arange(n_nodes))), shape=(n_regions, n_nodes))
        try:
            left, singular, right = np.linalg.svd(partition @ vectors)
        except np.linalg.LinAlgError as error:
            raise ImageError("'discretize' finds no singular values; try assign_labels='cluster_qr'") from error
        previous, objective = objective, 2.0 * (n_nodes - singular.sum())
        if abs(objective - previous) < np.finfo(np.float64).eps:
            break
        rotation = right.T @ left.T
    return labels


def _orthogonal_rows(vectors: Floats, start: int) -> Floats:
    """Pick K rows as orthogonal to each other as possible, beginning with row `start`."""
    picked = [start]
    overlap = np.zeros(len(vectors))
    for _ in range(1, vectors.shape[1]):
        overlap += np.abs(vectors @ vectors[picked[-1]])
        picked.append(int(np.argmin(overlap)))
    return vectors[picked]


def assign_cluster_qr(embedding: Floats, random_state: int | RandomState = 42) -> NodeLabels:
    """Take as regions the K pixels that a pivoted QR factorisation picks, and what points their way.

    Parameters
    ----------
    embedding : ndarray of float64, shape (P, K)
        Eigenvectors, one region for each.
    random_state : int or RandomState
        Not used: the method has nothing random.

    Returns
    -------
    labels : ndarray of int, shape (P,)
        In 0..K-1.

    Notes
    -----
    O(P·K²) time, once [1]_.

    References
    ----------
    .. [1] Damle, Minden & Ying, "Simple, direct and efficient multi-way spectral clustering", Information and
       Inference 8(1), 2019.

    Examples
    --------
    >>> labels = assign_cluster_qr(np.array([[1.0, -1.0], [1.0, -0.9], [1.0, 1.1]]))
    >>> bool(labels[0] == labels[1] != labels[2])
    True
    """
    from scipy.linalg import qr, svd

    n_regions = embedding.shape[1]
    _, pivots = qr(embedding.T, mode="r", pivoting=True)
    left, _, right = svd(embedding[pivots[:n_regions]].T)
    labels: Ints = np.abs(embedding @ (left @ right)).argmax(axis=1)
    return labels


ASSIGNERS: dict[str, Callable[..., NodeLabels]] = {
    "kmeans": assign_kmeans,
    "discretize": assign_discretize,
    "cluster_qr": assign_cluster_qr,
}
