import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import k_means, kmeans_plusplus

from segmentation.kernels.lloyd import lloyd_rounds, seed_points


@st.composite
def clouds(draw):
    """Draw up to 700 points, more than two blocks, of 1 to 9 coordinates in clusters that overlap."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n_coordinates = draw(st.integers(1, 9))
    middles = rng.normal(size=(draw(st.integers(1, 8)), n_coordinates)) * draw(st.sampled_from([0.1, 1.0, 10.0]))
    points = middles[rng.integers(0, len(middles), rng.integers(30, 700))] + rng.normal(size=(1, n_coordinates))
    points += 0.3 * rng.normal(size=points.shape)
    return points - points.mean(axis=0)


def seeded(points, k, random):
    first = random.choice(len(points), p=np.full(len(points), 1 / len(points)))
    draws = random.uniform(size=(k - 1, 2 + int(np.log(k))))
    return seed_points(np.ascontiguousarray(points.T), first, draws)


def squares_to(points, centers):
    return ((points[:, np.newaxis] - centers) ** 2).sum(axis=2)


@given(clouds(), st.integers(2, 12), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_seeds_are_scikit_learns_and_every_point_knows_its_nearest(points, k, seed):
    seeds, labels, squares, margin = seeded(points, k, np.random.RandomState(seed))
    assume(margin > 1e-10 * (points**2).sum())
    _, expected = kmeans_plusplus(points, k, random_state=np.random.RandomState(seed))
    np.testing.assert_array_equal(seeds, expected)
    distances = squares_to(points, points[seeds])
    np.testing.assert_array_equal(labels, distances.argmin(axis=1))
    np.testing.assert_allclose(squares, distances.min(axis=1), rtol=1e-12)
    assert margin <= squares_to(points, points[seeds[:-1]]).min(axis=1).sum() * (1 + 1e-12)


@given(clouds(), st.integers(1, 12), st.sampled_from([0.0, 1e-3, 0.1]), st.sampled_from([1, 3, 300]))
@settings(max_examples=60, deadline=None)
def test_rounds_end_with_the_labels_of_scikit_learns_plain_rounds(points, k, tol, limit):
    seeds, labels, squares, _ = seeded(points, k, np.random.RandomState(0))
    inertia = lloyd_rounds(points, labels, squares, seeds, tol * np.var(points, axis=0).mean(), limit)
    _, expected, expected_inertia = k_means(points, k, init=points[seeds], n_init=1, tol=tol, max_iter=limit)
    np.testing.assert_array_equal(labels, expected)
    assert inertia == pytest.approx(expected_inertia, rel=1e-9)


def test_a_cluster_without_points_is_told():
    points = np.array([[-1.0], [-1.0], [2.0]])
    inertia = lloyd_rounds(points, np.zeros(3, np.int32), np.array([0.0, 0.0, 9.0]), np.array([0, 1]), 0.0, 10)
    assert np.isnan(inertia)


@pytest.mark.parametrize(
    "points",
    [
        [[0.0], [0.0], [0.0], [0.0], [0.0]],
        # Two pairs far away: either point of a pair is as good a seed as the other.
        [[0.0, 1.0, 0.0], [100.0, 1.0, 1.0], [100.0, -1.0, 1.0], [-300.0, 1.0, 2.0], [-300.0, -1.0, 2.0]],
    ],
)
def test_the_margin_tells_that_rounding_decides(points):
    columns = np.ascontiguousarray(np.transpose(points))
    draws = np.array([[0.8, 0.99], [0.2, 0.99]])
    *_, margin = seed_points(columns, 0, draws)
    assert margin <= 1e-9
