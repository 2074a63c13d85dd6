"""Boundary cues: how much the two sides of every pixel differ, in brightness, colour and texture.

After Martin, Fowlkes & Malik (IEEE TPAMI 26(5), 2004) and Arbelaez, Maire, Fowlkes & Malik (IEEE TPAMI 33(5), 2011):
chi-squared distances between the histograms of the two halves of discs, in L*, a*, b* and textons, for eight
orientations and several radii. Discs are laid on grids of half and of a quarter of the image's size, the large ones
on the coarser.
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Image, Integers, Ints, read_only
from segmentation.learned import learned
from segmentation.strength import boundary_maps, boundary_strength, pixels_of

if TYPE_CHECKING:
    from segmentation.kernels.forest import Forest
    from segmentation.kernels.strength import Maps

Singles = NDArray[np.float32]

#: Values of L*, a*, b* that histograms range over; beyond them the last bins count.
PLANE_RANGES = np.array([[0.0, 100.0], [-34.36, 32.84], [-34.36, 32.84]])
_TEXTON = 3
_TABLE_SIZE = 4096


@dataclass(frozen=True)
class Cue:
    """One comparison of half-discs: of plane 0, 1, 2 (L*, a*, b*) or of textons, on a grid 2 or 4 times coarser."""

    plane: int
    n_bins: int
    radius_px: float
    level: int

    @property
    def is_of_color(self) -> bool:
        """Whether a grey image does without it."""
        return self.plane in (1, 2)


#: Those of the finer grid come first.
CUES = (
    Cue(0, 8, 2.5, 2),
    Cue(0, 8, 2.5, 4),
    Cue(0, 8, 5, 4),
    Cue(1, 8, 2.5, 4),
    Cue(2, 8, 2.5, 4),
    Cue(1, 8, 5, 4),
    Cue(2, 8, 5, 4),
    Cue(_TEXTON, 16, 3.5, 4),
    Cue(_TEXTON, 16, 5, 4),
)


@dataclass(frozen=True)
class BoundaryCues:
    """What is known of an image before regions are.

    Attributes
    ----------
    planes : ndarray of float32, shape (3, m, n), m = ceil(M / 2), n = ceil(N / 2)
        L*, a* and b*.
    textons : ndarray of int32, shape (m, n)
    maps : dict of Cue to ndarray of float32, shape (m', n', 8)
        How much each cue speaks for a border, in [0, 1], on the grid of the cue; a grey image has no cues of colour.
    has_colors : bool
    seen : Maps
        What boundary strength is learned from.
    strength : ndarray of float32, shape (m, n)
        How probable a boundary is, see `segmentation.strength`.
    steepness : ndarray of float32, shape (M, N)
        Change of the steepest channel from one pixel to the next, as part of the largest value.
    """

    planes: Singles
    textons: Integers
    maps: dict[Cue, Singles]
    has_colors: bool
    seen: "Maps"
    strength: Singles
    steepness: Singles


def boundary_cues(image: Image, white: float, forest: "Forest") -> BoundaryCues:
    """Compute the cues of an image, shape (M, N, 1) or (M, N, 3), with values from 0 to `white`.

    `forest` says from them how probable a boundary is.
    """
    from segmentation.kernels.cues import halve, steepness

    image = read_only(image)
    halved = halve(image, white)
    planes = _lab(halved)
    textons = texton_map(planes[0])
    coarse = halve(pixels_of(planes), 1.0)
    grids = {2: (planes, textons), 4: (coarse, np.ascontiguousarray(textons[::2, ::2]))}
    has_colors = image.shape[2] == 3
    oriented = {level: _oriented_maps(level, has_colors, *grid) for level, grid in grids.items()}
    maps = {
        cue: map_
        for level in grids
        for cue, map_ in zip(_cues_of(level), oriented[level], strict=True)
        if has_colors or not cue.is_of_color
    }
    steep = steepness(image, white)
    seen = boundary_maps(oriented[2], oriented[4], planes, halved, steep)
    return BoundaryCues(planes, textons, maps, has_colors, seen, boundary_strength(seen, forest), steep)


def _cues_of(level: int) -> list[Cue]:
    return [cue for cue in CUES if cue.level == level]


def _oriented_maps(level: int, has_colors: bool, planes: Singles, textons: Integers) -> Singles:
    """Compute all cues of a grid, shape (number of cues, m', n', 8); those of colour are 0 where there is none."""
    cues = _cues_of(level)
    maps = np.zeros((len(cues), *textons.shape, 8), np.float32)
    for number, cue in enumerate(cues):
        if has_colors or not cue.is_of_color:
            maps[number] = _contrasts(cue, planes, textons)
    return maps


def _lab(halved: Singles) -> Singles:
    """Convert averages of 2×2 pixels to L*, a*, b*, shape (3, m, n)."""
    from segmentation.kernels.cues import lab_planes

    if len(halved) == 3:
        lab: Singles = lab_planes(halved, *_tables())
    else:
        lab = lab_planes(np.repeat(halved, 3, axis=0), *_tables())
        lab[1:] = 0  # by the tables not to the last bit
    return lab


def lightness(image: Image, white: float) -> Singles:
    """Return L* on the grid of half size, shape (m, n), of an image with values from 0 to `white`."""
    from segmentation.kernels.cues import halve

    plane: Singles = _lab(halve(read_only(image), white))[0]
    return plane


def _contrasts(cue: Cue, planes: Singles, textons: Integers) -> Singles:
    from segmentation.kernels.cues import disc_contrasts

    offsets, wedges = disc(cue.radius_px)
    if cue.plane == _TEXTON:
        bins, parts = textons, np.zeros(textons.shape, np.float32)
    else:
        low, high = PLANE_RANGES[cue.plane]
        places = np.clip((planes[cue.plane] - np.float32(low)) / np.float32(high - low), 0, 1) * (cue.n_bins - 1)
        bins = np.minimum(places.astype(np.int32), cue.n_bins - 2)
        parts = places - bins.astype(np.float32)
    around = int(-offsets.min())
    return disc_contrasts(
        np.pad(bins, around, mode="symmetric"), np.pad(parts, around, mode="symmetric"), cue.n_bins, offsets, wedges
    )


@functools.cache
def disc(radius_px: float) -> tuple[Ints, Ints]:
    """List the pixels of a disc without its centre, and the sixteenth of a turn that each lies in.

    Examples
    --------
    >>> offsets, wedges = disc(1)
    >>> offsets.tolist()
    [[-1, 0], [0, -1], [0, 1], [1, 0]]
    >>> wedges.tolist()
    [12, 8, 0, 4]
    """
    reach = int(np.ceil(radius_px))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squares = rows * rows + columns * columns
    inside = (squares > 0) & (squares <= radius_px * radius_px)
    offsets = np.stack([rows[inside], columns[inside]], axis=1)
    turns = np.arctan2(offsets[:, 0], offsets[:, 1]) / (2 * np.pi) % 1
    wedges = (turns * 16 + 1e-9).astype(np.int64) % 16
    return read_only(offsets), read_only(wedges)


@functools.cache
def _tables() -> tuple[Singles, Singles]:
    steps = np.linspace(0, 1, _TABLE_SIZE)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    roots = np.where(steps > 0.008856, np.cbrt(steps), 7.787 * steps + 16 / 116)
    return read_only(linear.astype(np.float32)), read_only(roots.astype(np.float32))


def filter_responses(lightness: Singles) -> Singles:
    """Return first and second derivatives of a plane, (M, N), at two scales, each with an r.m.s. of 1: (10, M, N)."""
    from scipy.ndimage import gaussian_filter

    responses = []
    for sigma in (1.0, 2.0):
        padded = np.pad(gaussian_filter(lightness, sigma), 1, mode="edge")
        middle = padded[1:-1, 1:-1]
        responses += [
            padded[1:-1, 2:] - padded[1:-1, :-2],
            padded[2:, 1:-1] - padded[:-2, 1:-1],
            padded[1:-1, 2:] - 2 * middle + padded[1:-1, :-2],
            padded[2:, 1:-1] - 2 * middle + padded[:-2, 1:-1],
            padded[2:, 2:] - padded[2:, :-2] - padded[:-2, 2:] + padded[:-2, :-2],
        ]
    stacked = np.stack(responses)
    scales = np.sqrt(np.mean(np.square(stacked, dtype=np.float64), axis=(1, 2)))
    scaled: Singles = stacked / np.maximum(scales, 1e-4).astype(np.float32)[:, np.newaxis, np.newaxis]
    return scaled


def texton_map(lightness: Singles) -> Integers:
    """Return the texton of every pixel of a plane of L*."""
    from segmentation.kernels.cues import nearest_codes

    numbers: Integers = nearest_codes(filter_responses(lightness), learned().textons)
    return numbers
