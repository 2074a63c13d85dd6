import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import local_minima, reconstruction

from segmentation.arrays import read_only
from segmentation.kernels.basins import OUTSIDE, flood_basins, join_shallow, minima
from segmentation.kernels.borders import border_sides


def flooded(heights, depth=0, area=0):
    heights = heights.astype(np.int32)
    labels = minima(heights)
    flood_basins(heights, labels)
    n_basins = labels.max()
    roots, joins, nodes = join_shallow(heights, read_only(labels), border_sides(read_only(labels)), depth, area)
    assert len(np.unique(roots[1:])) == n_basins - len(joins)
    assert sorted([*joins.ravel(), *nodes[np.unique(roots[1:])]]) == list(range(n_basins + len(joins)))
    return roots[labels]


def flooded_by_a_heap(heights, markers):
    """Flood as Meyer describes it: of all pixels reached, the lowest first, then the one reached first."""
    labels = np.pad(np.where(heights == OUTSIDE, -1, markers), 1, constant_values=-1)
    queue = [(heights[row, column], age, row + 1, column + 1) for age, (row, column) in enumerate(np.argwhere(markers))]
    heapq.heapify(queue)
    ages = itertools.count(len(queue))
    while queue:
        _, _, row, column = heapq.heappop(queue)
        for other in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
            if labels[other] == 0:
                labels[other] = labels[row, column]
                heapq.heappush(queue, (heights[other[0] - 1, other[1] - 1], next(ages), *other))
    return np.maximum(labels[1:-1, 1:-1], 0)


@st.composite
def reliefs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    noise = rng.random((draw(st.integers(1, 30)), draw(st.integers(1, 30))))
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0, 1, 2])))
    return ((smooth - smooth.min()) * draw(st.sampled_from([5, 30, 200]))).astype(np.int32)


@given(reliefs(), st.floats(0, 0.4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_flood_takes_the_lowest_pixel_that_was_reached_first(heights, hidden, seed):
    heights[np.random.default_rng(seed).random(heights.shape) < hidden] = OUTSIDE
    labels = minima(heights)
    expected = flooded_by_a_heap(heights, labels)
    flood_basins(heights, labels)
    np.testing.assert_array_equal(labels, expected)


@given(reliefs(), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_as_many_basins_remain_as_there_are_minima_of_that_depth(heights, depth):
    labels = flooded(heights, depth)
    cross = ndimage.generate_binary_structure(2, 1)
    filled = reconstruction(heights + depth - 1, heights, method="erosion", footprint=cross)
    # What is filled to the brim is one basin.
    assert len(np.unique(labels)) == max(ndimage.label(local_minima(filled, connectivity=1))[1], 1)
    for label in np.unique(labels):
        assert ndimage.label(labels == label)[1] == 1


@given(reliefs(), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_no_basin_is_smaller_than_asked_for(heights, area):
    labels = flooded(heights, area=area)
    sizes = np.bincount(labels.ravel())
    assert (sizes[sizes > 0] >= min(area, heights.size)).all()


def test_nothing_joins_without_depth_and_area():
    heights = np.array([[0, 5, 4, 9, 1]])
    assert len(np.unique(flooded(heights))) == 3
    assert len(np.unique(flooded(heights, depth=2))) == 2
    assert len(np.unique(flooded(heights, depth=9))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_lines_and_points_are_basins(shape):
    assert (flooded(np.zeros(shape), depth=3, area=4) == 1).all()
