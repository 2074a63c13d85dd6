"""Regions without choosing their number: a tree of regions, grown from boundary strength and cut where one likes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Image, Integers, Labels, read_only
from segmentation.base_regions import Basins, describe, find_basins
from segmentation.boundaries import boundary_cues
from segmentation.errors import ImageError, ParameterError
from segmentation.learned import learned
from segmentation.params import Hierarchy
from segmentation.prepare import check_image

if TYPE_CHECKING:
    from segmentation.kernels.merging import Merging

#: Height that merges of basins stay below which are too small or too shallow to be judged.
_SHALLOW = 0.01


@dataclass(frozen=True, eq=False)
class RegionTree:
    """All segmentations of an image between its base regions and one region, each nested in the next.

    Attributes
    ----------
    base : ndarray of uint16 or uint32, shape (M, N)
        Base regions at the image's resolution: 1..n_base in raster order of first appearance, 0 where masked.
    merges : ndarray of int32, shape (n_base - c, 2)
        The two nodes, the smaller number first, that each merge joins, c being the number of 4-connected pieces of
        the mask, which are never merged. Base region r is node r - 1, merge i makes node n_base + i.
    heights : ndarray of float32, shape (n_base - c,)
        How credible the border is that each merge removes, in [0, 1), never decreasing. The first merges, of base
        regions too small or too shallow to be judged, have heights in their order, below all that are judged.
    suggested : float
        The threshold that `suggest` returns.
    """

    base: Labels
    merges: Integers
    heights: NDArray[np.float32]
    suggested: float

    @property
    def n_base(self) -> int:
        """Number of base regions."""
        return int(self.base.max())

    def suggest(self) -> float:
        """Return the threshold that the method proposes for this image."""
        return self.suggested

    def n_regions_at(self, threshold: float) -> int:
        """Return how many regions a cut at a threshold has.

        Raises
        ------
        ParameterError
            If `threshold` is not finite.
        """
        _check_threshold(threshold)
        return self.n_base - int(np.searchsorted(self.heights, np.float64(threshold), side="right"))

    def cut(self, *, threshold: float | None = None, n_regions: int | None = None) -> Labels:
        """Return the regions of one level of the tree.

        Parameters
        ----------
        threshold : float, optional
            Borders of at most this height are removed. Without both arguments it is that of `suggest`.
        n_regions : int, optional
            How many regions there are to be, >= 1. With fewer than the mask has pieces there is one for each piece.

        Returns
        -------
        labels : ndarray of uint16 or uint32, shape (M, N)
            1..K in raster order of first appearance, 0 where masked; every region is 4-connected.

        Raises
        ------
        ParameterError
            If both are given, `threshold` is not finite, or `n_regions` is below 1.
        ImageError
            If `n_regions` is above the number of base regions.

        Notes
        -----
        O(MN) time. Cuts are nested: a region of one lies within one region of any coarser cut.

        Examples
        --------
        >>> tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.2, 0.7]), 0.5)
        >>> tree.cut(threshold=0.3), tree.cut(n_regions=1)
        (array([[1, 1, 2]], dtype=uint16), array([[1, 1, 1]], dtype=uint16))
        """
        from segmentation.kernels.ward import cut_merges

        if n_regions is not None and threshold is not None:
            raise ParameterError(f"give a threshold or n_regions, not both: got {threshold} and {n_regions}")
        if n_regions is None:
            n_merges = self.n_base - self.n_regions_at(self.suggested if threshold is None else threshold)
        else:
            if n_regions < 1:
                raise ParameterError(f"n_regions must be >= 1, got {n_regions}")
            if n_regions > self.n_base:
                raise ImageError(f"{n_regions} regions are more than the {self.n_base} base regions of the image")
            n_merges = min(self.n_base - n_regions, len(self.merges))
        nodes = cut_merges(read_only(self.merges.astype(np.int32, copy=False)), self.n_base, n_merges)
        dtype = np.uint16 if nodes.max() < np.iinfo(np.uint16).max else np.uint32
        labels: Labels = np.concatenate([np.zeros(1, dtype), (nodes + 1).astype(dtype)])[self.base]
        return labels

    def contours(self) -> NDArray[np.float32]:
        """Return how credible the borders are that run between pixels, an ultrametric contour map [1]_.

        Returns
        -------
        contours : ndarray of float32, shape (M, N)
            At every pixel the height at which the last of its borders to the right and below disappears; 0 where it
            has none, infinite where none ever does. ``contours() > t`` are the borders of ``cut(threshold=t)``.

        Notes
        -----
        O(MN) time, and that of climbing the tree once for each pair of touching base regions.

        References
        ----------
        .. [1] Arbelaez, "Boundary extraction in natural images using ultrametric contour maps", CVPR Workshops, 2006.

        Examples
        --------
        >>> tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.25, 0.75]), 0.5)
        >>> tree.contours()
        array([[0.25, 0.75, 0.  ]], dtype=float32)
        """
        from segmentation.kernels.borders import contour_map

        return contour_map(
            read_only(self.base.astype(np.int32)),
            read_only(self.merges.astype(np.int32, copy=False)),
            read_only(self.heights.astype(np.float32, copy=False)),
            self.n_base,
        )

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the tree as plain arrays, to be stored: `from_arrays` makes the same tree of them, without the image.

        Examples
        --------
        >>> tree = RegionTree(np.array([[1, 2]]), np.array([[0, 1]]), np.array([0.2]), 0.5)
        >>> RegionTree.from_arrays(tree.as_arrays()).cut()
        array([[1, 1]], dtype=uint16)
        """
        return {
            "base": self.base,
            "merges": self.merges,
            "heights": self.heights,
            "suggested": np.array(self.suggested, dtype=np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make a tree of what `as_arrays` returned."""
        return cls(arrays["base"], arrays["merges"], arrays["heights"], float(arrays["suggested"]))


def region_tree(image: Image, params: Hierarchy | None = None, mask: Bools | None = None) -> RegionTree:
    """Grow the tree of an image's regions.

    Parameters
    ----------
    image : ndarray of bool, integer or float, shape (M, N), (M, N, 1) or (M, N, 3)
        Grey or RGB intensities, any scale: the tree does not change if all are multiplied by a number.
    params : Hierarchy, optional
        Its `smallest_region` counts here; `n_regions` and `threshold` say where the tree is cut later.
    mask : ndarray of bool, shape (M, N), optional
        True where the image is to be segmented. 4-connected pieces of it are never merged.

    Returns
    -------
    tree : RegionTree
        A flat image is one region. Images of any size have a tree; below 16×16 pixels there is little to see for
        discs of up to 20 pixels in radius, and the tree is mostly one of brightness.

    Raises
    ------
    ImageError
        If the image or mask is not one (`segmentation.prepare.check_image`), or has neither one channel nor three.

    Notes
    -----
    O(P) time for the cues of boundaries and the watershed, O(n log n) for merging n base regions.

    Examples
    --------
    >>> image = np.zeros((40, 60), dtype=np.uint8)
    >>> image[:, 30:] = 200
    >>> labels = region_tree(image).cut()
    >>> labels[0, :30].max(), labels[0, 30:].min(), labels.max()
    (np.uint16(1), np.uint16(2), np.uint16(2))
    """
    from segmentation.kernels.merging import merge_regions, start_merging

    params = params or Hierarchy()
    image, mask = check_image(image, mask)
    pixels, white = _intensities(image, mask)
    inside = np.ones(image.shape[:2], dtype=bool) if mask is None else mask
    known = learned()
    cues = boundary_cues(pixels, white, known.pixels)
    basins = find_basins(cues, inside)
    merging = start_merging(*describe(cues, basins.regions, params.smallest_region), known.borders)
    merge_regions(merging, known.borders, 1)
    return refined(finish(merging, basins.regions, known.usual_cut), basins)


def _intensities(image: Image, mask: Bools | None) -> tuple[Image, float]:
    """Bring an image to non-negative channels, shape (M, N, C); return these and the largest value."""
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.shape[2] != 3 and image.shape[2] != 1:
        raise ImageError(f"hierarchy takes grey or RGB images, got {image.shape[2]} channels")
    if mask is not None and not mask.all():
        from scipy.ndimage import distance_transform_edt

        # What the mask hides must not count, nor be a border.
        nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        image = image[tuple(nearest)]
    if image.dtype.kind == "b":
        image = image.astype(np.uint8)
    elif image.dtype == np.float16:
        image = image.astype(np.float32)
    if (lowest := image.min()) < 0:
        image = image.astype(np.float64) - float(lowest)
    highest = float(image.max())
    return image, highest or 1.0


def finish(merging: "Merging", base: Labels, suggested: float) -> RegionTree:
    """Sort merges by height, children before their parents, and renumber the nodes that they make."""
    n_merges, n_base = int(merging.done[0]), int(base.max())
    heights = merging.heights[:n_merges].astype(np.float32)
    order = np.argsort(heights, kind="stable")
    number = np.arange(n_base + n_merges, dtype=np.int32)
    number[n_base + order] = np.arange(n_base, n_base + n_merges, dtype=np.int32)
    return RegionTree(base, np.sort(number[merging.children[order]], axis=1), heights[order], suggested)


def refined(tree: RegionTree, basins: Basins) -> RegionTree:
    """Put below the regions of a tree the basins that had joined to them, at heights below all of the tree's."""
    n_basins, n_joins = int(basins.finest.max()), len(basins.joins)
    made = np.arange(n_basins + n_joins, n_basins + n_joins + len(tree.merges), dtype=np.int32)
    merges = np.sort(np.concatenate([basins.nodes, made])[tree.merges], axis=1)
    lowest = tree.heights[:1].min(initial=_SHALLOW)
    heights = (lowest * np.arange(n_joins) / max(n_joins, 1)).astype(np.float32)
    return RegionTree(
        basins.finest,
        np.concatenate([basins.joins, merges]),
        np.concatenate([heights, tree.heights]),
        tree.suggested,
    )


def _check_threshold(threshold: float) -> None:
    if not math.isfinite(threshold):
        raise ParameterError(f"threshold must be a finite number, got {threshold}")
