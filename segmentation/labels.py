"""Label maps: number them, compare them, bring them back to the image's resolution, remove specks."""

import numpy as np

from segmentation.arrays import Bools, Bytes8, Floats, Image, Labels, NodeLabels, read_only
from segmentation.errors import ImageError, ParameterError
from segmentation.prepare import centres

_STEPS = np.arange(5)
_HALF = np.exp(-0.5 * _STEPS**2) / np.exp(-0.5 * np.arange(-4, 5) ** 2).sum()
#: Right halves of a Gaussian of one pixel, cut off at four (the kernel's RADIUS) as by SciPy, and of its derivative.
_GAUSSIAN = _HALF, _HALF * _STEPS


def relabel_sequential(labels: NodeLabels) -> Labels:
    """Renumber labels 1..K in the order in which they first appear; 0 stays 0.

    Parameters
    ----------
    labels : ndarray of int, any shape
        0 where masked.

    Returns
    -------
    relabelled : ndarray of uint16, or of uint32 if K > 65535, same shape

    Notes
    -----
    O(P) time where neighbours mostly share a label, as in images.

    Examples
    --------
    >>> relabel_sequential(np.array([[0, 7, 7], [3, 3, 7]]))
    array([[0, 1, 1],
           [2, 2, 1]], dtype=uint16)
    """
    flat = labels.ravel()
    if not flat.size:
        return np.zeros(labels.shape, dtype=np.uint16)
    # A label first appears at the start of a run, and there are far fewer runs than pixels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    found = flat[starts].astype(np.int64)
    if found.min() < 0 or found.max() > flat.size:  # a table of first appearances would be too long
        found = np.where(found == 0, 0, np.unique(found, return_inverse=True)[1] + 1)
    first = np.full(int(found.max()) + 1, flat.size)
    np.minimum.at(first, found, starts)
    first[0] = -1
    order = np.argsort(first, kind="stable")
    number = np.empty(len(first), dtype=np.int64)
    number[order] = np.arange(len(first))
    n_labels = np.count_nonzero(first < flat.size) - 1
    dtype = np.uint16 if n_labels <= np.iinfo(np.uint16).max else np.uint32
    lengths = np.diff(np.append(starts, flat.size))
    return np.repeat(number.astype(dtype)[found], lengths).reshape(labels.shape)


def same_partition(a: NodeLabels, b: NodeLabels) -> bool:
    """Tell whether two label arrays group the same elements together, whatever the numbers.

    Parameters
    ----------
    a, b : ndarray of int
        0 is a label like any other.

    Returns
    -------
    same : bool
        False too if the shapes differ.

    Examples
    --------
    >>> same_partition(np.array([1, 1, 2]), np.array([5, 5, 0]))
    True
    >>> same_partition(np.array([1, 1, 2]), np.array([5, 0, 0]))
    False
    """
    if a.shape != b.shape:
        return False
    _, first = np.unique(a, return_inverse=True)
    _, second = np.unique(b, return_inverse=True)
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    n_first, n_second = (len(np.unique(values)) for values in (first, second))
    return bool(pairs.shape[1] == n_first == n_second)


def upscale_labels(
    labels: Labels,
    shape: tuple[int, int],
    *,
    image: Image | None = None,
    mask: Bools | None = None,
    refine: str = "watershed",
) -> Labels:
    """Bring the labels of the working grid back to the resolution of the image.

    Parameters
    ----------
    labels : ndarray of int, shape (m, n)
        Labels of the working grid, 0 where masked.
    shape : tuple of int
        Shape (M, N) of the image, m <= M and n <= N.
    image : ndarray, shape (M, N) or (M, N, C), optional
        The image; "watershed" needs it. Must be finite.
    mask : ndarray of bool, shape (M, N), optional
        True where the image is segmented; `labels` is then 0 where `prepare.rescale_mask` of it is False.
    refine : {"watershed", "nearest"}
        Borders follow the edges of the image, or stay blocks.

    Returns
    -------
    upscaled : ndarray of int, shape (M, N)
        Same dtype; 0 exactly where `mask` is False. Every label of `labels` is there.

    Raises
    ------
    ParameterError
        If `refine` is unknown, or "watershed" is asked for without an image.

    Notes
    -----
    O(MN) time with "nearest"; "watershed" adds the gradient and the flood of the band, O(B) for B pixels.

    With "watershed" [1]_ only a band is decided anew: the blocks of those working pixels that touch another
    label. It is flooded from the rest along the gradient of the image. Pieces so thin that they have no
    interior keep all their pixels, or they would be lost.

    References
    ----------
    .. [1] Meyer, "Color image segmentation", International Conference on Image Processing and its
    Applications,
       1992.

    Examples
    --------
    >>> labels = np.array([[1, 1, 2, 2]])
    >>> upscale_labels(labels, (1, 8), refine="nearest")
    array([[1, 1, 1, 1, 2, 2, 2, 2]])
    >>> image = np.array([[0, 0, 0, 9, 9, 9, 9, 9]])
    >>> upscale_labels(labels, (1, 8), image=image)
    array([[1, 1, 1, 2, 2, 2, 2, 2]])
    """
    if refine not in ("watershed", "nearest"):
        raise ParameterError(f"unknown refine {refine!r}; choose watershed or nearest")
    if refine == "watershed" and labels.shape != shape:
        if image is None:
            raise ParameterError("refine 'watershed' needs the image; give it, or choose 'nearest'")
        border = _border(labels)
    else:
        border = np.zeros(labels.shape, np.bool_)
    upscaled, state = _spread(labels, border, shape, mask)
    if refine == "watershed" and labels.shape != shape and state.any():
        _flood(upscaled, state, np.asarray(image))
    return _fill_from_nearest(upscaled, mask)


