"""A watershed of an image's gradient in a band of pixels, and nowhere else.

What is flooded lies in *places*: the pixels of the band and of its rim, row after row, with an empty place before and
after every stretch of them. So the left and right neighbours of place i are the places i - 1 and i + 1, and everything
about a place stays in one line of the cache.

The flood [1]_ takes the lowest pixel first, and of equally low ones that which was reached first, as scikit-image does.

References
----------
.. [1] Meyer, "Color image segmentation", International Conference on Image Processing and its Applications, 1992.
"""

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from segmentation.arrays import Bools, Bytes8, Floats, Integers, Ints, Labels
from segmentation.kernels.compiled import compiled

Words = NDArray[np.uint64]
Tree = tuple[Words, Words, Words]

#: What a pixel is to the flood: not touched, to be decided, or where the flood comes from.
OUTSIDE, OPEN, SOURCE = 0, 1, 2

#: Reach of the filters; a constant, so that the loops over it are unrolled.
RADIUS = 4

# Columns of the table of places. Label 0 waits for the flood; an empty place has -1.
_UP, _DOWN, _RANK, _LABEL = 0, 1, 2, 3
# Columns of the table of slots: the place in the slot, and the length of the queue that begins there.
_PLACE, _LENGTH = 0, 1

_DIGIT_BITS = np.uint64(11)
_DIGIT = np.uint64(2**11 - 1)
_ONE = np.uint64(1)


@compiled
def spread_blocks(
    labels: Labels, border: Bools, rows: Ints, columns: Ints, mask: Bools, spread: Labels, state: Bytes8
) -> None:
    """Give every pixel the label of its block, or 0 and the state `OPEN` where it is to be decided.

    Parameters
    ----------
    labels : ndarray of int, shape (m, n)
        0 where masked.
    border : ndarray of bool, shape (m, n)
        The blocks to be decided.
    rows, columns : ndarray of int64, shape (M,) and (N,)
        The block of every row and column.
    mask : ndarray of bool, shape (M, N) or (0, 0)
        True where pixels have labels; empty if they all do. Inside, pixels of masked blocks are decided too.
    spread : ndarray of int, shape (M, N)
        Is written.
    state : ndarray of uint8, shape (M*N,)
        Is written where it is `OPEN`, and must be `OUTSIDE` before.
    """
    n_rows, n_columns = spread.shape
    for row in range(n_rows):
        here = state[row * n_columns : (row + 1) * n_columns]
        if mask.size == 0 and row > 0 and rows[row] == rows[row - 1]:
            spread[row] = spread[row - 1]
            here[:] = state[(row - 1) * n_columns : row * n_columns]
            continue
        for column in range(n_columns):
            label = labels[rows[row], columns[column]]
            is_open = border[rows[row], columns[column]]
            if mask.size > 0:
                is_open = mask[row, column] and (is_open or label == 0)
            if is_open:
                here[column] = OPEN
            if is_open or (mask.size > 0 and not mask[row, column]):
                spread[row, column] = 0
            else:
                spread[row, column] = label


