"""Peak memory per pixel of each method, beside what `segmentation.planning.estimate_cost` promises."""

import json
import subprocess
import sys

from benchmarks.measure import Row

_CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from skimage.data import astronaut
from segmentation.contours import encode_picture, render_contours
from segmentation.params import parse_recipe
from segmentation.pipeline import segment
from segmentation.planning import Header, estimate_cost
side, values = int(sys.argv[1]), json.loads(sys.argv[2])
recipe = parse_recipe(values)
def picture(side):
    return np.kron(astronaut()[: -(-side // 4) : 1, : -(-side // 4)], np.ones((4, 4, 1), np.uint8))[:side, :side]
def peak_kib():  # unlike ru_maxrss, this begins anew with the program
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
segment(picture(64), parse_recipe({**values, "scale": 1.0}))  # imports
before = peak_kib()
image = picture(side)
encode_picture(render_contours(image, segment(image, recipe).labels))
peak = peak_kib() - before
cost = estimate_cost(Header(side, side, 3, 1), recipe)
print(json.dumps({"peak": peak * 1024, "estimate": cost.peak}))
"""


def run(*, quick: bool = False) -> list[Row]:
    """Measure each method on a colour picture, whole and at a fifth of its size."""
    methods = (
        {"method": "spectral"},
        {"method": "spectral", "radius": 5},
        {"method": "spectral", "eigen_solver": "arpack"},
        {"method": "ward"},
        {"method": "kmeans"},
        {"method": "hierarchy"},
    )
    cases = [(160, 1.0)] if quick else [(512, 1.0), (2000, 0.2), (1000, 0.5)]
    rows = []
    for method in methods:
        for side, scale in cases:
            recipe = json.dumps({"scale": scale, "method": method})
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(side), recipe], check=True, capture_output=True, text=True
            )
            found = json.loads(done.stdout)
            rows.append(
                {
                    "method": ", ".join(map(str, method.values())),
                    "image": f"{side}×{side}",
                    "scale": scale,
                    "peak MiB": found["peak"] / 2**20,
                    "estimated MiB": found["estimate"] / 2**20,
                }
            )
    return rows
