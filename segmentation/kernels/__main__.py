"""Compile all loops for this machine, by running every method once on tiny pictures of the usual kinds."""

import sys
import time

import numpy as np

from segmentation.contours import encode_picture, render_contours
from segmentation.hierarchy import region_tree
from segmentation.kernels.jpeg import check_blocks, check_details
from segmentation.params import KMeans, Recipe, Spectral, Ward
from segmentation.pipeline import segment
from segmentation.regions import region_table

_METHODS = (
    Spectral(n_regions=2),
    Spectral(n_regions=2, radius=2),
    Spectral(n_regions=2, eigen_solver="arpack"),
    Ward(n_regions=2),
    KMeans(n_clusters=4),
)


def main() -> None:
    """Compile what is not compiled yet, and say how long it took."""
    started = time.perf_counter()
    sys.stdout.write("Compiling loops for this machine: a minute, or two where it is busy.\n")
    sys.stdout.flush()
    colour = np.random.default_rng(0).integers(0, 255, (80, 72, 3)).astype(np.uint8)
    mask = np.ones(colour.shape[:2], dtype=bool)
    mask[:4] = False
    codes = np.frombuffer(bytes(8), np.uint8), np.array([0, 8]), 1, 1, np.zeros((8, 2**16), np.uint16)
    check_blocks(*codes, np.zeros((1, 2), np.int64), 0)
    check_details(*codes, 4, np.array([1, 63]), False, np.zeros(1, np.uint64))
    for method in _METHODS:
        for image in (colour, colour[..., 0], colour.astype(np.uint16), colour[..., 0].astype(np.float64)):
            for chosen in (None, mask):
                labels = segment(image, Recipe(scale=0.5, min_region_size=40, method=method), chosen).labels
                region_table(labels, image)
                encode_picture(render_contours(image, labels))
    for image in (colour, colour[..., 0], colour.astype(np.uint16), colour[..., 0].astype(np.float64)):
        region_tree(image, mask=mask).contours()
    sys.stdout.write(f"Loops are compiled for this machine ({time.perf_counter() - started:.0f} s).\n")


if __name__ == "__main__":
    main()
