"""The whole chain for one image in memory, and the steps that the flow calls one by one."""

from dataclasses import dataclass

from segmentation.arrays import Bools, Floats, Image, Labels
from segmentation.cluster import build_graph, cluster, grow_tree
from segmentation.cuts import cut_tree, measure_tree
from segmentation.errors import ImageError
from segmentation.hierarchy import RegionTree
from segmentation.labels import merge_small_regions, relabel_sequential, upscale_labels
from segmentation.params import Recipe
from segmentation.prepare import check_image, rescale_mask, smooth_and_rescale

#: The parameters of scikit-learn's example on the Greek coins.
DEFAULT_RECIPE = Recipe()


@dataclass(frozen=True)
class Working:
    """What is clustered: the smoothed, rescaled image, (m, n) or (m, n, C), and its mask, (m, n)."""

    image: Floats
    mask: Bools | None


@dataclass(frozen=True)
class Segmentation:
    """An image's regions, and what they were computed on.

    Attributes
    ----------
    labels : ndarray of uint16 or uint32, shape (M, N)
        Regions at the image's own resolution: 1..K in raster order of first appearance, 0 where masked.
    working_labels : ndarray of uint16 or uint32, shape (m, n)
        Regions on the working grid, numbered in the same way.
    working : ndarray of float64, shape (m, n) or (m, n, C)
        The smoothed, rescaled image.
    scores : dict of str to float
        How good the working labels are, see `segmentation.cluster.cluster`; for hierarchy the labels at the image's
        resolution, see `segmentation.cuts.cut_tree`.
    """

    labels: Labels
    working_labels: Labels
    working: Floats
    scores: dict[str, float]


def segment(image: Image, recipe: Recipe = DEFAULT_RECIPE, mask: Bools | None = None) -> Segmentation:
    """Divide an image into regions.

    Parameters
    ----------
    image : ndarray of bool, integer or float, shape (M, N) or (M, N, C)
        Intensities, any scale.
    recipe : Recipe
        Everything that changes the labels.
    mask : ndarray of bool, shape (M, N), optional
        True where the image is to be segmented.

    Returns
    -------
    result : Segmentation

    Raises
    ------
    ImageError
        If this image cannot be segmented as asked.
    ParameterError
        If the recipe asks for something that is not installed.

    Notes
    -----
    The same image, recipe and mask give the same labels, whatever the number of threads. The cost is that of
    the method, on the working grid, plus that of `segmentation.labels.upscale_labels`.

    Examples
    --------
    >>> import numpy as np
    >>> from segmentation import Recipe, Ward, segment
    >>> image = np.array([[10, 10, 10, 200, 200, 10]], dtype=np.uint8)
    >>> result = segment(image, Recipe(sigma=0, scale=1, method=Ward(n_regions=3)))
    >>> result.labels
    array([[1, 1, 1, 2, 2, 3]], dtype=uint16)
    >>> result.scores
    {'n_regions': 3.0, 'explained_variance': 1.0}
    """
    image, mask = check_image(image, mask)
    working = prepare(image, recipe, mask)
    graph = build_graph(working.image, working.mask, recipe.method)
    tree = grow_tree(working.image, working.mask, graph, recipe.method)
    working_labels, scores = cluster(working.image, working.mask, graph, recipe.method, recipe.seed, tree=tree)
    if isinstance(tree, RegionTree):
        labels, scores = cut_tree(measure_tree(tree, image, recipe, mask), recipe)
    else:
        labels = finish(working_labels, image, recipe, mask)
    return Segmentation(labels, working_labels, working.image, scores)


def prepare(image: Image, recipe: Recipe, mask: Bools | None = None) -> Working:
    """Check an image, smooth it, and bring it and its mask to the working grid.

    Parameters
    ----------
    image : ndarray, shape (M, N) or (M, N, C)
        Intensities, any scale.
    recipe : Recipe
        Its `sigma` and `scale` count here.
    mask : ndarray of bool, shape (M, N), optional
        True where the image is to be segmented.

    Returns
    -------
    working : Working

    Raises
    ------
    ImageError
        If the image or mask is not one (`segmentation.prepare.check_image`), or the mask is so thin that no
        working pixel has its centre in it.

    Examples
    --------
    >>> import numpy as np
    >>> prepare(np.zeros((10, 20), dtype=np.uint8), Recipe(scale=0.5)).image.shape
    (5, 10)
    """
    image, mask = check_image(image, mask)
    working = smooth_and_rescale(image, recipe.sigma, recipe.scale)
    if mask is None:
        return Working(working, None)
    working_mask = rescale_mask(mask, (working.shape[0], working.shape[1]))
    if not working_mask.any():
        raise ImageError(f"the mask leaves no pixel at scale {recipe.scale:g}; use a larger scale")
    return Working(working, working_mask)


def finish(working_labels: Labels, image: Image, recipe: Recipe, mask: Bools | None = None) -> Labels:
    """Bring labels back to the image's resolution and merge specks.

    Parameters
    ----------
    working_labels : ndarray of int, shape (m, n)
        Labels of the working grid.
    image : ndarray, shape (M, N) or (M, N, C)
        The image that was given to `prepare`.
    recipe : Recipe
        Its `refine` and `min_region_size` count here.
    mask : ndarray of bool, shape (M, N), optional
        The mask that was given to `prepare`.

    Returns
    -------
    labels : ndarray of uint16 or uint32, shape (M, N)
        1..K in raster order of first appearance, 0 exactly where masked.

    Examples
    --------
    >>> import numpy as np
    >>> finish(np.array([[1, 2]]), np.array([[0, 0, 0, 9]]), Recipe(refine="nearest"))
    array([[1, 1, 2, 2]], dtype=uint16)
    """
    image, mask = check_image(image, mask)
    shape = (image.shape[0], image.shape[1])
    labels = upscale_labels(working_labels, shape, image=image, mask=mask, refine=recipe.refine)
    if recipe.min_region_size > 1:
        return merge_small_regions(labels, image, recipe.min_region_size)
    return relabel_sequential(labels)
