"""What was learned from the training images of BSDS500: textons, boundaries, prices of borders, and the usual cut.

``python -m benchmarks.train_hierarchy DATA`` learns it anew and writes ``hierarchy.npz``, of which this is the reader.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import read_only

if TYPE_CHECKING:
    from segmentation.kernels.forest import Forest

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes
    ----------
    textons : ndarray of float32, shape (10, 16)
        Centres of damped filter responses, see `segmentation.boundaries.filter_responses`.
    pixels : Forest
        Probability of a boundary at a pixel from views of it, see `segmentation.strength`.
    borders : Forest
        Credibility of a border from its features, see `segmentation.kernels.merging`.
    usual_cut : float
        The threshold with the largest covering on images that the trees had not seen.
    """

    textons: Singles
    pixels: "Forest"
    borders: "Forest"
    usual_cut: float


@functools.cache
def learned() -> Learned:
    """Read what was learned, once a process."""
    with resources.files("segmentation").joinpath("hierarchy.npz").open("rb") as file, np.load(file) as arrays:
        forests = [_forest(arrays, name) for name in ("pixels", "borders")]
        return Learned(read_only(arrays["textons"]), forests[0], forests[1], float(arrays["usual_cut"]))


def _forest(arrays: Mapping[str, NDArray[Any]], name: str) -> "Forest":
    from segmentation.kernels.forest import Forest

    features, thresholds, values = (
        read_only(arrays[f"{name}_{part}"]) for part in ("features", "thresholds", "values")
    )
    return Forest(features, thresholds, values, float(arrays[f"{name}_bias"]))


def untrained() -> "Forest":
    """Return a forest without trees: borders are then priced by a formula, and all pixels are as good as another."""
    from segmentation.kernels.forest import Forest

    features, numbers = np.zeros((0, 0), np.uint16), np.zeros((0, 0), np.float32)
    return Forest(read_only(features), read_only(numbers), read_only(numbers), 0.0)
