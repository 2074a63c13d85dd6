import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.feature_extraction.image import grid_to_graph, img_to_graph

from segmentation import ImageError, ParameterError
from segmentation.graphs import affinity_graph, connected_parts, grid_connectivity, pixel_graph


@st.composite
def images_with_masks(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8))
    image = draw(arrays(np.float64, shape, elements=st.floats(-4, 100, width=16)))
    mask = draw(st.none() | arrays(bool, shape).filter(lambda m: m.any()))
    return image, mask


@given(images_with_masks(), st.sampled_from([0.5, 1.0, 10.0]), st.sampled_from([0.0, 1e-6]))
@settings(max_examples=100, deadline=None)
def test_grey_weights_are_scikit_learns_to_the_last_bit(pair, beta, eps):
    image, mask = pair
    reference = img_to_graph(image, mask=mask)
    spread = reference.data.std()
    if spread < np.finfo(float).tiny:
        reference.data = np.full(reference.data.shape, 1 + eps)
    else:
        reference.data = np.exp(-beta * reference.data / spread) + eps
    reference = reference.tocsr()
    reference.sort_indices()
    weights = pixel_graph(image, mask=mask, beta=beta, eps=eps)
    np.testing.assert_array_equal(weights.indptr, reference.indptr)
    np.testing.assert_array_equal(weights.indices, reference.indices)
    np.testing.assert_array_equal(weights.data, reference.data)


@given(images_with_masks(), st.sampled_from([4, 8]))
@settings(max_examples=50, deadline=None)
def test_weights_are_symmetric_and_their_grid_is_the_connectivity(pair, connectivity):
    image, mask = pair
    weights = pixel_graph(image, mask=mask, connectivity=connectivity)
    assert (weights != weights.T).nnz == 0
    weights.setdiag(0)
    weights.eliminate_zeros()
    grid = grid_connectivity(image.shape, mask=mask, connectivity=connectivity)
    np.testing.assert_array_equal((weights > 0).toarray(), grid.toarray() == 1)


@given(images_with_masks())
@settings(max_examples=50, deadline=None)
def test_grid_is_scikit_learns_without_the_diagonal(pair):
    image, mask = pair
    grid = grid_connectivity(image.shape, mask=mask)
    volume = None if mask is None else mask[:, :, np.newaxis]
    expected = grid_to_graph(*image.shape, mask=volume).toarray()
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(grid.toarray(), expected)


def test_eight_neighbours_include_the_diagonal_ones():
    grid = grid_connectivity((3, 3), connectivity=8).toarray()
    np.testing.assert_array_equal(grid[4], [1, 1, 1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(grid[0], [0, 1, 0, 1, 1, 0, 0, 0, 0])


def test_grey_stored_as_colour_gives_the_weights_of_grey():
    grey = np.random.default_rng(0).random((5, 6))
    colour = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    np.testing.assert_allclose(pixel_graph(colour).data, pixel_graph(grey).data, rtol=1e-12)


def test_colours_of_equal_brightness_are_unlike():
    image = np.array([[[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]])
    weights = pixel_graph(image, beta=1).toarray()
    assert weights[0, 1] > 0.99
    assert weights[1, 2] < 0.5


@pytest.mark.parametrize("value", [0.0, 1e-310])
def test_flat_image_has_equal_weights(value):
    np.testing.assert_array_equal(pixel_graph(np.full((3, 3), value), eps=0.5).data, 1.5)


def test_one_dark_outlier_does_not_overflow():
    image = np.zeros((200, 200))
    image[0, 0] = -1e6
    assert np.isfinite(pixel_graph(image).data).all()


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"beta": np.nan}, {"eps": -1}, {"connectivity": 6}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ParameterError, match="must be"):
        pixel_graph(np.zeros((2, 2)), **wrong)


@given(images_with_masks())
@settings(max_examples=50, deadline=None)
def test_connected_parts_put_together_are_the_graph(pair):
    image, mask = pair
    grid = grid_connectivity(image.shape, mask=mask)
    again = np.zeros(grid.shape, dtype=int)
    parts = connected_parts(grid)
    for nodes, graph in parts:
        again[np.ix_(nodes, nodes)] = graph.toarray()
        assert (np.diff(nodes) > 0).all()
    np.testing.assert_array_equal(again, grid.toarray())
    first = [int(part.nodes[0]) for part in parts]
    assert first == sorted(first)
    assert sum(len(part.nodes) for part in parts) == grid.shape[0]


@pytest.mark.parametrize("radius", [1.5, 2, 5])
def test_affinities_are_those_of_shi_and_malik(radius):
    image = np.random.default_rng(0).random((6, 7))
    rows, columns = np.indices(image.shape).reshape(2, -1)
    distance = np.hypot(rows[:, np.newaxis] - rows, columns[:, np.newaxis] - columns)
    contrast = image.ravel()[:, np.newaxis] - image.ravel()
    expected = np.exp(-((contrast / 0.1) ** 2) - (distance / 4) ** 2) * ((distance < radius) & (distance > 0))
    weights = affinity_graph(image, radius=radius)
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-12)
    assert weights.has_sorted_indices
    mask = np.random.default_rng(1).random(image.shape) < 0.6
    inside = np.flatnonzero(mask)
    masked = affinity_graph(image, mask=mask, radius=radius).toarray()
    np.testing.assert_allclose(masked, expected[np.ix_(inside, inside)], rtol=1e-12)


@pytest.mark.parametrize("sigma", [1e-200, 1e200])
def test_affinities_of_any_scale_are_numbers(sigma):
    weights = affinity_graph(np.eye(4), sigma_distance=sigma, sigma_value=sigma)
    assert np.isin(weights.data, [0.0, 1.0]).all()


def test_affinities_that_cannot_be_are_refused():
    with pytest.raises(ParameterError, match="radius must be > 1"):
        affinity_graph(np.eye(4), radius=1)
    with pytest.raises(ImageError, match="too large; use a smaller radius"):
        affinity_graph(np.zeros((3000, 3000)), radius=20)
