import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.data import astronaut
from sklearn.cluster import AgglomerativeClustering, ward_tree
from sklearn.feature_extraction.image import grid_to_graph

from segmentation import ImageError, ParameterError, same_partition
from segmentation.graphs import grid_connectivity
from segmentation.kernels.ward import ward_merges
from segmentation.ward import cut_tree, merge_tree, ward


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=40, deadline=None)
def test_partition_is_scikit_learns_on_a_connected_grid(seed, data):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 9, size=2).tolist())
    # Few levels: ties must be broken alike.
    features = rng.integers(0, rng.choice([3, 256]), size=(shape[0] * shape[1], rng.choice([1, 3]))).astype(float)
    k = data.draw(st.integers(1, len(features)))
    reference = AgglomerativeClustering(n_clusters=k, linkage="ward", connectivity=grid_to_graph(*shape))
    expected = reference.fit_predict(features)
    assert same_partition(ward(features, grid_connectivity(shape), n_regions=k), expected)


def picture(kind):
    crop = astronaut()[100:170, 150:220]
    few = (crop // 64).astype(float)
    return {"grey": few[..., 0], "rgb": crop / 255.0, "rgb with ties": few, "lab": rgb2lab(crop), "flat": 0 * few}[kind]


@pytest.mark.parametrize("kind", ["grey", "rgb", "rgb with ties", "lab", "flat"])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_every_merge_and_their_order_are_scikit_learns(kind, connectivity):
    pixels = picture(kind)
    features = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    graph = grid_connectivity(pixels.shape[:2], connectivity=connectivity)
    children, _, _, _, distances = ward_tree(features, connectivity=graph, return_distance=True)
    tree = merge_tree(features, graph)
    np.testing.assert_array_equal(tree.children, children)
    np.testing.assert_allclose(np.sqrt(2 * tree.costs), distances, rtol=1e-12)


def test_costs_add_up_to_the_sum_of_squares():
    features = np.random.default_rng(0).random((56, 3))
    tree = merge_tree(features, grid_connectivity((7, 8)))
    assert tree.costs.sum() == pytest.approx(np.sum((features - features.mean(axis=0)) ** 2), rel=1e-12)


def test_nodes_that_count_several_times_merge_like_clusters_of_that_size():
    # Pairs of equal pixels merge first, at no cost; what follows is the same with every pair as one node.
    values = np.random.default_rng(0).random((20, 1))
    pixels = merge_tree(np.repeat(values, 2, axis=0), grid_connectivity((1, 40)))
    chain = grid_connectivity((1, 20))
    children, costs = ward_merges(chain.indptr.astype(np.int64), chain.indices, values, np.full(20, 2.0))
    np.testing.assert_allclose(costs, pixels.costs[20:], rtol=1e-12)
    np.testing.assert_array_equal(children + 40, pixels.children[20:])


def test_a_single_pixel_has_no_merges():
    assert merge_tree(np.zeros((1, 1)), grid_connectivity((1, 1))).children.shape == (0, 2)


def test_neighbours_that_are_stored_as_zero_are_none():
    graph = grid_connectivity((1, 3)).astype(float)
    graph.data[:] = [0, 0, 1, 1]
    features = np.array([[0.0], [0.0], [9.0]])
    features.setflags(write=False)
    assert merge_tree(features, graph).children.tolist() == [[1, 2]]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_regions_never_span_components_and_are_as_many_as_asked(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 7)) < 0.6
    mask[0, 0] = True
    components, n_components = ndimage.label(mask)
    features = rng.random((np.count_nonzero(mask), 1))
    tree = merge_tree(features, grid_connectivity(mask.shape, mask=mask))
    for k in range(1, len(features) + 1):
        labels = cut_tree(tree, k)
        assert len(np.unique(labels)) == max(k, n_components)
        pairs = np.unique(np.stack([labels, components[mask]]), axis=1)
        assert pairs.shape[1] == len(np.unique(labels))


def test_regions_go_to_the_component_that_varies_most():
    features = np.array([[0.0], [1.0], [2.0], [0.0], [50.0], [90.0]])
    mask = np.array([[True, True, True, False, True, True, True]])
    labels = ward(features, grid_connectivity((1, 7), mask=mask), n_regions=4)
    assert same_partition(labels, np.array([0, 0, 0, 1, 2, 3]))


def test_one_tree_serves_every_number_of_regions_with_nested_partitions():
    features = np.random.default_rng(0).random((30, 1))
    tree = merge_tree(features, grid_connectivity((5, 6)))
    for k in range(1, 30):
        coarse, fine = cut_tree(tree, k), cut_tree(tree, k + 1)
        assert len(np.unique(np.stack([coarse, fine]), axis=1).T) == k + 1


def test_flat_image_is_cut_into_as_many_regions_as_asked():
    assert len(np.unique(ward(np.zeros((12, 1)), grid_connectivity((3, 4)), n_regions=5))) == 5


def test_isolated_pixels_are_regions_of_their_own():
    mask = np.eye(3, dtype=bool)
    assert ward(np.zeros((3, 1)), grid_connectivity((3, 3), mask=mask), n_regions=1).tolist() == [0, 1, 2]


def test_more_regions_than_pixels_are_refused_with_both_numbers():
    with pytest.raises(ImageError, match="7 regions are more than the 6 pixels"):
        ward(np.zeros((6, 1)), grid_connectivity((2, 3)), n_regions=7)


def test_no_region_is_refused():
    with pytest.raises(ParameterError, match="n_regions must be >= 1, got 0"):
        ward(np.zeros((6, 1)), grid_connectivity((2, 3)), n_regions=0)
