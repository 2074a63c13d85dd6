import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.cluster import k_means
from sklearn.cluster._spectral import cluster_qr, discretize
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.image import img_to_graph
from sklearn.manifold import spectral_embedding as reference_embedding

from segmentation import same_partition
from segmentation.assigners import assign_cluster_qr, assign_discretize, assign_kmeans
from segmentation.graphs import pixel_graph
from segmentation.spectral import spectral_embedding


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


def scikit_learns(embedding, random_state):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return k_means(embedding, embedding.shape[1], random_state=random_state, n_init=10)[1]


@given(st.integers(0, 10_000), st.integers(2, 20), st.booleans())
@settings(max_examples=40, deadline=None)
def test_kmeans_has_scikit_learns_labels_and_draws_as_many_random_numbers(seed, k, few_are_distinct):
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(rng.integers(k + 1, 400), k)) + 3 * rng.normal(size=k) * rng.integers(0, 2, (1, k))
    if few_are_distinct:
        # Rounding errors decide between seeds, or clusters lose all their points.
        embedding = embedding[rng.integers(0, k, len(embedding))]
    ours, theirs = np.random.RandomState(seed), np.random.RandomState(seed)
    np.testing.assert_array_equal(assign_kmeans(embedding, ours), scikit_learns(embedding, theirs))
    assert ours.uniform() == theirs.uniform()


@pytest.mark.parametrize("k", [3, 8, 29])
def test_kmeans_of_eigenvectors_has_scikit_learns_labels(k):
    image = gaussian_filter(np.random.default_rng(k).random((50, 60)), 2)
    embedding = spectral_embedding(pixel_graph(image), k)
    np.testing.assert_array_equal(assign_kmeans(embedding, 0), scikit_learns(embedding, 0))


def test_kmeans_of_eigenvectors_does_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    embedding = np.random.default_rng(0).normal(size=(100, 4))
    assert len(np.unique(assign_kmeans(embedding))) == 4


def test_pixels_with_equal_eigenvectors_stay_together_without_a_warning():
    embedding = np.ones((6, 3))
    embedding[3:, 1:] = 2
    assert same_partition(assign_kmeans(embedding, 0), np.array([0, 0, 0, 1, 1, 1]))
