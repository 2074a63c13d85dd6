"""Merging in a compiled loop, against the same in plain Python."""

import heapq

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label

from segmentation import merge_small_regions, relabel_sequential
from segmentation.arrays import read_only
from segmentation.kernels.pieces import connected_pieces

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)


@given(arrays(np.uint16, SHAPES, elements=st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_pieces_are_those_of_scikit_image(labels):
    pieces, sizes, label_of = connected_pieces(read_only(labels))
    np.testing.assert_array_equal(pieces, label(labels, connectivity=1, background=0))
    np.testing.assert_array_equal(sizes, np.bincount(pieces.ravel(), minlength=len(sizes)))
    np.testing.assert_array_equal(label_of[pieces], labels)


def test_pieces_that_meet_late_are_one():
    spiral = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    pieces, sizes, _ = connected_pieces(read_only(spiral))
    np.testing.assert_array_equal(pieces, spiral)
    assert sizes.tolist() == [8, 17]


class PlainPieces:
    """Pieces as sets of neighbours."""

    def __init__(self, pieces, image, label_of):
        n = len(label_of)
        flat = pieces.ravel()
        self.label_of = label_of.tolist()
        self.sizes = np.bincount(flat, minlength=n).tolist()
        channels = image.reshape(flat.size, -1).astype(float).T
        self.sums = np.stack([np.bincount(flat, weights=channel, minlength=n) for channel in channels], axis=1).tolist()
        self.parent = list(range(n))
        self.neighbours = [set() for _ in range(n)]
        for one, other in ((pieces[:, 1:], pieces[:, :-1]), (pieces[1:], pieces[:-1])):
            for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
                if a != b and a and b:
                    self.neighbours[a].add(b)
                    self.neighbours[b].add(a)

    def merge_below(self, min_size):
        queue = [(size, piece) for piece, size in enumerate(self.sizes) if piece and size < min_size]
        heapq.heapify(queue)
        while queue:
            size, piece = heapq.heappop(queue)
            if self.parent[piece] != piece or self.sizes[piece] != size or not self.neighbours[piece]:
                continue
            into = min(self.neighbours[piece], key=lambda other: (self.contrast(piece, other), other))
            label_of_both = self.label_of[into]
            grown = self.unite(piece, into)
            self.label_of[grown] = label_of_both
            while alike := [other for other in self.neighbours[grown] if self.label_of[other] == label_of_both]:
                grown = self.unite(min(alike), grown)
            if self.sizes[grown] < min_size:
                heapq.heappush(queue, (self.sizes[grown], grown))

    def final_label(self, piece):
        while self.parent[piece] != piece:
            piece = self.parent[piece]
        return self.label_of[piece]

    def contrast(self, a, b):
        differences = [p / self.sizes[a] - q / self.sizes[b] for p, q in zip(self.sums[a], self.sums[b], strict=True)]
        return sum(difference * difference for difference in differences)

    def unite(self, a, b):
        if len(self.neighbours[a]) > len(self.neighbours[b]):
            a, b = b, a
        self.parent[a] = b
        self.sizes[b] += self.sizes[a]
        self.sums[b] = [p + q for p, q in zip(self.sums[a], self.sums[b], strict=True)]
        for other in self.neighbours[a]:
            self.neighbours[other].discard(a)
            if other != b:
                self.neighbours[other].add(b)
                self.neighbours[b].add(other)
        self.neighbours[a] = set()
        return b


def merged_plainly(labels, image, min_size):
    pieces = label(labels, connectivity=1, background=0)
    label_of = np.zeros(pieces.max() + 1, dtype=np.int64)
    label_of[pieces.ravel()] = labels.ravel()
    plain = PlainPieces(pieces, image, label_of)
    plain.merge_below(min_size)
    return relabel_sequential(np.array([plain.final_label(piece) for piece in range(len(label_of))])[pieces])


@st.composite
def mergings(draw):
    labels = draw(arrays(np.int64, SHAPES, elements=st.integers(0, 4)))
    channels = draw(st.sampled_from([(), (2,), (3,)]))
    # Few grey levels make ties.
    levels = draw(st.sampled_from([1, 3, 256]))
    image = np.random.default_rng(draw(st.integers(0, 999))).integers(0, levels, (*labels.shape, *channels))
    return labels, image.astype(draw(st.sampled_from([np.uint8, np.float64]))), draw(st.integers(2, 12))


@given(mergings())
@settings(max_examples=300, deadline=None)
def test_merging_is_that_of_plain_python(case):
    np.testing.assert_array_equal(merge_small_regions(*case), merged_plainly(*case))


def test_merging_noise_is_that_of_plain_python():
    # 20,000 pieces: lists of neighbours grow long, and the table of pairs closes many gaps.
    rng = np.random.default_rng(0)
    labels, image = rng.integers(1, 6, (200, 180)), rng.integers(0, 256, (200, 180, 3), np.uint8)
    np.testing.assert_array_equal(merge_small_regions(labels, image, 30), merged_plainly(labels, image, 30))


def test_a_region_keeps_its_label_whatever_it_takes_up():
    # The speck 2 has more neighbours than the left piece of region 1, which it joins.
    labels = np.array([[0, 0, 3, 3, 3], [1, 1, 2, 4, 1], [0, 0, 5, 5, 1]])
    image = np.array([[90] * 5, [10, 10, 11, 50, 10], [70, 70, 70, 70, 10]])
    merged = merge_small_regions(labels, image, 2)
    assert merged[1, 0] == merged[1, 4] == merged[1, 2]
