"""Boundary strength: how probable it is that people draw a boundary at a pixel, as trees learned it from cues.

After Dollár & Zitnick (IEEE TPAMI 37(8), 2015), who let trees look at gradients of a patch; here they look at cues and
gradients along and across the direction of the boundary that is to be judged, so that they learn it in one direction
for all.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Ints, read_only

if TYPE_CHECKING:
    from segmentation.kernels.forest import Forest
    from segmentation.kernels.strength import Maps, Views

Singles = NDArray[np.float32]

#: Probabilities are raised to this power: most are small, and floods have even levels.
_POWER = 0.6
#: Standard deviation of the Gaussian that smooths strength, in pixels of the grid of half size.
_SIGMA_PX = 0.7
#: Widths of the squares over which steepness is averaged, in such pixels.
_NEAR_PX, _FAR_PX = 9, 41

#: Maps without orientation, in the order of `boundary_maps`.
_PLANES = ("L*", "a*", "b*", "cues", "steep", "steep/2", "steep/4", "steep near", "steep far", "all around")
#: What trees look at, by map (the number of a cue in `segmentation.boundaries.CUES`, or one of the above) and by kind:
#: how many pixels away.
VIEWS: dict[int | str, dict[str, tuple[float, ...]]] = {
    0: {"along": (4,)},
    1: {"here": (0,), "lesser": (5,)},
    2: {"crosswise": (0,), "lesser": (5,), "larger": (5,)},
    3: {"here": (0,), "crosswise": (0,)},
    5: {"along": (4,), "lesser": (2, 5)},
    6: {"lesser": (2, 5), "larger": (5,)},
    8: {"along": (4,), "lesser": (2, 5), "larger": (5,)},
    "L*": {"here": (0,), "difference": (1.5, 3, 6)},
    "a*": {"here": (0,), "difference": (1.5,)},
    "b*": {"here": (0,), "difference": (1.5,)},
    "cues": {"here": (0,), "along": (3, 7), "lesser": (1, 7, 11), "larger": (4,)},
    "steep": {"here": (0,), "along": (1, 2), "lesser": (2, 3, 5), "larger": (1, 1.5)},
    "steep/2": {"here": (0,), "along": (2,), "larger": (1,)},
    "steep/4": {"here": (0,), "along": (3,), "larger": (2,)},
    "steep near": {"here": (0,)},
    "steep far": {"here": (0,)},
    "all around": {"here": (0,)},
}


def boundary_strength(seen: "Maps", forest: "Forest") -> Singles:
    """Return the strength of boundaries, shape (m, n), in [0, 1]; 0 where no cue speaks for any."""
    from scipy.ndimage import gaussian_filter

    from segmentation.kernels.strength import boundary_probabilities

    probabilities = boundary_probabilities(seen, views(len(seen.fine) + len(seen.coarse)), forest)
    probabilities[strongest_cues(seen) == 0] = 0
    strength: Singles = gaussian_filter(probabilities**_POWER, _SIGMA_PX)
    return strength


def strongest_cues(seen: "Maps") -> Singles:
    """Return the mean of all cues in the direction where it is highest, shape (m, n)."""
    plane: Singles = seen.planes[_PLANES.index("cues")]
    return plane


def boundary_maps(fine: Singles, coarse: Singles, lab: Singles, halved: Singles, steepness: Singles) -> "Maps":
    """Bring together what trees look at.

    Parameters
    ----------
    fine, coarse : ndarray of float32, shape (P, m, n, 8) and (Q, ceil(m / 2), ceil(n / 2), 8)
        Oriented cues.
    lab, halved : ndarray of float32, shape (3, m, n) and (C, m, n)
        L*, a*, b*, and the channels that they were made of.
    steepness : ndarray of float32, shape (M, N)
        Of the whole image.
    """
    from scipy.ndimage import uniform_filter

    from segmentation.kernels import cues as kernels
    from segmentation.kernels.strength import Maps

    n_cues = len(fine) + len(coarse)
    total = fine.sum(axis=0) / np.float32(n_cues)
    kernels.add_enlarged(total, coarse.sum(axis=0) / np.float32(n_cues))
    highest, mean, orientations = kernels.strongest(total)
    m, n = highest.shape
    steep = _highest_of_four(steepness)
    pixels = pixels_of(halved)
    quarter = pixels_of(kernels.halve(pixels, 1.0))
    enlarged = kernels.steepness(quarter, 1.0).repeat(2, axis=0).repeat(2, axis=1)[:m, :n]
    near, far = (uniform_filter(steep, width) for width in (_NEAR_PX, _FAR_PX))
    planes = [*lab, highest, steep, kernels.steepness(pixels, 1.0), enlarged, near, far, mean]
    scene = np.array([highest.mean(), highest.std(), steep.mean()], dtype=np.float64)
    return Maps(fine, coarse, np.stack(planes), orientations, scene)


def pixels_of(planes: Singles) -> Singles:
    """Turn planes, shape (C, M, N), to pixels, (M, N, C)."""
    return read_only(np.moveaxis(planes, 0, 2))


def _highest_of_four(image: Singles) -> Singles:
    """Take the highest of every 2×2 pixels; the last line counts twice where a side has an odd length."""
    padded = np.pad(image, [(0, n % 2) for n in image.shape], mode="edge")
    m, n = padded.shape
    highest: Singles = padded.reshape(m // 2, 2, n // 2, 2).max(axis=(1, 3))
    return highest


@functools.cache
def views(n_cues: int) -> "Views":
    """Write `VIEWS` as `segmentation.kernels.strength` takes them, with `n_cues` oriented maps."""
    from segmentation.kernels.strength import KINDS, Views

    table = [
        (map_ if isinstance(map_, int) else n_cues + _PLANES.index(map_), kind, distance)
        for map_, kinds in VIEWS.items()
        for kind, distances in kinds.items()
        for distance in distances
    ]
    maps, kinds = np.array([map_ for map_, _, _ in table]), np.array([KINDS.index(kind) for _, kind, _ in table])
    offsets = np.stack([_offsets(is_along=kind == "along", distance=distance) for _, kind, distance in table])
    return Views(read_only(maps), read_only(kinds), read_only(offsets))


def _offsets(*, is_along: bool, distance: float) -> Ints:
    """Return the pixels on either side of one, along each orientation or across it: shape (8, 2, 2)."""
    from segmentation.kernels.cues import N_ORIENTATIONS

    angles = np.arange(N_ORIENTATIONS) * np.pi / N_ORIENTATIONS
    rows, columns = (np.sin(angles), np.cos(angles)) if is_along else (np.cos(angles), -np.sin(angles))
    steps = distance * np.stack([rows, columns], axis=1)
    return np.floor(np.stack([steps, -steps], axis=1) + 0.5).astype(np.int64)
