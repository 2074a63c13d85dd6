import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import local_minima, reconstruction

from segmentation.arrays import read_only
from segmentation.kernels.basins import flood_basins, join_shallow, minima
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


@st.composite
def reliefs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    noise = rng.random((draw(st.integers(1, 30)), draw(st.integers(1, 30))))
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0, 1, 2])))
    return ((smooth - smooth.min()) * draw(st.sampled_from([5, 30, 200]))).astype(np.int32)


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
