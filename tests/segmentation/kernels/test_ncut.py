import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.graphs import pixel_graph
from segmentation.kernels.coarsening import Level, contract, edge_sums, match
from segmentation.kernels.ncut import cuts_and_volumes, merge_greedily, ratio_sum, refine
from segmentation.kernels.ward import cut_merges
from segmentation.spectral import normalized_cut


def level_of(graph):
    indptr = graph.indptr.astype(np.int32)
    sums = edge_sums(indptr, graph.indices, graph.data)
    return Level(indptr, graph.indices, graph.data, sums, np.ones(len(sums), np.int32))


@st.composite
def graphs(draw):
    """Draw grids of up to 80 pixels, connected, with ties in half of them."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    image = rng.random(rng.integers(2, 10, size=2))
    return pixel_graph(
        image.round(1) if draw(st.booleans()) else image, beta=2, connectivity=draw(st.sampled_from([4, 8]))
    )


def no_fences(level):
    return np.zeros(len(level.volumes), np.int32)


def value(level, labels):
    return ratio_sum(*cuts_and_volumes(level, labels, int(labels.max()) + 1))


@given(graphs(), st.integers(2, 6), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_the_value_of_a_cut_is_that_of_the_matrix(graph, k, seed):
    labels = np.random.default_rng(seed).integers(0, k, graph.shape[0]).astype(np.int32)
    assert value(level_of(graph), labels) == pytest.approx(normalized_cut(graph, labels), rel=1e-12)


@given(graphs(), st.integers(2, 6), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_refinement_never_raises_the_cut_and_tells_what_it_is(graph, k, seed):
    labels = np.random.default_rng(seed).integers(0, k, graph.shape[0]).astype(np.int32)
    before = normalized_cut(graph, labels)
    regions = set(labels.tolist())
    found = refine(level_of(graph), labels, k, 1, 30)
    assert found == pytest.approx(normalized_cut(graph, labels), rel=1e-12)
    assert found <= before * (1 + 1e-12)
    assert set(labels.tolist()) == regions


@given(graphs(), st.integers(0, 100), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_refinement_leaves_no_region_smaller_than_it_may_be(graph, seed, smallest):
    level = level_of(graph)
    labels = cut_merges(merge_greedily(level, smallest), graph.shape[0], graph.shape[0] - 2)
    labels = labels.astype(np.int32)
    before = np.bincount(labels).min()
    refine(level, labels, 2, smallest, 30)
    assert np.bincount(labels).min() >= min(smallest, before)


@given(graphs(), st.integers(2, 5), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_cut_of_the_coarse_graph_is_the_same_cut_of_the_fine_one(graph, k, seed):
    level = level_of(graph)
    groups, n_groups = match(level, no_fences(level), np.inf, 0.1)
    coarse = contract(level, groups, n_groups)
    labels = np.random.default_rng(seed).integers(0, k, n_groups).astype(np.int32)
    assert value(coarse, labels) == pytest.approx(normalized_cut(graph, labels[groups]), rel=1e-9)
    assert coarse.sizes.sum() == graph.shape[0]
    assert n_groups < graph.shape[0]


@given(graphs(), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_nothing_is_grouped_across_fences(graph, seed):
    level = level_of(graph)
    fences = np.random.default_rng(seed).integers(0, 2, graph.shape[0]).astype(np.int32)
    groups, n_groups = match(level, fences, np.inf, 0.0)
    assert len(np.unique(np.stack([groups, fences]), axis=1).T) == n_groups


def test_groups_stay_below_the_largest_volume():
    graph = pixel_graph(np.random.default_rng(0).random((8, 8)))
    level = level_of(graph)
    groups, n_groups = match(level, no_fences(level), 1.5 * level.volumes.max(), 0.0)
    assert contract(level, groups, n_groups).volumes.max() <= 1.5 * level.volumes.max()


def greedy_merges(graph, k):
    """Merge as plainly as can be said: try every pair of neighbouring clusters, take the best."""
    labels = np.arange(graph.shape[0])
    while len(names := np.unique(labels)) > k:
        tries = []
        for newer in names:
            for older in names[names < newer]:
                if graph[labels == newer][:, labels == older].nnz:
                    merged = np.where(labels == newer, older, labels)
                    tries.append((normalized_cut(graph, merged), newer, older))
        best = min(cut for cut, _, _ in tries)
        _, newer, older = next(entry for entry in tries if entry[0] <= best + 1e-12)
        labels = np.where((labels == newer) | (labels == older), labels.max() + 1, labels)
    return labels


@pytest.mark.parametrize("seed", range(3))
def test_greedy_merging_takes_the_best_pair_every_time(seed):
    graph = pixel_graph(np.random.default_rng(seed).random((4, 5)), beta=1, connectivity=8)
    level = level_of(graph)
    children = merge_greedily(level, 1)
    for k in (10, 4, 2):
        labels = cut_merges(children, graph.shape[0], graph.shape[0] - k)
        expected = greedy_merges(graph, k)
        assert len(np.unique(np.stack([labels, expected]), axis=1).T) == k


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_cuts_of_the_merges_are_nested(graph):
    level = level_of(graph)
    children = merge_greedily(level, 1)
    fine, coarse = (cut_merges(children, graph.shape[0], graph.shape[0] - k) for k in (4, 2))
    assert len(np.unique(np.stack([fine, coarse]), axis=1).T) == 4
