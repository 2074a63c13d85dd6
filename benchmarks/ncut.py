"""Multilevel normalized cuts against scikit-learn's arpack and k-means on the same graphs: time and Ncut.

The last rows say on how many of 100 photographs, at k = 4, 8, 16 and 29, the cut is not higher than scikit-learn's, and
what it is at worst.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, interleaved, photos
from segmentation.graphs import affinity_graph, pixel_graph
from segmentation.multilevel import multilevel_cut
from segmentation.prepare import rescale, smooth
from segmentation.spectral import normalized_cut

_KS = (4, 8, 16, 29)


def run(*, quick: bool = False) -> list[Row]:
    """Measure single pictures from 4,700 pixels to a megapixel, then a hundred photographs at a fifth of their size."""
    rows = [
        _row(name, graph, k, repeats=5 if graph.shape[0] < 50_000 else 1)
        for name, graph in _graphs(quick=quick).items()
        for k in ((29,) if graph.shape[0] > 500_000 else (8, 29))
    ]
    return rows + _over_photographs(2 if quick else 100)


def _graphs(*, quick: bool) -> dict[str, Any]:
    from skimage.data import camera, coins
    from skimage.transform import resize

    small = rescale(smooth(coins(), 2), 0.2)
    graphs = {"coins, scale 0.2": pixel_graph(small)}
    if not quick:
        graphs["coins, scale 0.2, radius 5"] = affinity_graph(small, radius=5)
        graphs["coins, scale 0.4"] = pixel_graph(rescale(smooth(coins(), 2), 0.4))
        graphs["coins"] = pixel_graph(rescale(smooth(coins(), 2), 1))
        graphs["camera, 1 megapixel"] = pixel_graph(resize(camera(), (1024, 1024), order=3))
    return graphs


def _row(name: str, graph: Any, k: int, *, repeats: int) -> Row:
    results = {}
    spent = interleaved(
        {
            "ours": lambda: results.update(ours=multilevel_cut(graph, n_regions=k)),
            "scikit-learn": lambda: results.update(theirs=_reference(graph, k)),
        },
        repeats=repeats,
    )
    ours, theirs = normalized_cut(graph, results["ours"]), normalized_cut(graph, results["theirs"])
    return {
        "graph": name,
        "pixels": graph.shape[0],
        "k": k,
        "ms": spent["ours"],
        "scikit-learn ms": spent["scikit-learn"],
        "ratio": spent["scikit-learn"] / spent["ours"],
        "Ncut": ours,
        "scikit-learn Ncut": theirs,
    }


def _reference(graph: Any, k: int) -> Any:
    from sklearn.cluster import spectral_clustering

    return spectral_clustering(graph, n_clusters=k, eigen_solver="arpack", eigen_tol=1e-7, random_state=42)


def _over_photographs(count: int) -> list[Row]:
    from PIL import Image

    ratios: dict[int, list[float]] = {k: [] for k in _KS}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(photos(Path(folder), count).iterdir()):
            graph = pixel_graph(rescale(smooth(np.asarray(Image.open(path).convert("L")), 2), 0.2))
            for k in _KS:
                ours = normalized_cut(graph, multilevel_cut(graph, n_regions=k))
                theirs = normalized_cut(graph, _reference(graph, k))
                ratios[k].append(ours / theirs if theirs else float(ours > 0))
    return [
        {
            "graph": f"{count} photographs, scale 0.2",
            "pixels": graph.shape[0],
            "k": k,
            "not higher %": 100 * float(np.mean(np.array(ratios[k]) <= 1 + 1e-9)),
            "median Ncut / scikit-learn": float(np.median(ratios[k])),
            "worst": max(ratios[k]),
        }
        for k in _KS
    ]
