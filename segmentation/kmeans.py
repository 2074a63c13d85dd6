"""k-means on the colours of pixels: a palette."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from segmentation.arrays import Bools, Floats, Image, NodeLabels
from segmentation.errors import ImageError, ParameterError
from segmentation.graphs import pixel_rows

#: Pixels looked at first when the distinct colours are counted; mostly they are enough.
SAMPLE = 4096


class KMeansResult(NamedTuple):
    """A palette: the cluster of each pixel, the centres, and the sum of squared distances to them."""

    labels: NodeLabels
    centers: Floats
    inertia: float


def color_features(working: Image, color_space: str = "rgb", *, mask: Bools | None = None) -> Floats:
    """List the colours of the (masked) pixels in the units that distances are measured in.

    Parameters
    ----------
    working : ndarray, shape (M, N) or (M, N, C)
        Floats of [0, 1], as `prepare.rescale` makes them of integers.
    color_space : {"rgb", "lab"}
        "rgb" (and grey) in grey levels of 255, "lab" in units of CIE L*a*b*.
    mask : ndarray of bool, shape (M, N), optional
        Pixels that count; all of them without a mask.

    Returns
    -------
    features : ndarray of float64, shape (P, C)

    Raises
    ------
    ImageError
        If "lab" is asked of an image that has neither one nor three channels.
    ParameterError
        If the colour space is unknown.

    Examples
    --------
    >>> color_features(np.array([[0.0, 0.2, 1.0]])).ravel()
    array([  0.,  51., 255.])
    >>> color_features(np.ones((1, 1, 3)), "lab").round(1) + 0.0
    array([[100.,   0.,   0.]])
    """
    if color_space not in ("rgb", "lab"):
        raise ParameterError(f"unknown color_space {color_space!r}; choose rgb or lab")
    pixels = pixel_rows(working, mask)
    if color_space == "rgb" or pixels.shape[1] == 1:
        return pixels * 255.0
    if pixels.shape[1] != 3:
        raise ImageError(f"color_space 'lab' needs 3 channels, the image has {pixels.shape[1]}; use 'rgb'")
    from skimage.color import rgb2lab

    lab: Floats = rgb2lab(pixels)
    return lab


def kmeans(
    features: Floats,
    *,
    n_clusters: int = 8,
    algorithm: str = "lloyd",
    n_init: int = 10,
    max_iter: int = 100,
    tol: float = 0.85,
    random_state: int = 42,
) -> KMeansResult:
    """Group points around `n_clusters` centres so that the squared distances to them are small.

    Parameters
    ----------
    features : ndarray of float64, shape (P, C)
        Points, for instance colours.
    n_clusters : int
        Number of clusters, >= 1. Of fewer distinct points each becomes a cluster.
    algorithm : {"lloyd", "minibatch"}
        All points in every round, or random mini-batches of 1024.
    n_init : int
        Attempts from different k-means++ starts; the best is kept.
    max_iter : int
        Rounds at most.
    tol : float
        "lloyd" stops once the centres moved less than this, in the units of the features: the root of their
        summed squared moves. "minibatch" stops by its own rule, ten batches without progress.
    random_state : int
        Seed of everything random.

    Returns
    -------
    result : KMeansResult
        Labels of shape (P,), in 0..n_clusters-1.

    Raises
    ------
    ImageError
        If `n_clusters` is larger than P.
    ParameterError
        If the algorithm is unknown, a count is below 1, or `tol` is negative.

    Notes
    -----
    O(P·C·n_clusters) time for each round of each attempt. Computed by ``sklearn.cluster.KMeans`` or
    ``MiniBatchKMeans`` (Lloyd's algorithm [1]_ from the starts of [2]_), whose own `tol` is a part of the
    variance of the points; here it is a distance, as in OpenCV.

    References
    ----------
    .. [1] Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982.
    .. [2] Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> result = kmeans(np.array([[0.0], [1.0], [10.0], [11.0]]), n_clusters=2)
    >>> np.sort(result.centers.ravel())
    array([ 0.5, 10.5])
    >>> result.inertia
    1.0
    """
    if algorithm not in ("lloyd", "minibatch"):
        raise ParameterError(f"unknown algorithm {algorithm!r}; choose lloyd or minibatch")
    if min(n_clusters, n_init, max_iter) < 1 or not tol >= 0:
        raise ParameterError(
            "n_clusters, n_init and max_iter must be >= 1 and tol >= 0, "
            f"got {n_clusters}, {n_init}, {max_iter} and {tol}"
        )
    if n_clusters > len(features):
        raise ImageError(
            f"{n_clusters} clusters are more than the {len(features)} pixels of the working grid; "
            "ask for fewer, or use a larger scale"
        )
    if not _has_more_distinct(features, n_clusters):
        centers, labels = np.unique(features, axis=0, return_inverse=True)
        return KMeansResult(labels.ravel(), centers, 0.0)
    return _fit(features, algorithm, n_clusters, n_init, max_iter, tol, random_state)


def _fit(
    features: Floats, algorithm: str, n_clusters: int, n_init: int, max_iter: int, tol: float, random_state: int
) -> KMeansResult:
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    estimators: dict[str, Any] = {"lloyd": KMeans, "minibatch": MiniBatchKMeans}
    variance = float(np.var(features, axis=0).mean())
    # Differences whose squares underflow leave no variance to be a part of, and infinity is refused.
    relative = min(tol * tol / variance, 1e100) if variance else 0.0
    stop = {"tol": relative} if algorithm == "lloyd" else {}
    model = estimators[algorithm](n_clusters, n_init=n_init, max_iter=max_iter, random_state=random_state, **stop)
    with warnings.catch_warnings():
        # Points that differ only in their last bits fall together: the result has fewer clusters.
        warnings.filterwarnings("ignore", message="Number of distinct clusters", category=ConvergenceWarning)
        model.fit(features)
    return KMeansResult(model.labels_.astype(np.int64), model.cluster_centers_, float(model.inertia_))


def _has_more_distinct(features: Floats, n: int) -> bool:
    """Tell whether there are more than `n` distinct rows."""
    sample = features[:: max(1, len(features) // SAMPLE)]
    return any(len(np.unique(rows, axis=0)) > n for rows in (sample, features))
