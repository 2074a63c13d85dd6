"""Connected pieces of a label map, and their merging.

Neighbours are lists of links. Links 2i and 2i + 1 are one border seen from both sides; a link names the piece on the
other side, and the links before and after it in its piece's list. Whether two pieces touch is looked up in a hash
table of pairs with linear probing.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Integers, Ints, Labels
from segmentation.kernels.compiled import compiled

_NONE = -1
# 2**64 divided by the golden ratio: multiplied by it, pairs spread evenly (Knuth, volume 3, section 6.4).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Graph(NamedTuple):
    """Who touches whom."""

    first: Integers  # the first link of every piece
    degree: Integers  # number of neighbours of every piece
    across: Integers  # for every link, the piece on the other side,
    before: Integers  # the link before it in its list
    after: Integers  # and that after it
    pairs: Ints  # hash table of who touches whom: the smaller number * number of pieces + the larger, or 0


@compiled
def connected_pieces(labels: Labels) -> tuple[Integers, Ints, Ints]:
    """Find the 4-connected pieces of equal labels.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        0 belongs to no piece.

    Returns
    -------
    pieces : ndarray of int32, shape (M, N)
        From 1, in raster order of their first pixels; 0 where `labels` is.
    sizes : ndarray of int64, shape (number of pieces + 1,)
        Pixels of every piece; the first is that of label 0.
    label_of : ndarray of int64, shape of `sizes`
        Label of every piece.

    Notes
    -----
    O(MN) time: union-find, where the earlier piece becomes the root.
    """
    n_rows, n_columns = labels.shape
    pieces = np.empty((n_rows, n_columns), np.int32)
    parents = np.empty(labels.size + 1, np.int32)
    parents[0], count = 0, 1
    for row in range(n_rows):
        for column in range(n_columns):
            label = labels[row, column]
            like_left = column > 0 and labels[row, column - 1] == label
            like_above = row > 0 and labels[row - 1, column] == label
            if label == 0:
                pieces[row, column] = 0
            elif like_left:
                pieces[row, column] = pieces[row, column - 1]
                # If the one above on the left is alike too, the two are already one.
                if like_above and labels[row - 1, column - 1] != label:
                    _unite_roots(parents, pieces[row - 1, column], pieces[row, column])
            elif like_above:
                pieces[row, column] = pieces[row - 1, column]
            else:
                pieces[row, column] = parents[count] = count
                count += 1
    n_pieces = _number_roots(parents, count)
    sizes, label_of = np.zeros(n_pieces, np.int64), np.zeros(n_pieces, np.int64)
    for row in range(n_rows):
        start = 0
        for column in range(n_columns):
            pieces[row, column] = parents[pieces[row, column]]
            if column == n_columns - 1 or labels[row, column + 1] != labels[row, column]:
                sizes[pieces[row, column]] += column + 1 - start
                label_of[pieces[row, column]] = labels[row, column]
                start = column + 1
    return pieces, sizes, label_of


@compiled
def _unite_roots(parents: Integers, one: int, other: int) -> None:
    one, other = root(parents, one), root(parents, other)
    if one < other:
        parents[other] = one
    else:
        parents[one] = other


@compiled
def root(parents: Integers, piece: int) -> int:
    """Return the piece that one has become part of, and shorten the way for the next who asks."""
    while parents[piece] != piece:
        parents[piece] = parents[parents[piece]]
        piece = parents[piece]
    return piece


@compiled
def _number_roots(parents: Integers, count: int) -> int:
    """Replace parents by the numbers of their roots, which come before them; return how many numbers there are."""
    number = 0
    for piece in range(1, count):
        if parents[piece] == piece:
            number += 1
            parents[piece] = number
        else:
            parents[piece] = parents[parents[piece]]
    return number + 1


@compiled
def sum_pieces(pieces: Integers, image: NDArray[Any], n_pieces: int) -> Floats:
    """Add up the values of every piece, in raster order, shape (number of pieces + 1, C) for an (M, N, C) image."""
    sums = np.zeros((n_pieces, image.shape[2]))
    for row in range(pieces.shape[0]):
        for column in range(pieces.shape[1]):
            for channel in range(image.shape[2]):
                sums[pieces[row, column], channel] += image[row, column, channel]
    return sums


@compiled
def merge_pieces(pieces: Integers, sizes: Ints, sums: Floats, label_of: Ints, min_size: int) -> None:
    """Merge pieces smaller than `min_size` into the neighbours with the nearest mean, the smallest first.

    Parameters
    ----------
    pieces : ndarray of int32, shape (M, N)
    sizes, label_of : ndarray of int64
        From `connected_pieces`. Sizes are used up, labels become the final ones.
    sums : ndarray of float64
        From `sum_pieces`; used up.
    min_size : int
        Pieces without neighbours stay, whatever their size.

    Notes
    -----
    O(log) time for each merge and each border that it moves: the piece with fewer neighbours gives its own to the
    other, so a border is moved at most log times. Of equally small pieces, and of equally near neighbours, that with
    the smallest number is taken; a merged piece has the number of the part that had more neighbours.
    """
    n_pieces = len(sizes)
    graph = _touching(pieces, n_pieces)
    parents = np.arange(n_pieces).astype(np.int32)
    alike = np.empty(n_pieces, np.int64)
    heap = _small_pieces(sizes, min_size)
    count = len(heap)
    while count > 0:
        first = _take_first(heap, count)
        size, piece = first // n_pieces, first % n_pieces
        count -= 1
        if parents[piece] != piece or sizes[piece] != size or graph.degree[piece] == 0:
            continue
        into = _most_similar(graph, piece, sizes, sums)
        label = label_of[into]
        # Neighbours never have the same label, so only what `piece` brings along can be like `into`.
        n_alike = _alike_neighbours(graph, piece, into, label_of, alike)
        grown = _unite(graph, parents, piece, into, sizes, sums)
        for i in range(n_alike):
            grown = _unite(graph, parents, alike[i], grown, sizes, sums)
        label_of[grown] = label
        if sizes[grown] < min_size:
            _add(heap, count, sizes[grown] * n_pieces + grown)
            count += 1
    for piece in range(1, n_pieces):
        label_of[piece] = label_of[root(parents, piece)]


@compiled
def _small_pieces(sizes: Ints, min_size: int) -> Ints:
    """Make a heap of the small pieces, each as size * number of pieces + piece."""
    n_small = 0
    for piece in range(1, len(sizes)):
        if sizes[piece] < min_size:
            n_small += 1
    heap = np.empty(n_small, np.int64)
    n_small = 0
    for piece in range(1, len(sizes)):
        if sizes[piece] < min_size:
            heap[n_small] = sizes[piece] * len(sizes) + piece
            n_small += 1
    heap.sort()
    return heap


@compiled
def _most_similar(graph: Graph, piece: int, sizes: Ints, sums: Floats) -> int:
    least, best = np.inf, _NONE
    link = graph.first[piece]
    while link != _NONE:
        other = graph.across[link]
        contrast = 0.0
        for channel in range(sums.shape[1]):
            difference = sums[piece, channel] / sizes[piece] - sums[other, channel] / sizes[other]
            contrast += difference * difference
        if best == _NONE or contrast < least or (contrast == least and other < best):
            least, best = contrast, other
        link = graph.after[link]
    return best


@compiled
def _alike_neighbours(graph: Graph, piece: int, into: int, label_of: Ints, alike: Ints) -> int:
    """List the neighbours of a piece that have the label of `into`, without that; return how many there are."""
    count = 0
    link = graph.first[piece]
    while link != _NONE:
        other = graph.across[link]
        if other != into and label_of[other] == label_of[into]:
            alike[count] = other
            count += 1
        link = graph.after[link]
    alike[:count].sort()
    return count


@compiled
def _unite(graph: Graph, parents: Integers, one: int, other: int, sizes: Ints, sums: Floats) -> int:
    """Join two neighbours and return the joint piece: that with fewer neighbours gives its links to the other."""
    if graph.degree[one] > graph.degree[other]:
        one, other = other, one
    parents[one] = other
    sizes[other] += sizes[one]
    for channel in range(sums.shape[1]):
        sums[other, channel] += sums[one, channel]
    link = graph.first[one]
    while link != _NONE:
        following = graph.after[link]
        neighbour = graph.across[link]
        _remove_pair(graph, one, neighbour)
        if neighbour == other or not _add_pair(graph, other, neighbour):
            _remove_link(graph, neighbour, link ^ 1)
        else:
            graph.across[link ^ 1] = other
            _put_link(graph, other, link)
        link = following
    graph.first[one], graph.degree[one] = _NONE, 0
    return other


@compiled
def _touching(pieces: Integers, n_pieces: int) -> Graph:
    """Make the graph of the pieces that share a side."""
    n_sides = 0
    for row in range(pieces.shape[0]):
        for column in range(pieces.shape[1]):
            n_sides += _differs(pieces, row, column, row, column - 1) + _differs(pieces, row, column, row - 1, column)
    n_pairs = 8
    while 3 * n_pairs < 4 * n_sides:
        n_pairs *= 2
    graph = Graph(
        np.full(n_pieces, _NONE, np.int32),
        np.zeros(n_pieces, np.int32),
        np.empty(2 * n_sides, np.int32),
        np.empty(2 * n_sides, np.int32),
        np.empty(2 * n_sides, np.int32),
        np.zeros(n_pairs, np.int64),
    )
    n_links = 0
    for row in range(pieces.shape[0]):
        for column in range(pieces.shape[1]):
            for other_row, other_column in ((row, column - 1), (row - 1, column)):
                if _differs(pieces, row, column, other_row, other_column):
                    one, other = pieces[row, column], pieces[other_row, other_column]
                    if _add_pair(graph, one, other):
                        graph.across[n_links], graph.across[n_links + 1] = other, one
                        _put_link(graph, one, n_links)
                        _put_link(graph, other, n_links + 1)
                        n_links += 2
    return graph


@compiled
def _differs(pieces: Integers, row: int, column: int, other_row: int, other_column: int) -> bool:
    """Tell whether two pixels, the other above or to the left, are there and of different pieces."""
    if other_row < 0 or other_column < 0:
        return False
    one, other = pieces[row, column], pieces[other_row, other_column]
    return bool(one != other and one != 0 and other != 0)


@compiled
def _put_link(graph: Graph, piece: int, link: int) -> None:
    """Put a link before the others of a piece."""
    following = graph.first[piece]
    graph.before[link], graph.after[link] = _NONE, following
    if following != _NONE:
        graph.before[following] = link
    graph.first[piece] = link
    graph.degree[piece] += 1


@compiled
def _remove_link(graph: Graph, piece: int, link: int) -> None:
    before, after = graph.before[link], graph.after[link]
    if before == _NONE:
        graph.first[piece] = after
    else:
        graph.after[before] = after
    if after != _NONE:
        graph.before[after] = before
    graph.degree[piece] -= 1


@compiled
def _pair(graph: Graph, one: int, other: int) -> int:
    return min(one, other) * len(graph.first) + max(one, other)


@compiled
def _home(graph: Graph, pair: int) -> np.int64:
    """Return where a pair is looked for first."""
    return np.int64((np.uint64(pair) * _GOLDEN) >> np.uint64(32)) & (len(graph.pairs) - 1)


@compiled
def _add_pair(graph: Graph, one: int, other: int) -> bool:
    """Note that two pieces touch; return False if that was known."""
    pair = _pair(graph, one, other)
    place = _home(graph, pair)
    while graph.pairs[place] != 0:
        if graph.pairs[place] == pair:
            return False
        place = (place + 1) & (len(graph.pairs) - 1)
    graph.pairs[place] = pair
    return True


@compiled
def _remove_pair(graph: Graph, one: int, other: int) -> None:
    """Forget a pair, and close the gap: what was put behind it because of it moves up (Knuth, algorithm 6.4R)."""
    pairs, last = graph.pairs, len(graph.pairs) - 1
    pair = _pair(graph, one, other)
    gap = _home(graph, pair)
    while pairs[gap] != pair:
        gap = (gap + 1) & last
    place = (gap + 1) & last
    while pairs[place] != 0:
        if ((place - _home(graph, pairs[place])) & last) >= ((place - gap) & last):
            pairs[gap] = pairs[place]
            gap = place
        place = (place + 1) & last
    pairs[gap] = 0


@compiled
def _take_first(heap: Ints, count: int) -> int:
    """Remove the smallest number of a heap of `count`; the caller counts it off."""
    first, moved, place = heap[0], heap[count - 1], 0
    while 2 * place + 1 < count - 1:
        child = 2 * place + 1
        if child + 1 < count - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= moved:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved
    return int(first)


@compiled
def _add(heap: Ints, count: int, number: int) -> None:
    """Add a number to a heap of `count`; the caller counts it."""
    place = count
    while place > 0 and heap[(place - 1) // 2] > number:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = number
