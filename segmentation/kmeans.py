"""k-means on the colours of pixels: a palette."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from segmentation.arrays import Bools, Floats, Image, Integers, NodeLabels
from segmentation.errors import ImageError, ParameterError
from segmentation.graphs import pixel_rows
from segmentation.prepare import LARGEST_VALUE

#: Pixels looked at first when the distinct colours are counted; mostly they are enough.
SAMPLE = 4096
#: What whole numbers may be parts of: grey levels of 8 bits, and of 16 bits brought to the range of 8.
WHOLE = (1.0, 257.0)
#: Levels that whole numbers may span.
LEVELS = 1 << 16
#: Points that stand for all where no grid tells them apart.
STAND_INS = 1 << 16
#: Bits of the number of a grid's cell, of that of a pixel, and those of a channel whose values are not whole numbers.
CELL_BITS, INDEX_BITS, FLOAT_BITS = 32, 32, 10
#: Starts tried for each attempt, those of them that go on to the second grid, and all that reach the third.
STARTS, KEPT, FINALISTS = 8, 3, 3
#: Cells of the coarsest grid: at least that many, and at least as many for each cluster.
COARSE, COARSE_PER_CLUSTER = 200, 30
#: Part of the colours that a grid has at most filled cells.
FEWER = 0.6
#: When to stop on grids, from coarse to fine: part of the range of the colours that centres move.
ROUGH = (1 / 100, 1 / 100, 1 / 2500)
#: Sorted values, and entries of the table, that grey levels are divided exactly with.
EXACT_VALUES, EXACT_TABLE = 1 << 16, 1 << 25


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
    algorithm: str = "distinct",
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
    algorithm : {"distinct", "lloyd", "minibatch"}
        Each distinct point once, weighted with how often it occurs; all points in every round; or random
        mini-batches of 1024.
    n_init : int
        Attempts from different k-means++ starts; the best is kept.
    max_iter : int
        Rounds at most; "distinct" runs as many at most on each of its grids.
    tol : float
        "distinct" and "lloyd" stop once the centres moved less than this, in the units of the features: the
        root of their summed squared moves. "minibatch" stops by its own rule, ten batches without progress.
    random_state : int
        Seed of everything random.

    Returns
    -------
    result : KMeansResult
        Labels of shape (P,), in 0..n_clusters-1. Of "distinct" every centre has points, and every point has
        the centre nearest to it.

    Raises
    ------
    ImageError
        If `n_clusters` is larger than P, or "distinct" is given features that are NaN, infinite or beyond 1e100.
    ParameterError
        If the algorithm is unknown, a count is below 1, or `tol` is negative.

    Notes
    -----
    "lloyd" and "minibatch": O(P·C·n_clusters) time for each round of each attempt. Computed by
    ``sklearn.cluster.KMeans`` or ``MiniBatchKMeans`` (Lloyd's algorithm [1]_ from the starts of [2]_), whose own
    `tol` is a part of the variance of the points; here it is a distance, as in OpenCV.

    "distinct" minimises the same sum over all points. O(P) time for grouping, and O(N·C·n_clusters) for each of
    few rounds on N distinct points; 25 to 65 bytes for each point beside the features. Points are sorted into
    the cells of a grid; whole numbers, also those of 16 bits in the range of 255, are thereby grouped entirely,
    other values where neighbours in that order are equal. The attempts (eight starts of greedy k-means++ for each
    of `n_init`) run on the means of coarse cells, the best of them on cells half as wide, and half as wide
    again, until centres move less than 1/2500 of the range of the features. The best goes on with all points
    until `tol` or `max_iter` ends it. Whole numbers give the same partition in any order of the points.

    Of one channel "distinct" finds the least sum of squares that there is, by dynamic programming [3]_ [4]_, and
    ignores `n_init`, `max_iter`, `tol` and `random_state`: for up to 65,536 distinct values and 512 clusters, as
    any integers of 16 bits are. Of more values (33 million / `n_clusters`) it finds the best division of as many
    means of neighbours, and goes on from there by Lloyd's algorithm.

    References
    ----------
    .. [1] Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982.
    .. [2] Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    .. [3] Wang & Song, "Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic programming", The R
       Journal 3(2), 2011.
    .. [4] Grønlund, Larsen, Mathiasen, Nielsen, Schneider & Song, "Fast exact k-means, k-medians and Bregman
       divergence clustering in 1D", arXiv:1701.07204, 2017.

    Examples
    --------
    >>> result = kmeans(np.array([[0.0], [1.0], [10.0], [11.0]]), n_clusters=2)
    >>> np.sort(result.centers.ravel())
    array([ 0.5, 10.5])
    >>> result.inertia
    1.0
    """
    if algorithm not in ("distinct", "lloyd", "minibatch"):
        raise ParameterError(f"unknown algorithm {algorithm!r}; choose distinct, lloyd or minibatch")
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
    if algorithm == "distinct":
        return _fit_distinct(features, n_clusters, n_init, max_iter, tol, random_state)
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


