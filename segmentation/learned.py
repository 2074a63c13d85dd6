"""What was learned from the training images of BSDS500: textons, prices of borders, and where trees are cut.

``python -m benchmarks.train_hierarchy DATA`` learns it anew and writes ``hierarchy.npz``, of which this is the reader.
"""

import functools
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import read_only

if TYPE_CHECKING:
    from segmentation.kernels.merging import Forest

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes
    ----------
    textons : ndarray of float32, shape (10, 16)
        Centres of damped filter responses, see `segmentation.boundaries.filter_responses`.
    forest : Forest
        Credibility of a border from its features, see `segmentation.kernels.merging`.
    usual_cut : float
        The threshold with the largest covering on images that the forest had not seen.
    """

    textons: Singles
    forest: "Forest"
    usual_cut: float


@functools.cache
def learned() -> Learned:
    """Read what was learned, once a process."""
    from segmentation.kernels.merging import Forest

    with resources.files("segmentation").joinpath("hierarchy.npz").open("rb") as file, np.load(file) as arrays:
        features, thresholds, values = (read_only(arrays[name]) for name in ("features", "thresholds", "values"))
        forest = Forest(features, thresholds, values, float(arrays["bias"]))
        return Learned(read_only(arrays["textons"]), forest, float(arrays["usual_cut"]))


def untrained() -> "Forest":
    """Return a forest without trees: borders are then priced by a formula."""
    from segmentation.kernels.merging import Forest

    features, numbers = np.zeros((0, 0), np.uint16), np.zeros((0, 0), np.float32)
    return Forest(read_only(features), read_only(numbers), read_only(numbers), 0.0)
