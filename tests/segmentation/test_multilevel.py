from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.data import camera, coins
from sklearn.metrics import adjusted_rand_score

from segmentation import ImageError, ParameterError, Recipe, Spectral, same_partition, segment
from segmentation.graphs import affinity_graph, pixel_graph
from segmentation.multilevel import multilevel_cut
from segmentation.prepare import rescale, smooth
from segmentation.spectral import normalized_cut, spectral

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bsds500" / "images" / "val"


@pytest.fixture(scope="module")
def small_coins():
    return rescale(smooth(coins(), 2), 0.2)


@pytest.mark.parametrize("k", [2, 4, 8, 29])
@pytest.mark.parametrize("picture", ["coins", "camera"])
def test_no_cut_is_higher_than_that_of_the_exact_solver(picture, k):
    image = {"coins": coins, "camera": camera}[picture]()
    graph = pixel_graph(rescale(smooth(image, 2), 0.15))
    labels = multilevel_cut(graph, n_regions=k)
    exact = spectral(graph, n_regions=k, extra_regions=0, eigen_solver="arpack")
    assert len(np.unique(labels)) == k
    assert normalized_cut(graph, labels) <= normalized_cut(graph, exact)


@pytest.mark.parametrize("number", [0, 8, 18])
@pytest.mark.parametrize("k", [4, 16])
def test_nor_is_it_on_photographs(number, k):
    if not PHOTOS.is_dir():
        pytest.skip("the photographs of BSDS500 are not beside the project")
    photo = np.asarray(Image.open(sorted(PHOTOS.glob("*.jpg"))[number]).convert("L"))
    graph = pixel_graph(rescale(smooth(photo, 2), 0.2))
    exact = spectral(graph, n_regions=k, extra_regions=0, eigen_solver="arpack")
    assert normalized_cut(graph, multilevel_cut(graph, n_regions=k)) <= normalized_cut(graph, exact)


def test_every_coin_is_a_region_of_its_own():
    labels = segment(coins(), Recipe(method=Spectral(n_regions=25, extra_regions=0, smallest_region=15))).labels
    found, n_coins = ndimage.label(ndimage.binary_opening(ndimage.gaussian_filter(coins(), 3) > 120, iterations=5))
    centres = np.array(ndimage.center_of_mass(found > 0, found, range(1, n_coins + 1))).round().astype(int)
    owners = labels[tuple(centres.T)]
    assert n_coins >= 15
    assert len(set(owners.tolist())) >= 0.9 * n_coins


@pytest.mark.parametrize("n_circles", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_touching_circles_are_told_apart(n_circles, seed):
    rows, columns = np.indices((100, 100))
    truth = np.zeros((100, 100), dtype=int)
    for number, (row, column, radius) in enumerate([(28, 24, 16), (40, 50, 14), (67, 58, 15), (24, 70, 14)], start=1):
        if number <= n_circles:
            truth[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = number
    mask = truth > 0
    image = mask + 1 + 0.2 * np.random.default_rng(seed).standard_normal(truth.shape)
    method = Spectral(n_regions=n_circles, extra_regions=0, beta=1, eps=0)
    labels = segment(image, Recipe(sigma=0, scale=1, method=method), mask).labels
    assert adjusted_rand_score(truth[mask], labels[mask]) > 0.9


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=40, deadline=None, derandomize=True)  # how much the two differ is measured, not proven
def test_a_turned_picture_is_cut_about_as_low(seed, k):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.random((16, 20)), 1.5)
    upright, turned = (pixel_graph(np.ascontiguousarray(each), beta=3) for each in (image, image.T))
    cuts = [normalized_cut(graph, multilevel_cut(graph, n_regions=k)) for graph in (upright, turned)]
    labels = multilevel_cut(turned, n_regions=k).reshape(20, 16).T.ravel()
    assert normalized_cut(upright, labels) == pytest.approx(cuts[1], rel=1e-9)
    assert max(cuts) <= 1.25 * min(cuts) + 1e-9


def test_the_same_graph_gives_the_same_labels(small_coins):
    graph = pixel_graph(small_coins)
    np.testing.assert_array_equal(multilevel_cut(graph), multilevel_cut(graph.copy()))


@pytest.mark.parametrize("smallest", [1, 10, 30])
def test_regions_have_the_size_that_is_asked_for(small_coins, smallest):
    graph = pixel_graph(small_coins)
    sizes = np.bincount(multilevel_cut(graph, n_regions=29, smallest=smallest))
    assert len(sizes) == 29
    assert sizes.min() >= smallest
    assert smallest == 30 or sizes.min() < 30


@pytest.mark.parametrize("k", [2, 90, 700])
def test_any_number_of_regions_is_found(small_coins, k):
    assert len(np.unique(multilevel_cut(pixel_graph(small_coins), n_regions=k))) == k


def test_graphs_of_wider_neighbourhoods_are_cut_too():
    image = rescale(smooth(coins(), 2), 0.1)
    graph = affinity_graph(image, radius=5)
    exact = spectral(graph, n_regions=8, extra_regions=0, eigen_solver="arpack")
    labels = multilevel_cut(graph, n_regions=8)
    assert normalized_cut(graph, labels) <= 1.02 * normalized_cut(graph, exact)
    recipe = Recipe(scale=0.1, method=Spectral(n_regions=8, extra_regions=0, radius=5))
    assert same_partition(segment(coins(), recipe).working_labels.ravel(), labels)


def test_a_graph_without_edges_is_all_isolated_nodes():
    mask = np.zeros((3, 5), dtype=bool)
    mask[::2, ::2] = True
    graph = pixel_graph(np.zeros((3, 5)), mask=mask)
    assert multilevel_cut(graph, n_regions=2).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [({"n_regions": 0}, ParameterError), ({"smallest": 0}, ParameterError), ({"n_regions": 10}, ImageError)],
)
def test_what_cannot_be_is_refused(wrong, kind):
    with pytest.raises(kind):
        multilevel_cut(pixel_graph(np.zeros((3, 3))), **wrong)


def test_the_diagonal_takes_no_part_in_the_small_eigenproblem():
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(30, 30)), 2) * 40
    graph = pixel_graph(image)  # exp(700) on the diagonal, where pixels are negative
    bare = graph.copy()
    bare.setdiag(0)
    bare.eliminate_zeros()
    np.testing.assert_array_equal(multilevel_cut(graph, n_regions=4), multilevel_cut(bare, n_regions=4))


@pytest.mark.parametrize("beta", [1e4, 1e300])
def test_weights_that_are_almost_all_zero_give_regions_too(beta):
    image = np.random.default_rng(0).integers(-500, 500, (12, 9)).astype(np.int16)
    method = Spectral(n_regions=5, extra_regions=0, beta=beta)
    labels = segment(image, Recipe(sigma=0, scale=1, method=method)).labels
    assert len(np.unique(labels)) >= 5
