import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.boosting import as_forest
from benchmarks.bsds_scores import Truth
from benchmarks.train_hierarchy import borders_met, cues_of, example_of
from segmentation.kernels.forest import log_odds, write_log_odds
from segmentation.kernels.merging import N_FEATURES
from segmentation.kernels.strength import N_PLACE
from segmentation.learned import learned, untrained
from segmentation.strength import VIEWS


def test_a_forest_gives_the_log_odds_of_scikit_learns_model():
    rng = np.random.default_rng(0)
    rows = rng.random((3000, 5)).astype(np.float32)
    answers = rows[:, 0] + rows[:, 1] * rows[:, 2] + rng.normal(0, 0.3, 3000) > 0.8
    model = HistGradientBoostingClassifier(max_iter=12, max_depth=4, max_leaf_nodes=16, early_stopping=False)
    model.fit(rows, answers)
    forest = as_forest(model, 4)
    expected = model.decision_function(rows[:50])
    found = [log_odds(forest, row.astype(np.float64)) for row in rows[:50]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    together = np.empty(50)
    write_log_odds(forest, rows[:50], together)
    np.testing.assert_array_equal(together, found)


def test_what_is_committed_asks_for_features_that_there_are():
    n_views = sum(len(distances) for kinds in VIEWS.values() for distances in kinds.values())
    for forest, n_features in ((learned().borders, N_FEATURES), (learned().pixels, n_views + N_PLACE)):
        assert forest.features.shape == forest.thresholds.shape == (len(forest.values), forest.values.shape[1] - 1)
        assert 0 <= forest.features.min() <= forest.features.max() < n_features
        assert len(forest.values) > 0
    assert 0 < learned().usual_cut < 1


def test_probabilities_are_the_parts_of_pairs_that_people_divide():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 20:40], image[:, 40:] = (200, 40, 40), (40, 200, 40)
    stripes = np.repeat([[1, 2, 3]], 40, axis=0).repeat(20, axis=1)
    one_drew_less = Truth([stripes, np.minimum(stripes, 2)], [stripes == 0] * 2)
    each = example_of(cues_of(image, learned().pixels), one_drew_less)
    assert each.base.max() == 3
    rows, probabilities, weights = borders_met(each, untrained(), np.random.default_rng(0))
    assert rows.shape[1] == N_FEATURES
    # Both see the first border, one the second; that the whole is merged to one region leaves no third.
    assert sorted(probabilities[:2]) == pytest.approx([0.5, 1.0])
    assert weights[:2] == pytest.approx(np.sqrt(800))
