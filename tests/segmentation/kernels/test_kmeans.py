import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from segmentation.kernels.cells import cell_means, new_at, sorted_cells
from segmentation.kernels.kmeans import lloyd, seed_centres, settle

RNG = np.random.default_rng(0)
POINTS = RNG.random((3, 900)) * 255
WEIGHTS = RNG.integers(1, 9, 900).astype(float)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_cells_of_every_grid_are_runs_in_one_order(n_channels, bits, seed):
    features = np.random.default_rng(seed).random((200, n_channels)) ** 2
    packed = sorted_cells(features, np.zeros(n_channels), 2.0**bits, bits)
    pixels = packed & np.uint64(2**32 - 1)
    np.testing.assert_array_equal(np.sort(pixels), np.arange(200))
    levels = new_at(packed, np.arange(201), bits, n_channels)
    for level in range(bits + 1):
        cells = np.floor(features[pixels] * 2**level)
        changes = np.any(cells[1:] != cells[:-1], axis=1)
        np.testing.assert_array_equal(changes, levels[1:] <= level)
        assert changes.sum() + 1 == len(np.unique(cells, axis=0))


def test_cells_keep_the_weights_and_the_centre_of_mass():
    levels = np.array([0, 3, 1, 3, 2, 3] * 150, np.int8)
    means, masses, new = cell_means(POINTS, WEIGHTS, levels, 1)
    assert new.tolist() == [0, 1] * 150
    assert masses[0] == WEIGHTS[:2].sum()
    assert masses[1] == WEIGHTS[2:6].sum()
    np.testing.assert_allclose(means @ masses, POINTS @ WEIGHTS)
    np.testing.assert_allclose(means[:, 1], np.average(POINTS[:, 2:6], axis=1, weights=WEIGHTS[2:6]))


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
def test_rounds_from_the_same_start_are_scikit_learns(n_channels):
    points = RNG.random((n_channels, 700))
    centres = points[:, :6].T.copy()
    reference = KMeans(6, init=centres, n_init=1, max_iter=300, tol=0).fit(points.T, sample_weight=WEIGHTS[:700])
    gain = lloyd(points, WEIGHTS[:700], centres, 300, 0.0)
    np.testing.assert_allclose(centres, reference.cluster_centers_)
    labels, inertia = settle(points, WEIGHTS[:700], centres)
    np.testing.assert_array_equal(labels, reference.labels_)
    assert inertia == pytest.approx(reference.inertia_)
    assert gain == pytest.approx((points**2 @ WEIGHTS[:700]).sum() - inertia)


def test_rounds_end_when_the_centres_moved_less_than_the_tolerance():
    def after(max_iter, tol):
        centres = POINTS[:, :5].T.copy()
        lloyd(POINTS, WEIGHTS, centres, max_iter, tol)
        return centres

    rounds = [after(n, 0.0) for n in range(1, 9)]
    moves = [np.linalg.norm(rounds[i + 1] - rounds[i]) for i in range(7)]
    stop = int(np.argmin(moves))
    np.testing.assert_array_equal(after(100, moves[stop] * 1.001), rounds[stop + 1])
    assert not np.array_equal(after(100, moves[stop] * 0.999), rounds[stop + 1])


def test_centres_that_nobody_is_near_get_points():
    centres = np.vstack([POINTS[:, :2].T, np.full((3, 3), 1e4)])
    lloyd(POINTS, WEIGHTS, centres, 100, 0.0)
    labels, inertia = settle(POINTS, WEIGHTS, centres)
    assert len(np.unique(labels)) == 5
    assert inertia < 1.2 * KMeans(5, n_init=3, random_state=0).fit(POINTS.T, sample_weight=WEIGHTS).inertia_
    centres = np.vstack([POINTS[:, :2].T, np.full((3, 3), 1e4)])
    assert len(np.unique(settle(POINTS, WEIGHTS, centres)[0])) == 5


def test_fewer_places_than_centres_leave_some_without_points():
    points = np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    labels, inertia = settle(points, np.ones(3), np.array([[1.0, 0.0], [9.0, 9.0], [8.0, 8.0]]))
    assert inertia == 0
    assert len(np.unique(labels)) == 2


def test_starts_are_points_far_from_each_other_and_heavy_ones_likelier():
    blobs = np.repeat([[0.0, 0.0, 0.0], [99.0, 0.0, 0.0], [0.0, 99.0, 0.0]], 300, axis=0).T + POINTS * 1e-3
    starts = seed_centres(blobs, WEIGHTS, RNG.random((3, 3)))
    assert {tuple(start) for start in np.floor(starts / 50).tolist()} == {(0, 0, 0), (1, 0, 0), (0, 1, 0)}
    heavy = np.where(np.arange(900) == 123, 1e6, 1.0)
    firsts = [seed_centres(POINTS, heavy, RNG.random((1, 2)))[0] for _ in range(20)]
    assert sum(np.array_equal(first, POINTS[:, 123]) for first in firsts) >= 19
