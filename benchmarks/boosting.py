"""Boosted regression trees for probabilities, learned by scikit-learn and written as the library reads them."""

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import read_only
from segmentation.kernels.forest import Forest

Rows = tuple[NDArray, NDArray, NDArray]


def boost(seen: list[Rows], *, n_trees: int, depth: int, rate: float) -> Forest:
    """Boost trees for the log-odds of a probability.

    Parameters
    ----------
    seen : list of (rows, probabilities, weights)
        Features, shape (N, F), and for each row a probability and a weight: it counts for both answers, in its parts.
    n_trees, depth, rate
        Number of trees, how many questions each asks at most, and what part of its answer counts.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows, probabilities, weights = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    model = HistGradientBoostingClassifier(
        max_iter=n_trees,
        max_depth=depth,
        max_leaf_nodes=2**depth,
        learning_rate=rate,
        l2_regularization=1.0,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=0,
    )
    answers = np.repeat([1, 0], len(rows))
    shares = np.concatenate([weights * probabilities, weights * (1 - probabilities)])
    counts = shares > 1e-9
    model.fit(np.concatenate([rows, rows])[counts], answers[counts], sample_weight=shares[counts])
    return as_forest(model, depth)


def as_forest(model, depth: int) -> Forest:
    """Write a model of scikit-learn's as full binary trees; where one stops early, what follows asks nothing."""
    n_nodes, trees = 2**depth - 1, [stage[0].nodes for stage in model._predictors]
    features = np.zeros((len(trees), n_nodes), np.uint16)
    thresholds = np.full((len(trees), n_nodes), np.inf, np.float32)
    values = np.zeros((len(trees), n_nodes + 1), np.float32)
    for number, nodes in enumerate(trees):
        places = [(0, 0)]
        while places:
            node, place = places.pop()
            if nodes[node]["is_leaf"]:
                first = last = place
                while first < n_nodes:
                    first, last = 2 * first + 1, 2 * last + 2
                values[number, first - n_nodes : last - n_nodes + 1] = nodes[node]["value"]
            else:
                features[number, place] = nodes[node]["feature_idx"]
                thresholds[number, place] = nodes[node]["num_threshold"]
                places += [(nodes[node]["left"], 2 * place + 1), (nodes[node]["right"], 2 * place + 2)]
    bias = float(np.ravel(model._baseline_prediction)[0])
    return Forest(read_only(features), read_only(thresholds), read_only(values), bias)
