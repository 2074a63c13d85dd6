"""Learn how probable people draw a boundary at a pixel: the first of two forests of `benchmarks.train_hierarchy`."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks.boosting import Rows, boost
from benchmarks.bsds_scores import Truth
from segmentation.boundaries import BoundaryCues
from segmentation.kernels.forest import Forest
from segmentation.kernels.strength import look_at
from segmentation.strength import strongest_cues, views

#: Pixels looked at in an image in colour, and in grey.
SAMPLES = 2500, 1250
#: How far from a boundary that somebody drew a pixel is on it, in pixels of the image.
REACH_PX = 2.0


def learn_boundaries(seen: list[Rows]) -> Forest:
    """Learn from pixels that `pixels_seen` collected."""
    return boost(seen, n_trees=120, depth=5, rate=0.15)


def pixels_seen(cues: BoundaryCues, truth: Truth, rng: np.random.Generator) -> Rows:
    """Collect features of pixels, by what part of the people they are on a boundary, and weights.

    Pixels where cues are strong or somebody drew are chosen more often, and half of that is undone by the weights.
    """
    drawn = drawn_at(truth).ravel()
    cue = strongest_cues(cues.seen).ravel()
    chances = np.clip(cue / cue.mean(), 0.3, 3) * (1 + 2 * (drawn > 0))
    chances /= chances.sum()
    chosen = rng.choice(len(drawn), SAMPLES[not cues.has_colors], replace=False, p=chances)
    features = look_at(cues.seen, views(len(cues.seen.fine) + len(cues.seen.coarse)))
    rows = features.reshape(len(drawn), -1)[chosen]
    return rows, drawn[chosen], (chances[chosen] * len(drawn)) ** -0.5


def drawn_at(truth: Truth) -> NDArray[np.float64]:
    """Return the part of the people who drew a boundary at every pixel of the grid of half size."""
    sums = 0
    for boundary in truth.boundaries:
        near = np.pad(distance_transform_edt(~boundary) <= REACH_PX, [(0, n % 2) for n in boundary.shape], mode="edge")
        m, n = near.shape
        sums = sums + (near.reshape(m // 2, 2, n // 2, 2).sum(axis=(1, 3)) >= 2)
    return sums / len(truth.boundaries)
