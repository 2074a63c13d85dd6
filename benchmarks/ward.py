"""Structured Ward against scikit-learn's on the same arrays: time, equality of every merge, memory at a megapixel."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, interleaved, photos
from segmentation.graphs import grid_connectivity
from segmentation.prepare import rescale, smooth
from segmentation.ward import cut_tree, merge_tree

_CHILD = """
import json, time
from pathlib import Path
import numpy as np
from skimage.data import astronaut
from segmentation.graphs import grid_connectivity
from segmentation.ward import cut_tree, merge_tree
merge_tree(np.eye(2), grid_connectivity((1, 2)))  # loads the compiled loop
pixels = np.kron(astronaut() / 255.0, np.ones((2, 2, 1)))
features = (pixels + np.random.default_rng(0).normal(0, 0.01, pixels.shape)).reshape(-1, 3)
graph = grid_connectivity(pixels.shape[:2])
def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak_kib()
started = time.process_time()
tree = merge_tree(features, graph)
built = time.process_time()
cut_tree(tree, 29)
print(json.dumps([built - started, time.process_time() - built, (peak_kib() - before) / 1024]))
"""


def run(*, quick: bool = False) -> list[Row]:
    """Measure coins at a fifth of their size, a photograph in grey, RGB and L*a*b*, and a megapixel alone."""
    rows = []
    for name, pixels in _pictures(quick=quick).items():
        features = np.ascontiguousarray(pixels.reshape(pixels.shape[0] * pixels.shape[1], -1))
        rows.append(_row(name, features, pixels.shape[:2], repeats=5 if len(features) < 10_000 else 1))
    if not quick:
        done = subprocess.run([sys.executable, "-c", _CHILD], check=True, capture_output=True, text=True)
        built, cut, peak = json.loads(done.stdout)
        rows.append({"picture": "RGB, 1 megapixel", "pixels": 1024**2, "ms": built * 1e3, "cut ms": cut * 1e3})
        rows[-1]["peak MiB"] = peak
    return rows


def _pictures(*, quick: bool) -> dict[str, np.ndarray]:
    from PIL import Image
    from skimage.color import rgb2gray, rgb2lab
    from skimage.data import coins

    pictures = {"coins, scale 0.2": rescale(smooth(coins(), 2), 0.2)}
    if quick:
        return pictures
    with tempfile.TemporaryDirectory() as folder:
        (path,) = photos(Path(folder), 1).iterdir()
        photo = np.asarray(Image.open(path)) / 255.0
    return {**pictures, "photo, grey": rgb2gray(photo), "photo, RGB": photo, "photo, L*a*b*": rgb2lab(photo)}


def _row(name: str, features: np.ndarray, shape: tuple[int, int], *, repeats: int) -> Row:
    from sklearn.cluster import ward_tree

    graph = grid_connectivity(shape)
    results = {}
    spent = interleaved(
        {
            "ours": lambda: results.update(ours=merge_tree(features, graph)),
            "scikit-learn": lambda: results.update(theirs=ward_tree(features, connectivity=graph)[0]),
        },
        repeats=repeats,
    )
    started = time.process_time()
    cut_tree(results["ours"], 29)
    return {
        "picture": name,
        "pixels": len(features),
        "ms": spent["ours"],
        "scikit-learn ms": spent["scikit-learn"],
        "ratio": spent["scikit-learn"] / spent["ours"],
        "equal merges": bool(np.array_equal(results["ours"].children, results["theirs"])),
        "cut ms": (time.process_time() - started) * 1e3,
    }