class _Colours(NamedTuple):
    """Distinct points, or what is close to them: their values in a unit of their own, and where they came from."""

    #: Pixels sorted by the cell of a grid in which they lie: see `kernels.cells.sorted_cells`.
    packed: Integers
    #: Where the pixels of each point start in them, and the end.
    starts: Integers
    #: Bits that a channel has in the number of a cell.
    bits: int
    #: Shape (C, N).
    points: Floats
    #: Pixels of each point.
    weights: Floats
    #: Value = origin + point / factor.
    origin: Floats
    factor: float


def _fit_distinct(
    features: Floats, n_clusters: int, n_init: int, max_iter: int, tol: float, random_state: int
) -> KMeansResult:
    from segmentation.kernels.cells import pixel_labels, value_range
    from segmentation.kernels.kmeans import settle

    # Of one type, and writable: the loops are compiled for that alone.
    features = np.require(features, dtype=np.float64, requirements=["C", "A", "W"])
    low, high, finite = value_range(features)
    if not finite or max(-low.min(), high.max()) > LARGEST_VALUE:
        raise ImageError("some features are NaN or infinite; leave these pixels out")
    if np.array_equal(low, high):
        return KMeansResult(np.zeros(len(features), dtype=np.int64), features[:1].copy(), 0.0)
    colours = _group(features, low, high)
    if few := _one_each_of_few(colours, features, n_clusters):
        return few
    if features.shape[1] == 1:
        centres = _grey_centres(colours, n_clusters, max_iter, tol * colours.factor)
    else:
        centres = _color_centres(colours, n_clusters, n_init, max_iter, tol * colours.factor, random_state)
    labels, inertia = settle(colours.points, colours.weights, centres)
    centers = colours.origin + centres / colours.factor
    labels = pixel_labels(colours.packed, colours.starts, labels)
    return KMeansResult(labels, centers, inertia / colours.factor / colours.factor)


def _group(features: Floats, low: Floats, high: Floats) -> _Colours:
    """Sort the pixels by colour, and group equal ones; with whole numbers these are all that are equal."""
    from segmentation.kernels.cells import are_whole, equal_runs, run_points, sorted_cells

    extent, n_channels = float((high - low).max()), features.shape[1]
    per_unit = next((n for n in WHOLE if extent * n < LEVELS and are_whole(features, n)), 0.0)
    most = CELL_BITS // n_channels
    if per_unit:
        low = np.rint(low * per_unit) / per_unit
        needed = int(np.rint(extent * per_unit)).bit_length()
        bits, factor, grid = min(needed, most), per_unit, per_unit * 2.0 ** min(0, most - needed)
    else:
        # A power of two changes no digit; squares of what is tiny or huge would leave the range of floats.
        bits, factor = min(most, FLOAT_BITS), 2.0 ** min(8 - math.frexp(extent)[1], 1000)
        needed, grid = CELL_BITS + 1, min(2.0**bits / extent, 1e300)
    packed = sorted_cells(features, low, grid, bits)
    starts = equal_runs(packed, features, needed <= bits)
    points, weights = run_points(packed, starts, features, low, factor, per_unit > 0)
    return _Colours(packed, starts, bits, points, weights, low, factor)


