"""Base regions of an image, and what is known of them and of their borders before any are merged."""

from dataclasses import dataclass

import numpy as np

from segmentation.arrays import Bools, Floats, Integers, Ints, Labels, read_only
from segmentation.boundaries import CUES, PLANE_RANGES, BoundaryCues
from segmentation.labels import relabel_sequential

# Levels of the relief that is flooded.
_N_LEVELS = 256
# Weight of the full resolution in the relief: it says where exactly a border runs, not whether there is one.
_FINE = 0.3
# What a basin has at least, in levels and pixels, to be described; others join those beside them first.
_DEPTH, _AREA = 6, 16


@dataclass(frozen=True)
class Basins:
    """The basins of boundary strength, and the regions that are left when the shallow ones have joined others.

    Attributes
    ----------
    finest : ndarray of uint16 or uint32, shape (M, N)
        All basins: 1..n in raster order of first appearance, 0 where masked.
    joins : ndarray of int32, shape (J, 2)
        The two nodes that each join makes one: basin b is node b - 1, join i makes node n + i.
    regions : ndarray of int32, shape (M, N)
        What is left: 1..n - J in raster order of first appearance, 0 where masked.
    nodes : ndarray of int32, shape (n - J,)
        The node of every region.
    """

    finest: Labels
    joins: Integers
    regions: Labels
    nodes: Integers


def find_basins(cues: BoundaryCues, mask: Bools) -> Basins:
    """Divide the mask into the basins of boundary strength (a watershed)."""
    from segmentation.kernels.basins import flood_basins, join_shallow, minima, relief
    from segmentation.kernels.borders import border_sides

    heights = relief(cues.strength, cues.steepness, _FINE, _N_LEVELS, read_only(mask))
    labels = minima(heights)
    flood_basins(heights, labels)
    finest = relabel_sequential(labels)
    labels = read_only(finest.astype(np.int32))
    roots, joins, nodes = join_shallow(heights, labels, border_sides(labels), _DEPTH, _AREA)
    left, numbers = np.unique(roots[1:], return_inverse=True)
    regions = np.concatenate([np.zeros(1, np.int32), (numbers + 1).astype(np.int32)])[finest]
    return Basins(finest, joins, regions, nodes[left])


def describe(cues: BoundaryCues, regions: Labels, smallest_region: int) -> tuple[Ints, Floats, Floats, Floats]:
    """Describe regions and their borders, as `segmentation.kernels.merging.start_merging` takes them."""
    from segmentation.kernels import borders as kernels
    from segmentation.kernels import merging

    labels = read_only(regions.astype(np.int32, copy=False))
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
    region_sums = kernels.region_sums(labels, cues.planes, PLANE_RANGES, cues.textons, cues.strength)
    strength = cues.strength.astype(np.float64)
    n_pixels = float(np.count_nonzero(regions))
    scene = np.array([n_pixels, smallest_region, strength.mean(), strength.std(), cues.has_colors])
    return ends, sums, region_sums, scene
