import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.data import coins

from segmentation import (
    DEFAULT_RECIPE,
    ImageError,
    KMeans,
    Recipe,
    Spectral,
    Ward,
    normalized_cut,
    relabel_sequential,
    same_partition,
    segment,
)
from segmentation.cluster import build_graph, cluster, explained_variance
from segmentation.pipeline import finish, prepare

METHODS = [
    Spectral(n_regions=3, extra_regions=1),
    Spectral(n_regions=4, extra_regions=0, assign_labels="cluster_qr", connectivity=8),
    Ward(n_regions=4),
    KMeans(n_clusters=4, n_init=2),
    KMeans(n_clusters=4, n_init=2, algorithm="minibatch", color_space="lab"),
]
RECIPES = [Recipe(sigma=1, scale=0.5, method=method) for method in METHODS]


@pytest.fixture
def image():
    """Four quadrants of different grey, noisy."""
    noise = np.random.default_rng(0).normal(0, 4, (32, 40))
    steps = np.kron([[40, 100], [160, 220]], np.ones((16, 20)))
    return (steps + noise).astype(np.uint8)


QUADRANTS = np.kron([[1, 2], [3, 4]], np.ones((16, 20), dtype=int))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_four_quadrants_are_found_whatever_the_method_and_the_kind_of_image(image, recipe, dtype, channels):
    image = image.astype(dtype)
    if dtype == "u2":
        image *= 257
    if channels:
        image = np.repeat(image[:, :, np.newaxis], channels, axis=2)
    if recipe.method.method == "kmeans" and recipe.method.color_space == "lab" and dtype[0] == "f":
        image /= 255
    labels = segment(image, recipe).labels
    assert labels.dtype == np.uint16
    assert np.mean(labels == QUADRANTS) > 0.97


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_chain_of_steps_is_segment(image, recipe):
    mask = np.ones(image.shape, dtype=bool)
    mask[:5, 7:] = False
    result = segment(image, recipe, mask)
    working = prepare(image, recipe, mask)
    graph = build_graph(working.image, working.mask, recipe.method)
    labels, scores = cluster(working.image, working.mask, graph, recipe.method, recipe.seed)
    np.testing.assert_array_equal(result.working, working.image)
    np.testing.assert_array_equal(result.working_labels, labels)
    np.testing.assert_array_equal(result.labels, finish(labels, image, recipe, mask))
    assert result.scores == scores


@pytest.mark.parametrize("recipe", RECIPES)
def test_labels_are_numbered_in_raster_order_and_0_where_masked(image, recipe):
    mask = np.random.default_rng(1).random(image.shape) < 0.9
    result = segment(image, recipe, mask)
    np.testing.assert_array_equal(result.labels > 0, mask)
    np.testing.assert_array_equal(result.labels, relabel_sequential(result.labels))
    np.testing.assert_array_equal(result.working_labels, relabel_sequential(result.working_labels))


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_outside_the_mask_does_not_matter_without_smoothing(image, recipe):
    recipe = recipe.model_copy(update={"sigma": 0.0, "scale": 1.0})
    mask = np.zeros(image.shape, dtype=bool)
    mask[4:30, 3:35] = True
    other = np.where(mask, image / 255, np.nan)
    labels = segment(image / 255, recipe, mask).labels
    np.testing.assert_array_equal(segment(other, recipe, mask).labels, labels)


@pytest.mark.parametrize("value", [0, 200])
def test_a_flat_image_has_one_colour_and_no_borders(value):
    flat = np.full((16, 20), value, dtype=np.uint8)
    assert segment(flat, Recipe(method=KMeans(n_clusters=4))).labels.max() == 1
    for method in (Ward(n_regions=4), Spectral(n_regions=1, extra_regions=1)):
        with pytest.raises(ImageError, match=r"nothing tells \d regions apart"):
            segment(flat, Recipe(method=method))
    assert segment(flat, Recipe(method=Ward(n_regions=1))).labels.max() == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_scores_are_those_of_the_working_labels(image, recipe):
    result = segment(image, recipe)
    assert result.scores["n_regions"] == result.working_labels.max() == 4
    assert 0.9 < result.scores["explained_variance"] <= 1
    nodes = result.working_labels.ravel().astype(int)
    if recipe.method.method == "spectral":
        graph = build_graph(result.working, None, recipe.method)
        assert result.scores["ncut"] == pytest.approx(normalized_cut(graph, nodes))
    if recipe.method.method == "kmeans" and recipe.method.algorithm != "minibatch":
        values = result.working.ravel() * 255
        means = np.bincount(nodes, weights=values)[1:] / np.bincount(nodes)[1:]
        assert result.scores["inertia"] == pytest.approx(((values - means[nodes - 1]) ** 2).sum(), rel=0.01)
    assert set(result.scores) <= {"n_regions", "explained_variance", "ncut", "inertia"}