def _spread(labels: Labels, border: Bools, shape: tuple[int, int], mask: Bools | None) -> tuple[Labels, Bytes8]:
    """Give each block the label of its working pixel; leave open what is to be decided, and say where that is."""
    from segmentation.kernels.watershed import spread_blocks

    spread = np.empty(shape, labels.dtype.newbyteorder("="))
    state = np.zeros(-(-spread.size // 8) * 8, np.uint8)
    inside = np.zeros((0, 0), np.bool_) if mask is None else mask
    rows, columns = centres(shape[0], labels.shape[0]), centres(shape[1], labels.shape[1])
    spread_blocks(read_only(labels), border, rows, columns, read_only(inside), spread, state)
    return spread, state


def _border(labels: Labels) -> Bools:
    """Find the pixels that touch another label, except those of pieces that have no other pixels."""
    from segmentation.kernels.pieces import connected_pieces

    border = np.zeros(labels.shape, dtype=bool)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differs = (labels[one] != labels[other]) & (labels[one] != 0) & (labels[other] != 0)
        border[one] |= differs
        border[other] |= differs
    pieces, sizes, _ = connected_pieces(read_only(labels))
    has_interior = np.zeros(len(sizes), dtype=bool)
    has_interior[pieces[~border]] = True
    border &= has_interior[pieces]
    return border


def _flood(labels: Labels, state: Bytes8, image: Image) -> None:
    """Decide the open pixels, in place, by a watershed of the image's gradient."""
    from segmentation.kernels.watershed import find_places, flood, gradient_magnitude

    flat = labels.reshape(-1)
    pixels = find_places(state, flat, labels.shape[1])
    heights = gradient_magnitude(_channels(image), pixels, *_GAUSSIAN)
    flood(flat, state, pixels, heights, labels.shape[1])


def _fill_from_nearest(labels: Labels, mask: Bools | None) -> Labels:
    """Give unlabelled pixels of the mask the label of the nearest labelled one."""
    if mask is None or not (missing := mask & (labels == 0)).any():
        return labels
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    filled = labels.copy()
    filled[missing] = labels[tuple(axis[missing] for axis in nearest)]
    return filled


def merge_small_regions(labels: Labels, image: Image, min_size: int) -> Labels:
    """Give every speck the label of the neighbour it resembles most.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        0 where masked.
    image : ndarray, shape (M, N) or (M, N, C)
        The image that the regions are compared in. Must be finite.
    min_size : int
        4-connected pieces of fewer pixels are merged, the smallest first; 0 and 1 change nothing.

    Returns
    -------
    merged : ndarray of uint16 or uint32, shape (M, N)
        1..K in raster order of first appearance. A piece without neighbours stays, whatever its size.

    Raises
    ------
    ImageError
        If the shapes differ.

    Notes
    -----
    O(P) for finding the pieces and O(log) for each merge. Pieces are compared by their mean values, a piece
    that grew by its new mean; of equally good neighbours the one with the lowest number is taken, see
    `segmentation.kernels.pieces.merge_pieces`.

    Examples
    --------
    >>> labels = np.array([[1, 1, 2, 3, 3]])
    >>> merge_small_regions(labels, np.array([[0, 0, 6, 9, 9]]), min_size=2)
    array([[1, 1, 2, 2, 2]], dtype=uint16)
    """
    if labels.shape != image.shape[:2]:
        raise ImageError(f"the labels have shape {labels.shape}, the image {image.shape[:2]}; they must be equal")
    if min_size <= 1:
        return relabel_sequential(labels)
    from segmentation.kernels.pieces import connected_pieces, merge_pieces, sum_pieces

    pieces, sizes, label_of = connected_pieces(read_only(labels))
    if sizes[1:].min(initial=min_size) >= min_size:
        return relabel_sequential(labels)
    sums = sum_pieces(pieces, _channels(image), len(sizes))
    merge_pieces(pieces, sizes, sums, label_of, min_size)
    return relabel_sequential(label_of)[pieces]


def _channels(image: Image) -> Image:
    """Return an image as compiled loops take it, shape (M, N, C), in one of four types; floats hold the others."""
    common = image.dtype in (np.uint8, np.uint16, np.float32, np.float64)
    return read_only((image if common else image.astype(np.float64)).reshape(*image.shape[:2], -1))


def region_means(features: Floats, labels: NodeLabels) -> Floats:
    """Return the mean of each region's features.

    Parameters
    ----------
    features : ndarray of float64, shape (P, C)
        Values of the pixels.
    labels : ndarray of int, shape (P,)
        Region of each pixel, in 0..K-1.

    Returns
    -------
    means : ndarray of float64, shape (K, C)
        0 for a number that no pixel has.

    Examples
    --------
    >>> region_means(np.array([[1.0], [3.0], [7.0]]), np.array([0, 0, 1]))
    array([[2.],
           [7.]])
    """
    sizes = np.maximum(np.bincount(labels), 1)
    sums = np.stack([np.bincount(labels, weights=channel) for channel in features.T], axis=1)
    means: Floats = sums / sizes[:, np.newaxis]
    return means
