"""k-means on distinct colours against scikit-learn's and OpenCV's: time, sum of squares, memory at 12 megapixels."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, photos
from segmentation.kmeans import color_features, kmeans
from segmentation.prepare import rescale, smooth

#: OpenCV's criteria for all: ten attempts, at most 100 rounds, or centres within 0.85 grey levels.
ATTEMPTS, ROUNDS, TOLERANCE = 10, 100, 0.85

_CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from segmentation.kmeans import kmeans
picture = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((4000, 3000), Image.Resampling.BICUBIC))
noise = np.random.default_rng(0).normal(0, 2, picture.shape)
features = np.clip(picture + noise, 0, 255).reshape(-1, 3)
if sys.argv[1] == "8 bits":
    features = np.rint(features)
del picture, noise
kmeans(features[::1000].copy(), n_clusters=16)  # loads the compiled loops
def kib(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = kib("VmRSS")
started = time.process_time()
result = kmeans(features, n_clusters=16)
spent = time.process_time() - started
print(json.dumps([spent, result.inertia / len(features), (kib("VmHWM") - before) / 1024]))
"""


def run(*, quick: bool = False) -> list[Row]:
    """Measure china in colour and grey, photographs as the flow hands them over, and 12 megapixels."""
    from sklearn.datasets import load_sample_image

    china = load_sample_image("china.jpg")[:: 8 if quick else 1, :: 8 if quick else 1] / 255
    seeds = range(2 if quick else 10)
    rows = [_row("china, RGB, 8 bits", [color_features(china)] * len(seeds), k) for k in ((3,) if quick else (10, 16))]
    grey = np.rint(china.mean(axis=2) * 255) / 255
    rows.append(_row("china, grey, 8 bits", [color_features(grey)] * len(seeds), 10))
    smoothed = [rescale(smooth(photo, 1), 0.5) for photo in _photos(len(seeds))]
    rows.append(_row("photographs, smoothed, half size, RGB", [color_features(photo) for photo in smoothed], 8))
    rows.append(
        _row("the same, grey", [color_features(photo.mean(axis=2)) for photo in smoothed[: 1 if quick else None]], 8)
    )
    if not quick:
        rows += [_alone(kind) for kind in ("8 bits", "floats")]
    return rows


def _photos(count: int) -> list[np.ndarray]:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        return [np.asarray(Image.open(path)) for path in sorted(photos(Path(folder), count).iterdir())]


def _row(name: str, features: list[np.ndarray], k: int) -> Row:
    """Run all programs on an array for each seed, in turn."""
    from threadpoolctl import threadpool_limits

    programs: dict[str, Callable[[np.ndarray, int, int], Any]] = {
        "ours": _ours,
        "scikit-learn": _scikit_learn,
        "OpenCV": _opencv,
    }
    spent: dict[str, list[float]] = {program: [] for program in programs}
    squares: dict[str, list[float]] = {program: [] for program in programs}
    _ours(features[0], k, 0)  # loads the compiled loops
    with threadpool_limits(1):
        for seed, pixels in enumerate(features):
            for program, fit in programs.items():
                started = time.process_time()
                labels = fit(pixels, k, seed)
                spent[program].append((time.process_time() - started) * 1e3)
                squares[program].append(_within(pixels, labels))
    row: Row = {"picture": name, "pixels": len(features[0]), "colours": k, "ms": statistics.median(spent["ours"])}
    row["squares per pixel"] = statistics.median(squares["ours"]) / len(features[0])
    for program in ("scikit-learn", "OpenCV"):
        worse = [ours / theirs for ours, theirs in zip(squares["ours"], squares[program], strict=True)]
        row[f"{program} ms"] = statistics.median(spent[program])
        row[f"times {program}"] = row[f"{program} ms"] / row["ms"]
        # As text: four digits tell which is lower.
        row[f"squares, part of {program}'s"] = f"{statistics.mean(worse):.4f}, worst {max(worse):.4f}"
    return row


def _ours(pixels: np.ndarray, k: int, seed: int) -> Any:
    return kmeans(
        pixels, n_clusters=k, n_init=ATTEMPTS, max_iter=ROUNDS, tol=TOLERANCE, random_state=seed, algorithm="distinct"
    ).labels


def _scikit_learn(pixels: np.ndarray, k: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    # Its tolerance is a part of the variance.
    tol = TOLERANCE**2 / pixels.var(axis=0).mean()
    return KMeans(k, n_init=ATTEMPTS, max_iter=ROUNDS, tol=tol, random_state=seed).fit_predict(pixels)


def _opencv(pixels: np.ndarray, k: int, seed: int) -> Any:
    import cv2

    cv2.setNumThreads(1)
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, ROUNDS, TOLERANCE)
    return cv2.kmeans(pixels.astype(np.float32), k, None, criteria, ATTEMPTS, cv2.KMEANS_PP_CENTERS)[1].ravel()


def _within(pixels: np.ndarray, labels: np.ndarray) -> float:
    """Return the sum of squares around the means of the clusters, computed alike for all."""
    sizes = np.maximum(np.bincount(labels), 1)
    means = np.stack([np.bincount(labels, weights=channel) for channel in pixels.T], axis=1) / sizes[:, np.newaxis]
    return float(np.sum((pixels - means[labels]) ** 2))


def _alone(kind: str) -> Row:
    done = subprocess.run([sys.executable, "-c", _CHILD, kind], check=True, capture_output=True, text=True)
    spent, squares, peak = json.loads(done.stdout)
    row: Row = {"picture": f"RGB, {kind}, 12 megapixels", "pixels": 12_000_000, "colours": 16, "ms": spent * 1e3}
    return row | {"squares per pixel": squares, "peak MiB beside the features": peak}
