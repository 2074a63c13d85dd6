"""Label assigners: from the eigenvectors of a graph to one label per node."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from scipy.sparse import csr_array

from segmentation.arrays import Floats, Ints, NodeLabels
from segmentation.errors import ImageError


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
    O(P·K²) time for each round of Lloyd's algorithm: at K = 29 more than the eigenvectors took.

    Examples
    --------
    >>> labels = assign_kmeans(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 5.0]]), 0)
    >>> bool(labels[0] == labels[1] != labels[2])
    True
    """
    from sklearn.cluster import k_means
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Pixels that the eigenvectors do not tell apart stay together: the result has fewer regions.
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        _, labels, _ = k_means(embedding, embedding.shape[1], random_state=random_state, n_init=10)
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
            raise ImageError(f"'discretize' failed ({error}); try assign_labels='cluster_qr'") from error
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
