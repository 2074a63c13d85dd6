import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.linalg import eigh
from scipy.sparse import csr_array
from sklearn.cluster import spectral_clustering
from sklearn.feature_extraction.image import img_to_graph
from sklearn.manifold import spectral_embedding as reference_embedding

from segmentation import ImageError, ParameterError, same_partition
from segmentation.graphs import grid_connectivity, pixel_graph
from segmentation.spectral import SMALL, normalized_cut, spectral, spectral_embedding

SOLVERS = ["arpack", "lobpcg", "amg"]
ALL_SOLVERS = ["multilevel", *SOLVERS]
ASSIGNERS = ["kmeans", "discretize", "cluster_qr"]


def reference_graph(image):
    graph = img_to_graph(image)
    graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
    return graph


def scikit_learn(function, *args, **kwargs):
    """Run scikit-learn as it is meant to be: pyamg draws from the global stream, solvers warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(0)
        return function(*args, **kwargs)


@st.composite
def small_images(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    image = rng.random(rng.integers(3, 14, size=2))
    return image.round(1) if draw(st.booleans()) else image


@given(small_images(), st.integers(2, 7), st.sampled_from(SOLVERS))
@settings(max_examples=20, deadline=None)
def test_embedding_is_scikit_learns_to_the_last_bit(image, k, eigen_solver):
    keywords = {"eigen_solver": eigen_solver, "eigen_tol": 1e-7, "random_state": 3}
    expected = scikit_learn(reference_embedding, reference_graph(image), n_components=k, drop_first=False, **keywords)
    np.testing.assert_array_equal(spectral_embedding(pixel_graph(image), k, **keywords), expected)


@given(small_images(), st.integers(2, 7), st.sampled_from(SOLVERS), st.sampled_from(ASSIGNERS))
@settings(max_examples=30, deadline=None)
def test_partition_is_scikit_learns_on_a_connected_graph(image, k, eigen_solver, assign_labels):
    keywords = {"eigen_solver": eigen_solver, "eigen_tol": 1e-7, "assign_labels": assign_labels}
    expected = scikit_learn(spectral_clustering, reference_graph(image), n_clusters=k, random_state=3, **keywords)
    labels = spectral(pixel_graph(image), n_regions=k - 1, extra_regions=1, seed=3, **keywords)
    assert same_partition(labels, expected)


# The graphs above are too small for an elimination order of our own.
@pytest.mark.parametrize("shape", [(33, 41), (64, 60)])
@pytest.mark.parametrize("k", [3, 12])
def test_arpack_on_larger_graphs_agrees_with_scikit_learn_to_its_tolerance(shape, k):
    assert shape[0] * shape[1] > SMALL
    image = ndimage.gaussian_filter(np.random.default_rng(k).random(shape), 2)
    graph = reference_graph(image)
    keywords = {"eigen_solver": "arpack", "eigen_tol": 1e-7, "random_state": 3}
    expected = reference_embedding(graph, n_components=k, drop_first=False, **keywords)
    found = spectral_embedding(pixel_graph(image), k, **keywords)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    for assign_labels in ASSIGNERS:
        keywords = {"eigen_solver": "arpack", "eigen_tol": 1e-7, "assign_labels": assign_labels}
        labels = spectral(pixel_graph(image), n_regions=k, extra_regions=0, seed=3, **keywords)
        assert same_partition(labels, spectral_clustering(graph, n_clusters=k, random_state=3, **keywords))


def test_equal_eigenvalues_have_all_their_eigenvectors_every_time():
    # A square that is symmetric: most eigenvalues are there twice.
    weights = grid_connectivity((34, 34)).astype(float)
    degrees = weights.sum(axis=0)
    laplacian = np.diag(degrees) - weights.toarray()
    expected = eigh(laplacian, np.diag(degrees), eigvals_only=True, subset_by_index=(0, 7))
    assert np.isclose(expected[1], expected[2], rtol=1e-9)
    found = spectral_embedding(weights, 8)
    gram = found.T @ (degrees[:, np.newaxis] * found)
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8 * gram.max())
    residuals = laplacian @ found - degrees[:, np.newaxis] * found * expected
    assert np.abs(residuals).max() < 1e-7 * np.abs(found).max()
    np.testing.assert_array_equal(spectral_embedding(weights, 8), found)


@pytest.mark.parametrize("function", ["splu", "eigsh"])
def test_where_arpack_fails_lobpcg_goes_on(function, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Factor is exactly singular")

    image = np.repeat([0.0, 1.0, 3.0], 8)[np.newaxis] + np.zeros((6, 1))
    monkeypatch.setattr(f"scipy.sparse.linalg.{function}", fail)
    labels = spectral(pixel_graph(image), n_regions=3, extra_regions=0, eigen_solver="arpack")
    assert same_partition(labels, image.ravel())


def two_squares(contrast=100.0):
    """Two flat squares, the right one brighter, without touching: 2 × 2 pixels each."""
    image = np.zeros((2, 5))
    image[:, 3:] = contrast
    mask = np.ones((2, 5), dtype=bool)
    mask[:, 2] = False
    return pixel_graph(image, mask=mask), ndimage.label(mask)[0][mask]


@pytest.mark.parametrize("eigen_solver", ALL_SOLVERS)
@pytest.mark.parametrize("assign_labels", ASSIGNERS)
@pytest.mark.parametrize("k", [1, 2])
def test_each_component_is_a_region_when_k_is_their_number_or_less(eigen_solver, assign_labels, k):
    weights, squares = two_squares()
    labels = spectral(weights, n_regions=k, extra_regions=0, eigen_solver=eigen_solver, assign_labels=assign_labels)
    assert same_partition(labels, squares)


@pytest.mark.parametrize(
    ("eigen_solver", "assign_labels"), [("multilevel", "kmeans"), *(("arpack", name) for name in ASSIGNERS)]
)
def test_spare_regions_go_to_the_component_that_is_cheapest_to_cut(eigen_solver, assign_labels):
    # The left strip is one grey; the right one has three, hence two borders.
    image = np.array([[5.0] * 6 + [0.0] + [1.0] * 4 + [50.0] * 4 + [100.0] * 4])
    mask = image > 0
    keywords = {"eigen_solver": eigen_solver, "assign_labels": assign_labels}
    labels = spectral(pixel_graph(image, mask=mask), n_regions=4, extra_regions=0, **keywords)
    assert same_partition(labels, image[mask])


@given(
    st.integers(0, 10_000),
    st.integers(1, 9),
    st.sampled_from(["multilevel", "arpack"]),
    st.sampled_from(ASSIGNERS),
    st.sampled_from([4, 8]),
)
@settings(max_examples=80, deadline=None)
def test_regions_stay_inside_components_and_isolated_pixels_are_on_top(
    seed, k, eigen_solver, assign_labels, connectivity
):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 8)) < 0.6
    mask[0, :2] = True
    structure = np.ones((3, 3)) if connectivity == 8 else None
    components = ndimage.label(mask, structure)[0][mask]
    sizes = np.bincount(components)[1:]
    isolated, large = np.count_nonzero(sizes == 1), np.count_nonzero(sizes > 1)
    weights = pixel_graph(rng.random(mask.shape), mask=mask, connectivity=connectivity)
    keywords = {"eigen_solver": eigen_solver, "assign_labels": assign_labels}
    labels = spectral(weights, n_regions=k, extra_regions=0, **keywords)
    n_labels = len(np.unique(labels))
    assert np.unique(np.stack([labels, components]), axis=1).shape[1] == n_labels
    assert isolated + large <= n_labels <= isolated + max(large, k)
    if assign_labels == "kmeans" or eigen_solver == "multilevel":
        assert n_labels == isolated + min(max(large, k), sizes[sizes > 1].sum())


def test_parts_held_together_by_rounding_noise_are_separate():
    chain = [1.0, 1.0, 1e-34]
    weights = csr_array(np.diag(chain, 1) + np.diag(chain, -1))
    labels = spectral(weights, n_regions=1, extra_regions=0, eigen_solver="arpack")
    assert same_partition(labels, np.array([0, 0, 0, 1]))


@pytest.mark.parametrize("eigen_solver", ["multilevel", "arpack"])
@pytest.mark.parametrize("factor", [1e-300, 1e-150, 1e150])
def test_partition_does_not_depend_on_the_scale_of_the_weights(factor, eigen_solver):
    weights = pixel_graph(np.random.default_rng(0).random((6, 6)))
    expected = spectral(weights, n_regions=4, eigen_solver=eigen_solver)
    assert same_partition(spectral(weights * factor, n_regions=4, eigen_solver=eigen_solver), expected)


@pytest.mark.parametrize("eigen_solver", ["multilevel", "arpack"])
def test_a_diagonal_far_above_the_weights_is_ignored(eigen_solver):
    weights = pixel_graph(np.random.default_rng(0).random((6, 6)))
    expected = spectral(weights, n_regions=4, eigen_solver=eigen_solver)
    weights.setdiag(1e30)
    assert same_partition(spectral(weights, n_regions=4, eigen_solver=eigen_solver), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (3, 1), (4, 5)])
@pytest.mark.parametrize("eigen_solver", ALL_SOLVERS)
@pytest.mark.parametrize("assign_labels", ASSIGNERS)
def test_flat_images_of_every_small_size_take_every_k(shape, eigen_solver, assign_labels):
    weights = pixel_graph(np.zeros(shape))
    for k in range(1, shape[0] * shape[1] + 1):
        labels = spectral(weights, n_regions=k, extra_regions=0, eigen_solver=eigen_solver, assign_labels=assign_labels)
        assert 1 <= len(np.unique(labels)) <= k


def test_one_region_is_everything_and_p_regions_are_the_pixels():
    weights = pixel_graph(np.random.default_rng(0).random((3, 4)))
    assert not spectral(weights, n_regions=1, extra_regions=0).any()
    assert len(np.unique(spectral(weights, n_regions=9, extra_regions=3))) == 12


def test_more_regions_than_pixels_are_refused_with_the_numbers():
    with pytest.raises(ImageError, match=r"10 \+ 3 regions are more than the 12 pixels .* larger scale"):
        spectral(pixel_graph(np.zeros((3, 4))), n_regions=10, extra_regions=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_regions": 0}, "n_regions must be >= 1"),
        ({"extra_regions": -1}, "extra_regions >= 0"),
        ({"eigen_solver": "lanczos"}, "unknown eigen_solver 'lanczos'; choose multilevel, arpack, lobpcg, amg"),
        ({"assign_labels": "qr"}, "unknown assign_labels 'qr'; choose kmeans, discretize, cluster_qr"),
    ],
)
def test_wrong_parameters_are_refused(wrong, message):
    with pytest.raises(ParameterError, match=message):
        spectral(pixel_graph(np.zeros((6, 6))), **{"n_regions": 3, **wrong})


def test_amg_without_pyamg_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyamg", None)
    with pytest.raises(ParameterError, match=r"pip install regionflow\[amg\]"):
        spectral(pixel_graph(np.zeros((6, 6))), eigen_solver="amg")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_failing_solver_is_this_images_fault_and_says_what_to_try(value):
    weights = pixel_graph(np.zeros((6, 6)))
    weights.data[:] = value
    with pytest.raises(ImageError, match=r"'arpack' failed for 3 eigenvectors of 36 pixels; try another"):
        spectral_embedding(weights, 3)


@pytest.mark.parametrize("eigen_solver", ALL_SOLVERS)
def test_neither_uses_nor_changes_numpys_global_random_numbers(eigen_solver):
    weights = pixel_graph(np.random.default_rng(0).random((12, 12)))
    np.random.seed(1)
    first = spectral(weights, n_regions=4, eigen_solver=eigen_solver)
    drawn = np.random.random()
    np.random.seed(1)
    assert np.random.random() == drawn
    np.testing.assert_array_equal(spectral(weights, n_regions=4, eigen_solver=eigen_solver), first)


def test_normalized_cut_of_a_chain_is_what_paper_and_pencil_give():
    # Weights 1, 0.5, 1; volumes 2.5 and 2.5; the cut is 0.5.
    weights = csr_array([[9.0, 1, 0, 0], [1, 9, 0.5, 0], [0, 0.5, 9, 1], [0, 0, 1, 9]])
    assert normalized_cut(weights, np.array([0, 0, 3, 3])) == pytest.approx(2 * 0.5 / 2.5)
    assert normalized_cut(weights, np.zeros(4, dtype=int)) == 0
    assert normalized_cut(weights, np.arange(4)) == pytest.approx(4)


def test_a_region_without_edges_costs_nothing():
    grid = grid_connectivity((1, 4), mask=np.array([[True, False, True, True]]))
    assert normalized_cut(grid, np.array([0, 1, 1])) == 0
