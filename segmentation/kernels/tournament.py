"""A tournament: a binary tree over places, in which every node holds the cheapest entry below it.

Place p of N is leaf N + p, node i has the children 2i and 2i + 1, and node 1 holds the cheapest entry of all. Unlike
in a heap, an entry is changed or taken out where it is, on one way up without any search, and its neighbours in the
tree are those in the image.
"""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled


class Tournament(NamedTuple):
    """The costs and the places of the entries that the 2N nodes hold; of equal ones the smaller id wins.

    Empty places cost infinity. Ids belong to places, N of them; an entry whose id changes must be put in anew.
    """

    costs: Floats
    places: Integers
    ids: Integers


@compiled
def tournament(ids: Integers) -> Tournament:
    """Set up N empty places."""
    # No place at all would leave no root to ask.
    n_places = max(len(ids), 1)
    places = np.empty(2 * n_places, np.int32)
    places[n_places:] = np.arange(n_places)
    return Tournament(np.full(2 * n_places, np.inf), places, ids)


@compiled
def play(entries: Tournament) -> None:
    """Let the entries at the leaves compete, all of them: O(N)."""
    costs, places, _ = entries
    for node in range(len(costs) // 2 - 1, 0, -1):
        better = 2 * node
        if _beats(entries, costs[better + 1], places[better + 1], costs[better], places[better]):
            better += 1
        costs[node], places[node] = costs[better], places[better]


@compiled
def put(entries: Tournament, place: int, cost: float) -> None:
    """Put an entry into a place, or with infinite `cost` take it out: O(log N)."""
    costs, places, _ = entries
    node, winner = len(costs) // 2 + place, place
    costs[node] = cost
    while node > 1:
        rival = node ^ 1
        if _beats(entries, costs[rival], places[rival], cost, winner):
            cost, winner = costs[rival], places[rival]
        node >>= 1
        # Another entry held this node before and still does: nothing changes further up.
        if winner != place and places[node] == winner and costs[node] == cost:
            break
        costs[node], places[node] = cost, winner


@compiled
def _beats(entries: Tournament, cost: float, place: int, other_cost: float, other_place: int) -> bool:
    return cost < other_cost or (cost == other_cost and entries.ids[place] < entries.ids[other_place])
