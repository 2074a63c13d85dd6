import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segmentation.kernels.tournament import play, put, tournament


def cheapest(costs, ids):
    """Return the place of the smallest cost, of equal ones that of the smallest id; None if all are infinite."""
    places = [place for place, cost in enumerate(costs) if cost < np.inf]
    return min(places, key=lambda place: (costs[place], ids[place]), default=None)


@given(st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_root_is_the_cheapest_entry_after_every_change(n_places, seed):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(n_places).astype(np.int32)
    entries = tournament(ids)
    assert entries.costs[1] == np.inf
    # Few costs: most entries are tied.
    costs = rng.choice([0.0, 1.0, 2.0, np.inf], n_places)
    entries.costs[n_places:] = costs
    play(entries)
    for change in range(60):
        expected = cheapest(costs, ids)
        assert entries.costs[1] == (np.inf if expected is None else costs[expected])
        assert expected is None or entries.places[1] == expected
        place, cost = int(rng.integers(n_places)), float(rng.choice([0.0, 1.0, 2.0, np.inf]))
        costs[place], ids[place] = cost, n_places + change
        put(entries, place, cost)


def test_no_place_is_an_empty_tournament():
    assert tournament(np.empty(0, np.int32)).costs[1] == np.inf
