"""The table of methods: from a working image to a graph, from both to labels and scores."""

import functools
import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse import csr_array

from segmentation.arrays import Bools, Floats, Image, Labels, NodeLabels, read_only
from segmentation.cuts import cut_as_asked
from segmentation.errors import ImageError
from segmentation.graphs import affinity_graph, grid_connectivity, pixel_graph, pixel_rows
from segmentation.hierarchy import RegionTree, region_tree
from segmentation.kmeans import color_features, kmeans
from segmentation.labels import relabel_sequential
from segmentation.params import Hierarchy, KMeans, MethodParams, Spectral
from segmentation.spectral import normalized_cut, spectral
from segmentation.ward import MergeTree, cut_tree, merge_tree

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: The parameters that the graph depends on; all others belong to the clustering.
GRAPH_FIELDS = frozenset({"beta", "eps", "connectivity", "radius", "sigma_value", "sigma_distance"})


@dataclass(frozen=True)
class Method:
    """One method in two steps; each field of its parameter model is a keyword of one of them."""

    #: From the working image and its mask; None if the method ignores where pixels are.
    graph: Callable[..., csr_array] | None
    #: From the working image, its mask and the graph, to a label for each node and scores of its own.
    cluster: Callable[..., tuple[NodeLabels, dict[str, float]]]
    #: From the working image, its mask, the graph and the parameters to a tree for any number, if it has one.
    grow: Callable[..., MergeTree | RegionTree] | None
    #: With these parameters, the packages that it runs whose solvers would spread over all cores.
    threaded: Callable[[Any], tuple[str, ...]]


def build_graph(working: Image, mask: Bools | None, params: MethodParams) -> csr_array | None:
    """Build the graph that a method cuts or merges.

    Parameters
    ----------
    working : ndarray of float64, shape (m, n) or (m, n, C)
        The smoothed, rescaled image.
    mask : ndarray of bool, shape (m, n), or None
        Pixels that are segmented.
    params : Spectral, Ward, KMeans or Hierarchy
        The method and its parameters.

    Returns
    -------
    graph : csr_array, shape (P, P), or None
        None if the method needs no graph.

    Examples
    --------
    >>> from segmentation.params import KMeans, Ward
    >>> build_graph(np.eye(2, 3), None, Ward(n_regions=2)).shape
    (6, 6)
    >>> build_graph(np.zeros((2, 3)), None, KMeans(n_clusters=2)) is None
    True
    """
    build = METHODS[params.method].graph
    if build is None:
        return None
    return build(working, mask=mask, **params.model_dump(include=set(GRAPH_FIELDS)))


def grow_tree(
    working: Image, mask: Bools | None, graph: csr_array | None, params: MethodParams
) -> MergeTree | RegionTree | None:
    """Merge all regions of an image once, for any number of them; None for a method that has no tree.

    The arguments are those of `cluster`; the number of regions in `params` does not matter.

    Examples
    --------
    >>> from segmentation.params import Ward
    >>> image, params = np.array([[0.0, 0.0, 9.0, 9.0]]), Ward()
    >>> len(grow_tree(image, None, build_graph(image, None, params), params).children)
    3
    """
    grow = METHODS[params.method].grow
    return None if grow is None else grow(working, mask, graph, params)