def _one_each_of_few(colours: _Colours, features: Floats, n: int) -> KMeansResult | None:
    """Make every distinct point a cluster, in ascending order; None if there are more than `n`."""
    from segmentation.kernels.cells import pixel_labels

    first = colours.packed[colours.starts[:-1]]
    cells = first >> np.uint64(INDEX_BITS)
    if np.count_nonzero(cells[1:] != cells[:-1]) >= n:
        return None
    pixels = (first & np.uint64((1 << INDEX_BITS) - 1)).astype(np.int64)
    if _has_more_distinct(features[pixels], n):
        return None
    centers, labels = np.unique(features[pixels], axis=0, return_inverse=True)
    return KMeansResult(pixel_labels(colours.packed, colours.starts, labels.ravel()), centers, 0.0)


def _color_centres(
    colours: _Colours, n_clusters: int, n_init: int, max_iter: int, tol: float, random_state: int
) -> Floats:
    """Run many attempts on coarse cells, fewer and fewer on finer ones, and the best on all colours."""
    from segmentation.kernels.kmeans import lloyd, seed_centres

    grids = _grids(colours, max(COARSE, COARSE_PER_CLUSTER * n_clusters))
    shape = STARTS * n_init, n_clusters, 2 + int(math.log(n_clusters))
    attempts = [seed_centres(*grids[0], draws) for draws in np.random.default_rng(random_state).random(shape)]
    extent = float(colours.points.max())
    stops = [extent * part for part in ROUGH[: len(grids) - 1]] + [tol]
    for (points, weights), stop, keep in zip(grids, stops, (KEPT * n_init, FINALISTS, 1, 1), strict=False):
        gains = [lloyd(points, weights, centres, max_iter, stop) for centres in attempts]
        attempts = [attempts[number] for number in np.argsort(-np.array(gains), kind="stable")[:keep]]
    return attempts[0]


def _grids(colours: _Colours, wanted: int) -> list[tuple[Floats, Floats]]:
    """Sum colours up in coarse and finer cells: means and weights of each, and at the end all colours.

    The coarsest grid is the first of which as many cells as wanted are filled, each next has cells half as wide.
    """
    from segmentation.kernels.cells import cell_means, new_at

    points, weights = colours.points, colours.weights
    grids = [(points, weights)]
    new = new_at(colours.packed, colours.starts, colours.bits, len(points))
    filled = np.cumsum(np.bincount(new, minlength=colours.bits + 2))[: colours.bits + 1]
    useful = np.flatnonzero((filled >= wanted) & (filled <= FEWER * len(weights)))[: len(ROUGH)]
    for level in useful[::-1]:
        points, weights, new = cell_means(points, weights, new, level)
        grids.insert(0, (points, weights))
    if len(grids) == 1 and len(weights) > STAND_INS:
        # Most points lie in few cells: some points stand for all.
        step = -(-len(weights) // STAND_INS)
        grids.insert(0, (np.ascontiguousarray(points[:, ::step]), weights[::step].copy()))
    return grids


def _grey_centres(colours: _Colours, n_clusters: int, max_iter: int, tol: float) -> Floats:
    """Return the best centres there are for one channel; of very many values, good ones."""
    from segmentation.kernels.kmeans import lloyd, optimal_ends

    order = np.argsort(colours.points[0], kind="stable")
    values, weights = colours.points[0, order], colours.weights[order]
    starts = np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)
    values, weights = values[starts], np.add.reduceat(weights, starts)
    n_bins = min(EXACT_VALUES, max(n_clusters, EXACT_TABLE // n_clusters))
    exact = len(values) <= n_bins
    if not exact:
        values, weights = _means(values, weights, np.linspace(0, len(values), n_bins + 1)[1:].astype(np.int64))
    if n_clusters < len(values):
        values, weights = _means(values, weights, optimal_ends(values, weights, n_clusters))
    centres: Floats = values[:, np.newaxis].copy()
    if not exact:
        lloyd(colours.points, colours.weights, centres, max_iter, tol)
    return centres


def _means(values: Floats, weights: Floats, ends: Integers) -> tuple[Floats, Floats]:
    """Return the weighted mean and the weight of each run of values, given where runs end."""
    starts = np.append(0, ends[:-1])
    masses: Floats = np.add.reduceat(weights, starts)
    means: Floats = np.add.reduceat(values * weights, starts) / masses
    return means, masses