def test_explained_variance_is_what_the_means_of_the_regions_explain():
    rng = np.random.default_rng(0)
    features, labels = rng.random((50, 3)), rng.integers(0, 4, 50)
    means = np.stack([features[labels == label].mean(axis=0) for label in range(4)])
    within, total = np.sum((features - means[labels]) ** 2), np.sum((features - features.mean(axis=0)) ** 2)
    assert explained_variance(features, labels) == pytest.approx(1 - within / total, rel=1e-12)


@given(arrays(np.float64, (12, 2), elements=st.floats(-1e3, 1e3)), arrays(int, 12, elements=st.integers(0, 3)))
@settings(max_examples=50)
def test_explained_variance_is_a_share_that_refinement_never_lowers(features, labels):
    share = explained_variance(features, labels)
    assert 0 <= share <= 1
    assert explained_variance(features, labels * 12 + np.arange(12) % 3) >= share - 1e-9
    assert explained_variance(features, np.arange(12)) == pytest.approx(1)


def test_regions_beyond_the_pixels_of_the_working_grid_are_refused_with_a_hint():
    with pytest.raises(ImageError, match=r"26 \+ 3 regions are more than the 16 pixels .* larger scale"):
        segment(np.zeros((20, 20), dtype=np.uint8))


def test_a_mask_between_the_working_pixels_is_refused_with_a_hint():
    mask = np.zeros((20, 20), dtype=bool)
    mask[0, :] = True
    with pytest.raises(ImageError, match=r"the mask leaves no pixel at scale 0\.2; use a larger scale"):
        segment(np.zeros((20, 20), dtype=np.uint8), DEFAULT_RECIPE, mask)


@pytest.mark.parametrize("method", [Spectral(n_regions=5, extra_regions=0), Ward(n_regions=5), KMeans(n_clusters=5)])
def test_more_regions_than_masked_pixels_are_refused(method):
    mask = np.eye(4, dtype=bool)
    with pytest.raises(ImageError, match="are more than the 4 pixels"):
        segment(np.zeros((4, 4)), Recipe(scale=1, method=method), mask)


@pytest.mark.parametrize("method", [Spectral(n_regions=1, extra_regions=0), Ward(n_regions=1), KMeans(n_clusters=1)])
def test_one_region_is_the_whole_image(image, method):
    assert (segment(image, Recipe(method=method)).labels == 1).all()


@pytest.mark.parametrize("method", [Spectral(n_regions=1, extra_regions=0), Ward(n_regions=1)])
def test_parts_of_a_mask_and_isolated_pixels_are_regions_of_their_own(method):
    mask = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1]], dtype=bool)
    result = segment(np.zeros((4, 4)), Recipe(sigma=0, scale=1, method=method), mask)
    np.testing.assert_array_equal(result.labels, [[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 0], [3, 0, 4, 4]])


def test_specks_below_the_minimum_size_are_merged_in_the_original(image):
    image[20:23, 5:8] = 255
    recipe = Recipe(sigma=0, scale=1, method=KMeans(n_clusters=4))
    assert len(np.unique(segment(image, recipe).labels[18:25, 3:10])) == 2
    recipe = recipe.model_copy(update={"min_region_size": 10})
    assert len(np.unique(segment(image, recipe).labels[18:25, 3:10])) == 1


def test_the_same_recipe_gives_the_same_labels_and_another_seed_may_not():
    first, again, other = (
        segment(coins(), Recipe(seed=seed, method=Spectral(n_regions=40, eigen_solver="arpack"))).labels
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not same_partition(first, other)


PROGRAM = """
import hashlib
from skimage.data import coins
from segmentation import KMeans, Recipe, Spectral, segment

digest = hashlib.sha256()
for method in (Spectral(), Spectral(eigen_solver="arpack"), KMeans(n_clusters=7)):
    result = segment(coins(), Recipe(scale=0.5, method=method))
    digest.update(result.labels.tobytes() + repr(sorted(result.scores.items())).encode())
print(digest.hexdigest())
"""


def test_labels_and_scores_do_not_depend_on_the_number_of_threads():
    digests = set()
    for n_threads in ("1", "2", "4"):
        variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), n_threads)
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=os.environ | variables, check=True, capture_output=True, text=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1
