"""Cuts of a region tree at the image's resolution: labels, scores and tables, without the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Floats, Image, Labels
from segmentation.errors import ImageError, ParameterError
from segmentation.hierarchy import RegionTree
from segmentation.labels import merge_small_regions, relabel_sequential, upscale_labels
from segmentation.params import Hierarchy, Recipe
from segmentation.regions import RegionTable, mean_columns, region_table


@dataclass(frozen=True, eq=False)
class MeasuredTree:
    """A tree whose base regions are at the image's resolution, and what the image is in them.

    Attributes
    ----------
    tree : RegionTree
        Its `base` has shape (M, N).
    sums : ndarray of float64, shape (n_base, C)
        Sums of the image's values in each base region.
    within : float
        Sum of squares around the means of base regions, all channels together.
    """

    tree: RegionTree
    sums: Floats
    within: float

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is to be stored; `from_arrays` makes the same of it, without the image."""
        return {**self.tree.as_arrays(), "sums": self.sums, "within": np.array(self.within, dtype=np.float64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Make a tree of what `as_arrays` returned."""
        return cls(RegionTree.from_arrays(arrays), arrays["sums"], float(arrays["within"]))

    def mean_image(self) -> Floats:
        """Return the image with each base region in its mean colour, 0 where masked; shape (M, N) or (M, N, C)."""
        sizes = np.bincount(self.tree.base.ravel(), minlength=self.tree.n_base + 1)[1:]
        means: Floats = np.concatenate([np.zeros((1, self.sums.shape[1])), self.sums / sizes[:, None]])[self.tree.base]
        return means[:, :, 0] if means.shape[2] == 1 else means


def measure_tree(tree: RegionTree, image: Image, recipe: Recipe, mask: Bools | None = None) -> MeasuredTree:
    """Bring a tree to the image's resolution, and measure the image in its base regions.

    Parameters
    ----------
    tree : RegionTree
        Of the working grid, shape (m, n).
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale.
    recipe : Recipe
        Its `refine` counts here: base regions are brought up once, so that cuts are nested at any scale.
    mask : ndarray of bool, shape (M, N), optional
        True where the image is segmented.

    Returns
    -------
    measured : MeasuredTree

    Notes
    -----
    O(MN) time for each channel.

    Examples
    --------
    >>> tree = RegionTree(np.array([[1, 2]]), np.array([[0, 1]]), np.array([0.2]), 0.5)
    >>> measured = measure_tree(tree, np.array([[0, 2, 8, 9]]), Recipe(scale=0.5, refine="nearest"))
    >>> measured.tree.base, measured.sums.T, measured.within
    (array([[1, 1, 2, 2]]), array([[ 2., 17.]]), 2.5)
    """
    shape = (image.shape[0], image.shape[1])
    base = upscale_labels(tree.base, shape, image=image, mask=mask, refine=recipe.refine)
    flat, n_base = base.ravel(), tree.n_base
    sizes = np.bincount(flat, minlength=n_base + 1)
    channels = image.reshape(flat.size, -1).T
    sums = np.empty((n_base, len(channels)))
    within = 0.0
    for number, channel in enumerate(channels):
        found = np.bincount(flat, weights=channel, minlength=n_base + 1)
        sums[:, number] = found[1:]
        rest = (channel - (found / np.maximum(sizes, 1))[flat])[flat > 0]
        within += float(np.dot(rest, rest))
    return MeasuredTree(RegionTree(base, tree.merges, tree.heights, tree.suggested), sums, within)


def cut_tree(measured: MeasuredTree, recipe: Recipe) -> tuple[Labels, dict[str, float]]:
    """Cut a tree as a recipe says.

    Parameters
    ----------
    measured : MeasuredTree
        From `measure_tree` with the same recipe but for where it is cut.
    recipe : Recipe
        Its `n_regions` and `threshold` count here, and `min_region_size`, with base regions in their mean colours.

    Returns
    -------
    labels : ndarray of uint16 or uint32, shape (M, N)
        1..K in raster order of first appearance, 0 where masked.
    scores : dict of str to float
        Of the cut, before specks are merged. "n_regions": K. "explained_variance": share of the image's variance that
        lies between regions; 1 for a flat image. "threshold": borders of at most this height are gone.
        "base_regions": how many regions the finest cut has.

    Raises
    ------
    ImageError
        If `n_regions` is above the number of base regions.

    Examples
    --------
    >>> tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.25, 0.75]), 0.5)
    >>> measured = measure_tree(tree, np.array([[0, 1, 9]]), Recipe(method=Hierarchy()))
    >>> cut_tree(measured, Recipe(method=Hierarchy(n_regions=2)))[0]
    array([[1, 1, 2]], dtype=uint16)
    """
    threshold, labels = cut_as_asked(measured.tree, recipe.method)
    labels = relabel_sequential(labels)
    scores = {
        "n_regions": float(labels.max()),
        "explained_variance": _explained_variance(measured, labels),
        "threshold": threshold,
        "base_regions": float(measured.tree.n_base),
    }
    if recipe.min_region_size > 1:
        labels = merge_small_regions(labels, measured.mean_image(), recipe.min_region_size)
    return labels, scores


def cut_as_asked(tree: RegionTree, params: object) -> tuple[float, Labels]:
    """Cut a tree at `n_regions`, at `threshold`, or where it suggests; return the height of the cut, and labels."""
    if not isinstance(params, Hierarchy):
        raise ParameterError(f"a tree is cut by the method hierarchy, got {params!r}")
    if params.n_regions == "auto":
        threshold = tree.suggest() if params.threshold is None else params.threshold
        return threshold, tree.cut(threshold=threshold)
    labels = tree.cut(n_regions=params.n_regions)
    n_merges = min(tree.n_base - params.n_regions, len(tree.heights))
    return float(tree.heights[n_merges - 1]) if n_merges else 0.0, labels


def cut_table(measured: MeasuredTree, labels: Labels) -> RegionTable:
    """Measure every region of a cut, see `segmentation.regions.region_table`; mean colours come from base regions.

    Examples
    --------
    >>> tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.25, 0.75]), 0.5)
    >>> measured = measure_tree(tree, np.array([[0, 1, 9]]), Recipe(method=Hierarchy()))
    >>> cut_table(measured, np.array([[1, 1, 2]]))["mean_intensity"]
    array([0.5, 9. ])
    """
    if measured.sums.shape[1] not in (1, 3):
        raise ImageError(f"an image has one channel or three, got {measured.sums.shape[1]}")
    table = region_table(labels)
    sums = _sums_of_regions(measured, labels)[:, table["label"]]
    return {**table, **mean_columns(sums, table["area"].astype(np.float64))}


def _sums_of_regions(measured: MeasuredTree, labels: Labels) -> Floats:
    """Add up base regions, shape (C, K + 1); one that was torn apart counts by its pixels."""
    base, n_slots = measured.tree.base.ravel().astype(np.int64), int(labels.max()) + 1
    region_of = np.zeros(measured.tree.n_base + 1, np.int64)
    region_of[base] = labels.ravel()
    if np.array_equal(region_of[measured.tree.base], labels):
        regions, parts = region_of[1:], measured.sums
    else:
        pairs, counts = np.unique(base * n_slots + labels.ravel(), return_counts=True)
        pairs, counts = pairs[pairs >= n_slots], counts[pairs >= n_slots]
        owners, regions = pairs // n_slots, pairs % n_slots
        parts = measured.sums[owners - 1] * (counts / np.bincount(base)[owners])[:, None]
    return np.stack([np.bincount(regions, weights=channel, minlength=n_slots) for channel in parts.T])


def _explained_variance(measured: MeasuredTree, labels: Labels) -> float:
    sums = _sums_of_regions(measured, labels)[:, 1:].T
    sizes = np.bincount(labels.ravel())[1:, None]
    base_sizes = np.bincount(measured.tree.base.ravel())[1:, None]
    base_means, means = measured.sums / base_sizes, sums / sizes
    mean = sums.sum(axis=0) / sizes.sum()
    between = float(np.sum(sizes * (means - mean) ** 2))
    total = measured.within + float(np.sum(base_sizes * (base_means - mean) ** 2))
    if total <= np.finfo(np.float64).eps * (total + float(np.sum(base_sizes * base_means**2))):
        return 1.0
    return min(1.0, max(0.0, between / total))
