"""The reference results: scikit-learn, run here on the same arrays."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import coins
from skimage.transform import rescale
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans, spectral_clustering
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.datasets import load_digits, load_sample_image, make_blobs
from sklearn.feature_extraction.image import grid_to_graph, img_to_graph
from sklearn.metrics import adjusted_rand_score

from segmentation import ImageError, KMeans, Recipe, Spectral, Ward, pixel_graph, same_partition, segment
from segmentation.kmeans import kmeans
from segmentation.spectral import spectral

SOLVERS = [("arpack", "kmeans"), ("arpack", "discretize"), ("arpack", "cluster_qr"), ("lobpcg", "cluster_qr")]
SOLVERS += [("amg", "kmeans"), ("amg", "discretize"), ("amg", "cluster_qr")]


@pytest.fixture(scope="module")
def small_coins():
    return rescale(gaussian_filter(coins(), sigma=2), 0.2, mode="reflect", anti_aliasing=False)


@pytest.mark.parametrize(("eigen_solver", "assign_labels"), SOLVERS)
def test_coins_are_scikit_learns_normalized_cuts(small_coins, eigen_solver, assign_labels):
    graph = img_to_graph(small_coins)
    graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
    with warnings.catch_warnings():
        # lobpcg says that it stopped early.
        warnings.simplefilter("ignore", UserWarning)
        # pyamg draws from the global stream.
        np.random.seed(0)
        expected = spectral_clustering(
            graph,
            n_clusters=29,
            eigen_solver=eigen_solver,
            eigen_tol=1e-7,
            assign_labels=assign_labels,
            random_state=42,
        )
    recipe = Recipe(method=Spectral(eigen_solver=eigen_solver, assign_labels=assign_labels))
    result = segment(coins(), recipe)
    assert adjusted_rand_score(result.working_labels.ravel(), expected) == 1
    assert result.scores["n_regions"] == 29


def test_coins_are_scikit_learns_structured_ward(small_coins):
    ward = AgglomerativeClustering(n_clusters=27, linkage="ward", connectivity=grid_to_graph(*small_coins.shape))
    expected = ward.fit_predict(small_coins.reshape(-1, 1))
    result = segment(coins(), Recipe(method=Ward(n_regions=27)))
    assert adjusted_rand_score(result.working_labels.ravel(), expected) == 1


CIRCLES = [((28, 24), 16), ((40, 50), 14), ((67, 58), 15), ((24, 70), 14)]


def noisy_circles(n_circles, seed):
    rows, columns = np.indices((100, 100))
    truth = np.zeros((100, 100), dtype=int)
    for number, ((row, column), radius) in enumerate(CIRCLES[:n_circles], start=1):
        truth[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = number
    image = (truth > 0).astype(float)
    return image + 1 + 0.2 * np.random.default_rng(seed).standard_normal(image.shape), truth


@pytest.mark.parametrize("n_circles", [2, 4])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("assign_labels", ["kmeans", "discretize", "cluster_qr"])
def test_touching_circles_are_told_apart_as_in_scikit_learn(n_circles, seed, assign_labels):
    image, truth = noisy_circles(n_circles, seed)
    mask = truth > 0
    method = Spectral(
        n_regions=n_circles, extra_regions=0, beta=1, eps=0, eigen_solver="arpack", assign_labels=assign_labels
    )
    result = segment(image, Recipe(sigma=0, scale=1, method=method, seed=seed), mask)
    assert adjusted_rand_score(truth[mask], result.labels[mask]) >= 0.94
    graph = img_to_graph(image, mask=mask)
    graph.data = np.exp(-graph.data / graph.data.std())
    expected = spectral_clustering(
        graph,
        n_clusters=n_circles,
        eigen_solver="arpack",
        eigen_tol=1e-7,
        assign_labels=assign_labels,
        random_state=seed,
    )
    assert adjusted_rand_score(result.labels[mask], expected) == 1


def test_china_has_the_16_colours_of_mini_batch_k_means():
    china = load_sample_image("china.jpg")
    recipe = Recipe(sigma=0, scale=1, method=KMeans(n_clusters=16, n_init=3, algorithm="minibatch"), seed=0)
    result = segment(china, recipe)
    reference = MiniBatchKMeans(n_clusters=16, n_init=3, max_iter=100, random_state=0)
    expected = reference.fit_predict(china.reshape(-1, 3) / 255 * 255)
    assert adjusted_rand_score(result.labels.ravel(), expected) == 1
    assert result.scores["inertia"] == pytest.approx(reference.inertia_)
    # An image of 96,615 colours painted with 16.
    assert result.scores["explained_variance"] > 0.95


@pytest.mark.parametrize("k", [3, 10])
def test_colours_of_a_photograph_are_scikit_learns_and_as_tight_as_opencvs(k):
    cv2 = pytest.importorskip("cv2")
    photo = load_sample_image("flower.jpg")[::4, ::4]
    result = segment(photo, Recipe(sigma=0, scale=1, method=KMeans(n_clusters=k, algorithm="lloyd"), seed=1))
    pixels = photo.reshape(-1, 3) / 255 * 255
    reference = ReferenceKMeans(
        n_clusters=k, n_init=10, max_iter=100, tol=0.85**2 / np.var(pixels, axis=0).mean(), random_state=1
    )
    assert adjusted_rand_score(result.labels.ravel(), reference.fit_predict(pixels)) == 1
    assert result.scores["inertia"] == pytest.approx(reference.inertia_)
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.85)
    compactness, _, _ = cv2.kmeans(pixels.astype(np.float32), k, None, criteria, 10, cv2.KMEANS_RANDOM_CENTERS)
    assert result.scores["inertia"] <= 1.01 * compactness


def test_digits_fall_into_scikit_learns_ten_clusters():
    digits = load_digits().data.astype(float)
    reference = ReferenceKMeans(n_clusters=10, random_state=0, n_init=10)
    expected = reference.fit_predict(digits)
    tol = np.sqrt(1e-4 * np.var(digits, axis=0).mean())
    result = kmeans(digits, n_clusters=10, algorithm="lloyd", max_iter=300, tol=tol, random_state=0)
    np.testing.assert_array_equal(result.labels, expected)
    assert result.inertia == pytest.approx(reference.inertia_)


@pytest.mark.parametrize("algorithm", ["distinct", "lloyd", "minibatch"])
def test_blobs_are_found_as_they_were_drawn(algorithm):
    points, truth = make_blobs(300, centers=4, cluster_std=0.6, random_state=0)
    result = kmeans(points, n_clusters=4, algorithm=algorithm, tol=1e-3, random_state=0)
    expected = ReferenceKMeans(n_clusters=4, n_init=10, random_state=0).fit_predict(points)
    assert adjusted_rand_score(result.labels, truth) > 0.99
    if algorithm != "minibatch":
        assert same_partition(result.labels, expected)


def test_where_scikit_learn_mixes_isolated_pixels_into_regions_we_do_not():
    image, truth = noisy_circles(2, 0)
    mask = truth > 0
    mask[90, 10::20] = True
    method = Spectral(n_regions=2, extra_regions=0, beta=1, eps=0, eigen_solver="arpack")
    labels = segment(image, Recipe(sigma=0, scale=1, method=method), mask).labels
    assert adjusted_rand_score(truth[truth > 0], labels[truth > 0]) >= 0.94
    assert len(np.unique(labels[90, 10::20])) == 5
    assert not set(labels[90, 10::20]) & set(labels[truth > 0])


def test_zero_image_where_scikit_learn_fails_has_a_graph_and_a_clear_error():
    with np.errstate(invalid="ignore"):
        graph = img_to_graph(np.zeros((8, 8)))
        graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
    with pytest.raises(ValueError, match="NaN"):
        spectral_clustering(graph, n_clusters=4, random_state=0)
    assert set(pixel_graph(np.zeros((8, 8))).data) == {1 + 1e-6}
    with pytest.raises(ImageError, match="every pixel has the same value"):
        segment(np.zeros((8, 8)), Recipe(sigma=0, scale=1, method=Spectral(n_regions=4)))


def test_one_graph_serves_the_library_alone_as_well(small_coins):
    graph = img_to_graph(small_coins)
    graph.data = np.exp(-10 * graph.data / graph.data.std()) + 1e-6
    labels = spectral(graph.tocsr(), assign_labels="cluster_qr")
    result = segment(coins(), Recipe(method=Spectral(assign_labels="cluster_qr")))
    assert same_partition(labels, result.working_labels.ravel())