def cluster(
    working: Image,
    mask: Bools | None,
    graph: csr_array | None,
    params: MethodParams,
    seed: int,
    tree: MergeTree | RegionTree | None = None,
) -> tuple[Labels, dict[str, float]]:
    """Run the method that `params` names; the same seed gives the same labels.

    Parameters
    ----------
    working : ndarray of float64, shape (m, n) or (m, n, C)
        The smoothed, rescaled image.
    mask : ndarray of bool, shape (m, n), or None
        Pixels that are segmented.
    graph : csr_array, shape (P, P), or None
        From `build_graph` with the same arguments.
    params : Spectral, Ward, KMeans or Hierarchy
        The method and its parameters.
    seed : int
        Seed of everything random.
    tree : MergeTree or RegionTree, optional
        From `grow_tree` with the same arguments, to cut it for several numbers of regions.

    Returns
    -------
    labels : ndarray of uint16 or uint32, shape (m, n)
        1..K in raster order of first appearance, 0 where masked.
    scores : dict of str to float
        "n_regions": K, as found. "explained_variance": share of the working image's variance that is between
        regions, in [0, 1]; 1 for a flat image. "ncut" (spectral): the normalized cut. "inertia" (kmeans): sum
        of squared distances to the centres, in the units of the features. "threshold" (hierarchy): borders of at
        most this height are gone.

    Raises
    ------
    ImageError
        If as many regions are asked of the image as it has pixels, or more (one of one is allowed), more than one
        of an image whose pixels are all equal, or a solver fails on it.

    Notes
    -----
    Runs on one thread, whatever the number of cores: sums split over threads would differ in their last bits.

    Examples
    --------
    >>> from segmentation.params import Ward
    >>> image, params = np.array([[0.0, 0.0, 9.0, 9.0]]), Ward(n_regions=2)
    >>> cluster(image, None, build_graph(image, None, params), params, seed=0)
    (array([[1, 1, 2, 2]], dtype=uint16), {'n_regions': 2.0, 'explained_variance': 1.0})
    """
    method = METHODS[params.method]
    params = with_suggestion(params, working, mask)
    _check_contrast(working, mask, params)
    keywords = params.model_dump(exclude={*GRAPH_FIELDS, "method"})
    if tree is not None:
        keywords["tree"] = tree
    packages = method.threaded(params)
    with _thread_pools(packages).limit(limits=1) if packages else nullcontext():
        nodes, scores = method.cluster(working, mask, graph, seed=seed, **keywords)
    labels = np.zeros(working.shape[:2], dtype=np.int64)
    labels[np.ones(labels.shape, dtype=bool) if mask is None else mask] = nodes + 1
    numbered = relabel_sequential(labels)
    common = {
        "n_regions": float(numbered.max()),
        "explained_variance": explained_variance(pixel_rows(working, mask), nodes),
    }
    return numbered, common | scores


def with_suggestion(params: MethodParams, working: Image, mask: Bools | None = None) -> MethodParams:
    """Put a number in the place of Ward's or spectral's "auto": that of the regions which `region_tree` suggests.

    Where one region is suggested, spectral gets no extra ones either.

    Examples
    --------
    >>> from segmentation.params import Ward
    >>> working = np.repeat([[0.1] * 30 + [0.9] * 30], 40, axis=0)
    >>> with_suggestion(Ward(n_regions="auto"), working).n_regions
    2
    """
    if isinstance(params, (KMeans, Hierarchy)) or params.n_regions != "auto":
        return params
    tree = region_tree(working, mask=mask)
    suggested = tree.n_regions_at(tree.suggest())
    alone = isinstance(params, Spectral) and suggested == 1
    return params.model_copy(update={"n_regions": suggested, **({"extra_regions": 0} if alone else {})})


def _check_contrast(working: Image, mask: Bools | None, params: MethodParams) -> None:
    """Refuse to divide what has nothing to divide it by: any borders would be arbitrary."""
    if isinstance(params, (KMeans, Hierarchy)) or params.n_regions == "auto":
        return
    wanted = params.n_regions + (params.extra_regions if isinstance(params, Spectral) else 0)
    pixels = pixel_rows(working, mask)
    if 1 < wanted <= len(pixels) and np.all(pixels == pixels[0]):
        raise ImageError(f"every pixel has the same value: nothing tells {wanted} regions apart; ask for 1")
    if 1 < wanted == len(pixels):
        raise ImageError(
            f"{wanted} regions of {wanted} pixels leave every pixel alone; at most {wanted - 1} are allowed"
        )


@functools.cache
def _thread_pools(packages: tuple[str, ...]) -> "ThreadpoolController":
    """Find the thread pools of the numerical libraries, once those that are run are loaded."""
    from threadpoolctl import ThreadpoolController

    for package in packages:
        importlib.import_module(package)
    return ThreadpoolController()


def explained_variance(features: Floats, labels: NodeLabels) -> float:
    """Return the share of the variance of `features` that lies between regions.

    Parameters
    ----------
    features : ndarray of float64, shape (P, C)
        Values of the pixels.
    labels : ndarray of int, shape (P,)
        Region of each pixel, >= 0.

    Returns
    -------
    share : float
        In [0, 1]; 1 where nothing varies.

    Examples
    --------
    >>> explained_variance(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1]))
    0.8
    """
    from segmentation.kernels.regions import squares_around_means

    values, regions = read_only(features), labels.astype(np.int64, copy=False)
    total = squares_around_means(values, read_only(np.zeros(len(regions), dtype=np.int64)), 1)
    if total <= np.finfo(np.float64).eps * float(np.sum(features**2)):
        return 1.0
    within = squares_around_means(values, read_only(regions), int(regions.max()) + 1)
    return min(1.0, max(0.0, 1.0 - within / total))


