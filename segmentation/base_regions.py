"""Base regions of an image, and what is known of them and of their borders before any are merged."""

import numpy as np

from segmentation.arrays import Bools, Floats, Ints, Labels, read_only
from segmentation.boundaries import CUES, PLANE_RANGES, BoundaryCues
from segmentation.labels import relabel_sequential

# Levels of the relief that is flooded: coarser steps make fewer, larger base regions.
_N_LEVELS = 256
# Weight of the full resolution in the relief: it says where exactly a border runs, not whether there is one.
_FINE = 0.3


def basins(cues: BoundaryCues, mask: Bools) -> Labels:
    """Divide the mask into the basins of boundary strength (a watershed)."""
    from segmentation.kernels.basins import flood_basins, minima, relief

    heights = relief(cues.strength, mask.shape, cues.steepness, _FINE, _N_LEVELS)
    labels = minima(heights, read_only(mask))
    flood_basins(heights, read_only(mask), labels)
    return relabel_sequential(labels)


def describe(cues: BoundaryCues, base: Labels, smallest_region: int) -> tuple[Ints, Floats, Floats, Floats]:
    """Describe base regions and their borders, as `segmentation.kernels.merging.start_merging` takes them."""
    from segmentation.kernels import basins as kernels
    from segmentation.kernels import merging

    labels = read_only(base.astype(np.int32))
    sides = kernels.border_sides(labels)
    pairs, borders = np.unique(sides[:, 3].astype(np.int64) * 2**32 + sides[:, 4], return_inverse=True)
    ends = np.stack([pairs // 2**32, pairs % 2**32], axis=1) - 1
    angles = kernels.border_directions(sides, borders, len(ends))
    sums = np.zeros((merging.N_BORDER_SUMS, len(ends)))
    sums[merging.LENGTH] = np.bincount(borders, minlength=len(ends))
    along = np.zeros(len(sides))
    for index, cue in enumerate(CUES):
        if cue in cues.maps:
            kernels.sum_along(sides, borders, angles, cues.maps[cue], cue.level, along, sums[merging.CUES + index])
    along /= len(CUES)
    sums[merging.ALONG] = np.bincount(borders, along, minlength=len(ends))
    sums[merging.ALONG_SQUARES] = np.bincount(borders, along * along, minlength=len(ends))
    sums = np.ascontiguousarray(sums.T)
    kernels.sum_strengths(sides, borders, cues.strength, cues.steepness, sums[:, merging.HIGHEST :])
    regions = kernels.region_sums(labels, cues.planes, PLANE_RANGES, cues.textons, cues.strength)
    strength = cues.strength.astype(np.float64)
    n_pixels = float(np.count_nonzero(base))
    scene = np.array([n_pixels, smallest_region, strength.mean(), strength.std(), cues.has_colors])
    return ends, sums, regions, scene
