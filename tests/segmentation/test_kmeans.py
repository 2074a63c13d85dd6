from itertools import pairwise

import numpy as np
import pytest
from skimage.color import rgb2lab

from segmentation import ImageError, ParameterError, same_partition
from segmentation.kmeans import color_features, kmeans

POINTS = np.random.default_rng(0).random((300, 3)) * 255


def test_tolerance_is_the_distance_that_centres_move():
    rounds = [kmeans(POINTS, n_clusters=5, n_init=1, max_iter=n, tol=0).centers for n in range(1, 8)]
    moves = [np.linalg.norm(after - before) for before, after in pairwise(rounds)]
    stop = int(np.argmin(moves))
    stopped = kmeans(POINTS, n_clusters=5, n_init=1, tol=moves[stop] * 1.001).centers
    went_on = kmeans(POINTS, n_clusters=5, n_init=1, tol=moves[stop] * 0.999).centers
    np.testing.assert_allclose(stopped, rounds[stop + 1])
    assert not np.allclose(went_on, stopped)


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_fewer_colours_than_clusters_give_a_cluster_for_each_colour(algorithm):
    points = np.repeat([[1.0, 2.0], [3.0, 4.0]], 20, axis=0)
    result = kmeans(points, n_clusters=5, algorithm=algorithm)
    assert result.labels.tolist() == [0] * 20 + [1] * 20
    np.testing.assert_array_equal(result.centers, [[1, 2], [3, 4]])
    assert result.inertia == 0


def test_a_rare_colour_that_no_sample_sees_still_counts():
    points = np.zeros((50_000, 1))
    points[12_345] = 1
    assert len(kmeans(points, n_clusters=2).centers) == 2


@pytest.mark.parametrize("points", [1 + 1e-15 * POINTS[:, :1], 1e-170 * POINTS, 1e-155 * POINTS])
def test_colours_that_hardly_differ_are_no_warning(points):
    assert 1 <= len(np.unique(kmeans(points, n_clusters=8).labels)) <= 8


def test_inertia_is_the_sum_of_squared_distances():
    result = kmeans(POINTS, n_clusters=4)
    assert result.inertia == pytest.approx(((POINTS - result.centers[result.labels]) ** 2).sum())


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_same_seed_same_labels(algorithm):
    first, second = (kmeans(POINTS, n_clusters=6, algorithm=algorithm, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_one_cluster_is_the_mean():
    np.testing.assert_allclose(kmeans(POINTS, n_clusters=1).centers[0], POINTS.mean(axis=0))


def test_as_many_clusters_as_points_are_the_points():
    assert same_partition(kmeans(POINTS[:9], n_clusters=9).labels, np.arange(9))


def test_more_clusters_than_pixels_are_refused_with_both_numbers():
    with pytest.raises(ImageError, match="10 clusters are more than the 9 pixels"):
        kmeans(POINTS[:9], n_clusters=10)


@pytest.mark.parametrize(
    "wrong", [{"algorithm": "elkan"}, {"n_init": 0}, {"tol": -1}, {"tol": np.nan}, {"max_iter": 0}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ParameterError, match=r"algorithm|must be"):
        kmeans(POINTS, **wrong)


def test_rgb_and_grey_are_in_grey_levels():
    np.testing.assert_allclose(color_features(np.full((1, 2, 3), 0.2)), np.full((2, 3), 51.0))
    np.testing.assert_allclose(color_features(np.full((1, 2), 0.2), "lab"), np.full((2, 1), 51.0))


def test_lab_is_scikit_images_and_only_of_masked_pixels():
    image = np.random.default_rng(1).random((3, 4, 3))
    mask = np.random.default_rng(2).random((3, 4)) < 0.5
    np.testing.assert_allclose(color_features(image, "lab", mask=mask), rgb2lab(image)[mask])


def test_lab_of_four_channels_is_refused():
    with pytest.raises(ImageError, match="'lab' needs 3 channels, the image has 4"):
        color_features(np.zeros((2, 2, 4)), "lab")


def test_unknown_colour_space_is_refused():
    with pytest.raises(ParameterError, match="unknown color_space 'hsv'; choose rgb or lab"):
        color_features(np.zeros((2, 2, 3)), "hsv")
