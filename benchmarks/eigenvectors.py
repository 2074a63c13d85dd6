"""Eigenvectors by arpack and k-means on them against scikit-learn's on the same arrays: time and equal labels."""

from typing import Any

import numpy as np

from benchmarks.measure import Row, interleaved
from segmentation.assigners import assign_kmeans
from segmentation.graphs import pixel_graph
from segmentation.prepare import rescale, smooth
from segmentation.spectral import spectral_embedding

_SEED = 42


def run(*, quick: bool = False) -> list[Row]:
    """Measure coins at a fifth, two fifths and all of their size, at k = 29 and 8."""
    from skimage.data import coins

    rows = []
    for scale in (0.2,) if quick else (0.2, 0.4, 1.0):
        graph = pixel_graph(rescale(smooth(coins(), 2), scale))
        repeats = 1 if quick else 5 if scale < 1 else 3
        rows += [_row(f"coins, scale {scale}", graph, k, repeats=repeats) for k in (29, 8)]
    return rows


def _row(name: str, graph: Any, k: int, *, repeats: int) -> Row:
    from sklearn.cluster import k_means
    from sklearn.manifold import spectral_embedding as reference

    keywords: dict[str, Any] = {"eigen_solver": "arpack", "eigen_tol": 1e-7, "random_state": _SEED}
    results: dict[str, Any] = {}
    vectors = interleaved(
        {
            "ours": lambda: results.update(ours=spectral_embedding(graph, k, **keywords)),
            "theirs": lambda: results.update(theirs=reference(graph, n_components=k, drop_first=False, **keywords)),
        },
        repeats=repeats,
    )
    difference = np.abs(results["ours"] - results["theirs"]).max() / np.abs(results["theirs"]).max()
    embedding = results["theirs"]
    labels = interleaved(
        {
            "ours": lambda: results.update(ours=assign_kmeans(embedding, _SEED)),
            "theirs": lambda: results.update(theirs=k_means(embedding, k, random_state=_SEED, n_init=10)[1]),
        },
        repeats=repeats,
    )
    return {
        "picture": name,
        "pixels": graph.shape[0],
        "k": k,
        "arpack ms": vectors["ours"],
        "scikit-learn arpack ms": vectors["theirs"],
        "arpack ratio": vectors["theirs"] / vectors["ours"],
        "relative difference": difference,
        "k-means ms": labels["ours"],
        "scikit-learn k-means ms": labels["theirs"],
        "k-means ratio": labels["theirs"] / labels["ours"],
        "equal labels": bool(np.array_equal(results["ours"], results["theirs"])),
    }
