"""How time grows with the picture, from 5,000 pixels to 16 megapixels, with fitted exponents; peak memory at the end.

A process for every picture and method: a photograph in grey, enlarged, with a little noise. k-means takes its colours.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.measure import Row

#: Sides of the pictures, in pixels.
SIDES = (71, 142, 284, 512, 1024, 2048, 4096)
METHODS = ("graph", "spectral", "ward", "kmeans")
_CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
from skimage.data import astronaut
from skimage.transform import resize
from segmentation.graphs import grid_connectivity, pixel_graph
from segmentation.kmeans import kmeans
from segmentation.multilevel import multilevel_cut
from segmentation.ward import merge_tree

method, side = sys.argv[1], int(sys.argv[2])

def picture(side):
    image = resize(astronaut(), (side, side, 3), order=1)
    return image + np.random.default_rng(0).normal(0, 0.01, image.shape).astype(image.dtype)

def prepared(side):
    image = picture(side)
    if method == "kmeans":
        return (np.clip(image * 255, 0, 255).round().reshape(-1, 3),)
    grey = image.mean(axis=2)
    if method == "graph":
        return (grey,)
    if method == "spectral":
        return (pixel_graph(grey),)
    return grey.reshape(-1, 1), grid_connectivity(grey.shape)

run = {
    "graph": pixel_graph,
    "spectral": lambda graph: multilevel_cut(graph, n_regions=29),
    "ward": merge_tree,
    "kmeans": lambda pixels: kmeans(pixels, n_clusters=16),
}[method]
run(*prepared(40))  # loads the compiled loops
given = prepared(side)
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
started = time.process_time()
run(*given)
spent = time.process_time() - started
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps([spent, peak]))
"""


def run(*, quick: bool = False) -> list[Row]:
    """Measure every method at every size; the last row holds the exponents fitted from 80,000 pixels up."""
    rows: list[Row] = []
    for side in SIDES[:2] if quick else SIDES:
        row: Row = {"pixels": side**2}
        for method in METHODS:
            spent, peak = _measured(method, side)
            row |= {f"{method} s": spent, f"{method} MiB": peak}
        rows.append(row)
    return [*rows, _exponents(rows)]


def _measured(method: str, side: int) -> tuple[float, float]:
    command = [sys.executable, "-c", _CHILD, method, str(side)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent, peak = json.loads(done.stdout)
    return spent, peak


def _exponents(rows: list[Row]) -> Row:
    """Fit time = a · pixels^b on the larger pictures."""
    large = [row for row in rows if row["pixels"] >= 80_000] or rows
    sizes = np.log([row["pixels"] for row in large])
    fits = {f"{method} s": np.polyfit(sizes, np.log([row[f"{method} s"] for row in large]), 1)[0] for method in METHODS}
    return {"pixels": "exponent", **{name: float(exponent) for name, exponent in fits.items()}}


def figure(rows: list[Row]) -> Any:
    """Plot time over pixels, both on logarithmic axes."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawing.subplots()
    measured, exponents = rows[:-1], rows[-1]
    for method in METHODS:
        label = f"{method}: pixels^{exponents[f'{method} s']:.2f}"
        axes.loglog([row["pixels"] for row in measured], [row[f"{method} s"] for row in measured], "o-", label=label)
    axes.set(xlabel="pixels", ylabel="CPU seconds, one thread")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    return drawing