def _grid(working: Image, *, mask: Bools | None, connectivity: int) -> csr_array:
    return grid_connectivity((working.shape[0], working.shape[1]), mask=mask, connectivity=connectivity)


def _similarities(
    working: Image,
    *,
    mask: Bools | None,
    beta: float,
    eps: float,
    connectivity: int,
    radius: float,
    sigma_value: float,
    sigma_distance: float,
) -> csr_array:
    if radius > 1:
        return affinity_graph(working, mask=mask, radius=radius, sigma_value=sigma_value, sigma_distance=sigma_distance)
    return pixel_graph(working, mask=mask, beta=beta, eps=eps, connectivity=connectivity)


def _cut(
    working: Image,
    mask: Bools | None,
    graph: csr_array,
    *,
    seed: int,
    n_regions: int,
    extra_regions: int,
    eigen_solver: str,
    eigen_tol: float,
    assign_labels: str,
    smallest_region: int,
) -> tuple[NodeLabels, dict[str, float]]:
    labels = spectral(
        graph,
        n_regions=n_regions,
        extra_regions=extra_regions,
        eigen_solver=eigen_solver,
        eigen_tol=eigen_tol,
        assign_labels=assign_labels,
        smallest_region=smallest_region,
        seed=seed,
    )
    return labels, {"ncut": normalized_cut(graph, labels)}


def _grow(working: Image, mask: Bools | None, graph: csr_array, params: object = None) -> MergeTree:
    return merge_tree(pixel_rows(working, mask), graph)


def _merge(
    working: Image,
    mask: Bools | None,
    graph: csr_array,
    *,
    seed: int,
    n_regions: int,
    tree: MergeTree | None = None,
) -> tuple[NodeLabels, dict[str, float]]:
    return cut_tree(tree or _grow(working, mask, graph), n_regions), {}


def _grow_regions(working: Image, mask: Bools | None, graph: None, params: Hierarchy) -> RegionTree:
    return region_tree(working, params, mask)


def _cut_regions(
    working: Image,
    mask: Bools | None,
    graph: None,
    *,
    seed: int,
    n_regions: int | Literal["auto"],
    threshold: float | None,
    smallest_region: int,
    tree: RegionTree | None = None,
) -> tuple[NodeLabels, dict[str, float]]:
    params = Hierarchy(n_regions=n_regions, threshold=threshold, smallest_region=smallest_region)
    height, labels = cut_as_asked(tree or region_tree(working, params, mask), params)
    nodes: NodeLabels = labels[labels > 0].astype(np.int64) - 1
    return nodes, {"threshold": height}


def _palette(
    working: Image,
    mask: Bools | None,
    graph: None,
    *,
    seed: int,
    n_clusters: int,
    color_space: str,
    algorithm: str,
    n_init: int,
    max_iter: int,
    tol: float,
) -> tuple[NodeLabels, dict[str, float]]:
    result = kmeans(
        color_features(working, color_space, mask=mask),
        n_clusters=n_clusters,
        algorithm=algorithm,
        n_init=n_init,
        max_iter=max_iter,
        tol=tol,
        random_state=seed,
    )
    return result.labels, {"inertia": result.inertia}


_SOLVERS = ("scipy.linalg", "sklearn.cluster")
METHODS: dict[str, Method] = {
    "spectral": Method(
        graph=_similarities,
        cluster=_cut,
        grow=None,
        threaded=lambda params: ("scipy.linalg",) if params.eigen_solver == "multilevel" else _SOLVERS,
    ),
    "ward": Method(graph=_grid, cluster=_merge, grow=_grow, threaded=lambda _: ()),
    "kmeans": Method(
        graph=None,
        cluster=_palette,
        grow=None,
        threaded=lambda params: () if params.algorithm == "distinct" else _SOLVERS,
    ),
    "hierarchy": Method(graph=None, cluster=_cut_regions, grow=_grow_regions, threaded=lambda _: ()),
}
