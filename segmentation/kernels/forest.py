"""Boosted regression trees: what they are, and what they say of one row of features or of many."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled

Singles = NDArray[np.float32]


class Forest(NamedTuple):
    """Regression trees, one after the other: nodes of which each asks whether a feature is at most a threshold.

    Nodes 2i + 1 and 2i + 2 of a tree of depth D would be the children of node i; a leaf further up is repeated.
    """

    features: Integers  # (T, 2**D - 1)
    thresholds: Singles  # (T, 2**D - 1)
    values: Singles  # (T, 2**D)
    bias: float


@compiled
def log_odds(forest: Forest, row: Floats) -> float:
    """Return what all trees say of one row of features, shape (F,)."""
    total = forest.bias
    for tree in range(len(forest.features)):
        total += _answer(forest.features[tree], forest.thresholds[tree], forest.values[tree], row)
    return float(total)


@compiled
def write_log_odds(forest: Forest, rows: Singles, odds: Floats) -> None:
    """Write what all trees say of rows, shape (B, F), to `odds`, shape (B,).

    Tree by tree: a tree's nodes stay at hand, and the ways of several rows through it do not wait for each other.
    """
    odds[:] = forest.bias
    for tree in range(len(forest.features)):
        features, thresholds, values = forest.features[tree], forest.thresholds[tree], forest.values[tree]
        for index in range(len(rows)):
            odds[index] += _answer(features, thresholds, values, rows[index])


@compiled
def _answer(features: Integers, thresholds: Singles, values: Singles, row: Floats) -> float:
    """Walk down one tree."""
    # Unsigned numbers: indices that might be negative cost a test each.
    n_nodes, node = np.uint64(len(features)), np.uint64(0)
    one, two = np.uint64(1), np.uint64(2)
    while node < n_nodes:
        node = two * node + one + np.uint64(row[features[node]] > thresholds[node])
    return float(values[node - n_nodes])