@compiled
def find_places(state: Bytes8, labels: Labels, n_columns: int) -> Ints:
    """Make the labelled pixels beside open ones sources; list all of them as places.

    Parameters
    ----------
    state : ndarray of uint8, shape (P,) rounded up to a multiple of 8
        `OPEN` or `OUTSIDE`, the latter beyond the P pixels; `SOURCE` is written.
    labels : ndarray of int, shape (P,)
        Labels of the pixels, row after row; 0 where masked or open.
    n_columns : int
        Length of a row.

    Returns
    -------
    pixels : ndarray of int64
        Index of the pixel at every place, -1 for an empty place.
    """
    # Most pixels are far from the band: look at eight of them at a time.
    words = state.view(np.uint64)
    row_end = 0
    for word in range(len(words)):
        if words[word] != 0:
            for pixel in range(8 * word, 8 * word + 8):
                if state[pixel] == OPEN:
                    if pixel >= row_end:
                        row_end = (pixel // n_columns + 1) * n_columns
                    _mark_sources(state, labels, pixel, pixel + n_columns - row_end, n_columns)
    pixels = np.full(_walk_places(state, words, n_columns, np.empty(0, np.int64)), -1)
    _walk_places(state, words, n_columns, pixels)
    return pixels


@compiled
def _mark_sources(state: Bytes8, labels: Labels, pixel: int, column: int, n_columns: int) -> None:
    for step, is_there in (
        (-n_columns, pixel >= n_columns),
        (-1, column > 0),
        (1, column < n_columns - 1),
        (n_columns, pixel < len(labels) - n_columns),
    ):
        if is_there and state[pixel + step] == OUTSIDE and labels[pixel + step] != 0:
            state[pixel + step] = SOURCE


@compiled
def _walk_places(state: Bytes8, words: Words, n_columns: int, pixels: Ints) -> int:
    """Write the pixels of all places, if there is room for them; return how many there are."""
    count, after, row_end = 0, -1, 0
    for word in range(len(words)):
        if words[word] != 0:
            for pixel in range(8 * word, 8 * word + 8):
                if state[pixel] != OUTSIDE:
                    if pixel >= row_end:
                        row_end = (pixel // n_columns + 1) * n_columns
                        after = -1
                    if pixel != after:
                        count += 1
                    if len(pixels) > 0:
                        pixels[count] = pixel
                    count += 1
                    after = pixel + 1
    return count + 1


@compiled
def gradient_magnitude(image: NDArray[Any], pixels: Ints, smoothing: Floats, slope: Floats) -> Floats:
    """Compute how steep an image is at places.

    Parameters
    ----------
    image : ndarray, shape (M, N, C)
        Channels are averaged.
    pixels : ndarray of int64
        From `find_places`.
    smoothing, slope : ndarray of float64, shape (RADIUS + 1,)
        Right halves of a Gaussian, which is even, and of its derivative, which is odd; the first is the middle.

    Returns
    -------
    magnitude : ndarray of float64, shape of `pixels`
        0 at empty places.

    Notes
    -----
    O(MN) time to average the channels, O(RADIUS) for each place. The image is mirrored at its edges. Sums are done
    in the order of ``scipy.ndimage.gaussian_gradient_magnitude``: the results are equal.
    """
    n_rows, n_columns = image.shape[0], image.shape[1]
    magnitude = np.zeros(len(pixels))
    # A window of rows moves down: row r of the image is line r % len(lines), with mirrored pixels at both ends.
    lines = np.empty((2 * RADIUS + 1, n_columns + 2 * RADIUS))
    smoothed, steep = np.empty(n_columns + 2 * RADIUS), np.empty(n_columns + 2 * RADIUS)
    loaded, stop = 0, 0
    while stop < len(pixels):
        first = stop
        while stop < len(pixels) and pixels[stop] >= 0:
            stop += 1
        if stop > first:
            row, column = pixels[first] // n_columns, pixels[first] % n_columns
            for other in range(max(loaded, row - RADIUS), min(row + RADIUS + 1, n_rows)):
                _average_channels(image[other], lines[other % len(lines)])
                loaded = other + 1
            end = column + stop - first + 2 * RADIUS
            _filter_columns(lines, row, n_rows, column, end, smoothing, slope, smoothed, steep)
            _filter_row(smoothed[column:end], steep[column:end], smoothing, slope, magnitude[first:stop])
        stop += 1
    return magnitude


@compiled
def _average_channels(pixels: NDArray[Any], line: Floats) -> None:
    n_columns, n_channels = pixels.shape
    if n_channels == 3:  # the same, several at a time
        for column in range(n_columns):
            red, green, blue = pixels[column, 0], pixels[column, 1], pixels[column, 2]
            line[RADIUS + column] = (np.float64(red) + np.float64(green) + np.float64(blue)) / 3
    else:
        for column in range(n_columns):
            total = 0.0
            for channel in range(n_channels):
                total += pixels[column, channel]
            line[RADIUS + column] = total / n_channels
    for step in range(RADIUS):
        line[RADIUS - 1 - step] = line[RADIUS + _mirrored(-1 - step, n_columns)]
        line[RADIUS + n_columns + step] = line[RADIUS + _mirrored(n_columns + step, n_columns)]


@compiled
def _mirrored(index: int, n: int) -> int:
    """Return the index that stands for one beyond the ends: d c b a | a b c d | d c b a."""
    index %= 2 * n
    return min(index, 2 * n - 1 - index)


@compiled
def _filter_columns(
    lines: Floats,
    row: int,
    n_rows: int,
    first: int,
    stop: int,
    smoothing: Floats,
    slope: Floats,
    smoothed: Floats,
    steep: Floats,
) -> None:
    """Smooth a stretch of a row across the rows, and take its slope across them."""
    middle = lines[row % len(lines)]
    for place in range(first, stop):
        smoothed[place] = middle[place] * smoothing[0]
        steep[place] = 0.0
    for step in range(RADIUS, 0, -1):
        above = lines[_mirrored(row - step, n_rows) % len(lines)]
        below = lines[_mirrored(row + step, n_rows) % len(lines)]
        even, odd = smoothing[step], slope[step]
        for place in range(first, stop):
            smoothed[place] += (above[place] + below[place]) * even
            steep[place] += (below[place] - above[place]) * odd


@compiled
def _filter_row(smoothed: Floats, steep: Floats, smoothing: Floats, slope: Floats, magnitude: Floats) -> None:
    """Complete the two derivatives along the row, and join them."""
    for place in range(len(magnitude)):
        middle = place + RADIUS
        down, right = steep[middle] * smoothing[0], 0.0
        for step in range(RADIUS, 0, -1):
            down += (steep[middle - step] + steep[middle + step]) * smoothing[step]
            right += (smoothed[middle + step] - smoothed[middle - step]) * slope[step]
        magnitude[place] = np.sqrt(down * down + right * right)


@compiled
def flood(labels: Labels, state: Bytes8, pixels: Ints, heights: Floats, n_columns: int) -> None:
    """Give every open pixel that can be reached the label of the source that reaches it first.

    Parameters
    ----------
    labels : ndarray of int, shape (P,)
        Labels of the pixels, row after row; those of open pixels are written.
    state : ndarray of uint8, shape (P,) or longer
        `OPEN` or `SOURCE` at places.
    pixels : ndarray of int64
        From `find_places`.
    heights : ndarray of float64, shape of `pixels`
        At least 0. Lower pixels are flooded first, of equal ones those that were reached first, sources in raster
        order before all others.
    n_columns : int
        Length of a row.

    Notes
    -----
    O(B) time for B places. This is Meyer's hierarchical queue, one queue for every height: the ranks of the heights
    give each pixel its slot beforehand, and a tree of bits tells the first slot that is in use.
    """
    places = _link_places(labels, state, pixels, _rank(heights), n_columns)
    queues = np.zeros((len(places), 2), np.int32)
    tree = _empty_tree(len(places))
    count = 0
    for place in range(len(places)):
        if places[place, _LABEL] > 0:
            _enter(places, place, queues, tree)
            count += 1
    while count > 0:
        place = int(queues[_take_first(tree), _PLACE])
        count -= 1
        for step in range(4):
            other = _neighbour(places, place, step)
            if places[other, _LABEL] == 0:
                places[other, _LABEL] = places[place, _LABEL]
                _enter(places, other, queues, tree)
                count += 1
    for place in range(len(places)):
        if pixels[place] >= 0 and state[pixels[place]] == OPEN:
            labels[pixels[place]] = places[place, _LABEL]


@compiled
def _link_places(labels: Labels, state: Bytes8, pixels: Ints, ranks: Integers, n_columns: int) -> Integers:
    """Make the table of places: the places above and below (0, which is empty, if there are none), rank and label."""
    places = np.zeros((len(pixels), 4), np.int32)
    above = 0
    for place in range(len(pixels)):
        pixel = pixels[place]
        places[place, _RANK] = ranks[place]
        places[place, _LABEL] = -1
        if pixel >= 0:
            places[place, _LABEL] = labels[pixel] if state[pixel] == SOURCE else 0
            while pixels[above] < pixel - n_columns:
                above += 1
            if pixels[above] == pixel - n_columns:
                places[place, _UP], places[above, _DOWN] = above, place
    return places


@compiled
def _rank(heights: Floats) -> Integers:
    """Return for each height how many are lower: a radix sort of their bits, which are in order for positive floats."""
    keys, items = heights.view(np.uint64).copy(), np.arange(len(heights)).astype(np.int32)
    spare_keys, spare_items = np.empty_like(keys), np.empty_like(items)
    for digit in range(6):
        shift = np.uint64(digit) * _DIGIT_BITS
        slots = np.zeros(2048, np.int64)
        for key in keys:
            slots[(key >> shift) & _DIGIT] += 1
        slots[1:] = np.cumsum(slots)[:-1]
        slots[0] = 0
        for i in range(len(keys)):
            value = (keys[i] >> shift) & _DIGIT
            spare_keys[slots[value]], spare_items[slots[value]] = keys[i], items[i]
            slots[value] += 1
        keys, spare_keys, items, spare_items = spare_keys, keys, spare_items, items
    ranks = np.empty(len(keys), np.int32)
    rank = 0
    for i in range(len(keys)):
        if i > 0 and keys[i] != keys[i - 1]:
            rank = i
        ranks[items[i]] = rank
    return ranks


@compiled
def _neighbour(places: Integers, place: int, step: int) -> int:
    """Return the place above, left, right or below."""
    if step == 0:
        return int(places[place, _UP])
    if step == 1:
        return place - 1
    if step == 2:
        return place + 1
    return int(places[place, _DOWN])


@compiled
def _enter(places: Integers, place: int, queues: Integers, tree: Tree) -> None:
    """Put a place at the end of the queue of its height."""
    rank = np.int64(places[place, _RANK])
    slot = rank + queues[rank, _LENGTH]
    queues[rank, _LENGTH] += 1
    queues[slot, _PLACE] = place
    _add(tree, slot)


@compiled
def _empty_tree(n: int) -> Tree:
    """Return a set of numbers below `n`: a bit for each, a bit for each word of bits that is not 0, and once more."""
    return (
        np.zeros((n >> 6) + 1, np.uint64),
        np.zeros((n >> 12) + 1, np.uint64),
        np.zeros((n >> 18) + 1, np.uint64),
    )


@compiled
def _add(tree: Tree, number: int) -> None:
    leaves, middle, top = tree
    leaves[number >> 6] |= _ONE << np.uint64(number & 63)
    middle[number >> 12] |= _ONE << np.uint64((number >> 6) & 63)
    top[number >> 18] |= _ONE << np.uint64((number >> 12) & 63)


@compiled
def _take_first(tree: Tree) -> int:
    """Remove the smallest number of a set that is not empty, and return it."""
    leaves, middle, top = tree
    root = 0
    while top[root] == 0:
        root += 1
    branch = (root << 6) + _lowest_bit(top[root])
    leaf = (branch << 6) + _lowest_bit(middle[branch])
    number: int = (leaf << 6) + _lowest_bit(leaves[leaf])
    # A word and itself less one: without its lowest bit.
    leaves[leaf] &= leaves[leaf] - _ONE
    if leaves[leaf] == 0:
        middle[branch] &= middle[branch] - _ONE
        if middle[branch] == 0:
            top[root] &= top[root] - _ONE
    return number


def _count_trailing_zeros(context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.int64(types.uint64), generate


#: Position of the lowest bit of a word that is not 0: one instruction, for which NumPy and numba have no name.
_lowest_bit = intrinsic(_count_trailing_zeros)
