"""Each reference case against the library it comes from, on the same arrays, objective values beside the times."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Row, interleaved
from segmentation.graphs import grid_connectivity, pixel_graph
from segmentation.kmeans import kmeans
from segmentation.prepare import rescale, smooth
from segmentation.spectral import normalized_cut, spectral
from segmentation.ward import ward


def run(*, quick: bool = False) -> list[Row]:
    """Measure all cases; `quick` takes small inputs and one repeat."""
    cases = [_coins_graph, _coins_spectral, _coins_ward, _china, _opencv]
    return [row for case in cases for row in case(quick)]


def _compare(
    case: str, candidates: dict[str, Callable[[], Any]], objective: Callable[[Any], float], quick: bool, name: str
) -> list[Row]:
    times = interleaved(candidates, repeats=1 if quick else 5)
    ours = times["regionflow"]
    return [
        {
            "case": case,
            "program": program,
            "CPU ms": times[program],
            "× ours": times[program] / ours,
            "objective": name,
            "value": objective(run()),
        }
        for program, run in candidates.items()
    ]


def _coins(quick: bool) -> Any:
    from skimage.data import coins

    return rescale(smooth(coins(), 2), 0.1 if quick else 0.2)


def _coins_graph(quick: bool) -> list[Row]:
    from sklearn.feature_extraction.image import img_to_graph

    working = _coins(quick)

    def reference() -> Any:
        graph = img_to_graph(working)
        graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
        return graph.tocsr()

    candidates = {"regionflow": lambda: pixel_graph(working), "scikit-learn": reference}
    return _compare("coins: graph", candidates, lambda graph: float(graph.sum()), quick, "sum of weights")


def _coins_spectral(quick: bool) -> list[Row]:
    from sklearn.cluster import spectral_clustering

    graph = pixel_graph(_coins(quick))
    rows = []
    for assign in ("kmeans", "discretize", "cluster_qr"):
        ours = {"eigen_solver": "arpack", "eigen_tol": 1e-7, "assign_labels": assign}
        candidates = {
            "regionflow": lambda ours=ours: spectral(graph, n_regions=26, extra_regions=3, **ours, seed=42),
            "scikit-learn": lambda ours=ours: spectral_clustering(graph, n_clusters=29, **ours, random_state=42),
        }
        rows += _compare(
            f"coins: spectral, {assign}", candidates, lambda labels: normalized_cut(graph, labels), quick, "Ncut"
        )
    return rows


def _coins_ward(quick: bool) -> list[Row]:
    from sklearn.cluster import AgglomerativeClustering

    working = _coins(quick)
    features, connectivity = working.reshape(-1, 1), grid_connectivity(working.shape)
    candidates = {
        "regionflow": lambda: ward(features, connectivity, n_regions=27),
        "scikit-learn": lambda: AgglomerativeClustering(27, connectivity=connectivity).fit_predict(features),
    }
    return _compare("coins: Ward", candidates, lambda labels: _within(features, labels), quick, "sum of squares")


def _pixels(quick: bool) -> Any:
    from sklearn.datasets import load_sample_image

    china = load_sample_image("china.jpg")
    return china[:: 8 if quick else 1, :: 8 if quick else 1].reshape(-1, 3).astype(np.float64)


def _china(quick: bool) -> list[Row]:
    from sklearn.cluster import MiniBatchKMeans

    pixels = _pixels(quick)
    keywords = {"n_init": 10, "max_iter": 100}
    candidates = {
        "regionflow": lambda: (
            kmeans(pixels, n_clusters=16, algorithm="minibatch", tol=0.0, random_state=42, **keywords).labels
        ),
        "scikit-learn": lambda: MiniBatchKMeans(16, random_state=42, **keywords).fit_predict(pixels),
    }
    return _compare(
        "china: 16 colours, mini-batch", candidates, lambda labels: _within(pixels, labels), quick, "sum of squares"
    )


def _opencv(quick: bool) -> list[Row]:
    import cv2
    from sklearn.cluster import KMeans

    cv2.setNumThreads(1)
    pixels = _pixels(quick)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.85)
    keywords = {"n_init": 10, "max_iter": 100, "random_state": 42}
    tol = 0.85**2 / pixels.var(axis=0).mean()
    rows = []
    for k in (3, 10):
        candidates = {
            "regionflow": lambda k=k: kmeans(pixels, n_clusters=k, algorithm="lloyd", tol=0.85, **keywords).labels,
            "scikit-learn": lambda k=k: KMeans(k, tol=tol, **keywords).fit_predict(pixels),
            "OpenCV": lambda k=k: cv2.kmeans(
                pixels.astype(np.float32), k, None, criteria, 10, cv2.KMEANS_RANDOM_CENTERS
            )[1].ravel(),
        }
        rows += _compare(f"china: k = {k}", candidates, lambda labels: _within(pixels, labels), quick, "sum of squares")
    return rows


def _within(features: Any, labels: Any) -> float:
    """Sum of squared distances to the mean of one's region."""
    _, labels = np.unique(labels, return_inverse=True)
    sizes = np.bincount(labels)
    sums = [np.bincount(labels, column) for column in features.T]
    return float((features**2).sum() - sum((total**2 / sizes).sum() for total in sums))
