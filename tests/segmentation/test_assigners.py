import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster._spectral import cluster_qr, discretize
from sklearn.feature_extraction.image import img_to_graph
from sklearn.manifold import spectral_embedding as reference_embedding

from segmentation import same_partition
from segmentation.assigners import assign_cluster_qr, assign_discretize, assign_kmeans


def reference_graph(image):
    graph = img_to_graph(image)
    graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
    return graph


@pytest.mark.parametrize("k", [2, 5, 12])
def test_assignments_are_scikit_learns(k):
    rng = np.random.default_rng(k)
    embedding = reference_embedding(reference_graph(rng.random((15, 15))), n_components=k, drop_first=False)
    for seed in range(5):
        expected = discretize(embedding, random_state=seed)
        np.testing.assert_array_equal(assign_discretize(embedding, seed), expected)
    np.testing.assert_array_equal(assign_cluster_qr(embedding), cluster_qr(embedding))


@given(st.integers(0, 10_000), st.integers(2, 7))
@settings(max_examples=50, deadline=None)
def test_discretize_is_scikit_learns_even_where_it_loses_a_region(seed, k):
    # On noise, rounding decides about regions that get lost on the way.
    image = np.random.default_rng(seed).random((4, 10))
    embedding = reference_embedding(reference_graph(image), n_components=k, drop_first=False, random_state=3)
    np.testing.assert_array_equal(assign_discretize(embedding, 3), discretize(embedding, random_state=3))


def test_pixels_with_equal_eigenvectors_stay_together_without_a_warning():
    embedding = np.ones((6, 3))
    embedding[3:, 1:] = 2
    assert same_partition(assign_kmeans(embedding, 0), np.array([0, 0, 0, 1, 1, 1]))
