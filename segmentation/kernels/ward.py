"""Ward's greedy merging of neighbours, and cuts of its tree.

A cluster lives at the place of one of its nodes, so that what is close in the image is close in memory. An edge
belongs to the newer of its two clusters; every live cluster takes part in the tournament with the cheapest edge that
it owns.
"""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled
from segmentation.kernels.tournament import Tournament, play, put, tournament


class Clusters(NamedTuple):
    """What is known of the cluster at each of P places.

    Ids count the nodes, then the merges; without a cluster a place has the id 2P, and its parent is a place that its
    last cluster went to. The partner is where the cheapest edge leads, -1 for none. `met` is a note of who came by.
    """

    ids: Integers
    parents: Integers
    partners: Integers
    met: Integers
    sizes: Floats
    sums: Floats
    means: Floats


class Lists(NamedTuple):
    """For every place the list of its neighbours' places, and where it starts and stops.

    Edges that the cluster does not own have an infinite price. `holders` has the place of every cluster, by id.
    """

    starts: Integers
    stops: Integers
    holders: Integers
    neighbours: Integers
    prices: Floats


@compiled
def ward_merges(indptr: Integers, indices: Integers, values: Floats, counts: Floats) -> tuple[Integers, Floats]:
    """Merge neighbouring clusters, always the two whose union is cheapest, until none have neighbours.

    Parameters
    ----------
    indptr : ndarray of int64, shape (P + 1,)
    indices : ndarray of int32
        Neighbours of P nodes, as in a CSR matrix: symmetric.
    values : ndarray of float64, shape (P, C)
        Values of the nodes.
    counts : ndarray of float64, shape (P,)
        How many times each node counts.

    Returns
    -------
    children : ndarray of int32, shape (M, 2)
        The two clusters of every merge, older first; merge i makes the cluster P + i.
    costs : ndarray of float64, shape (M,)
        What every merge adds to the sum of squares within regions.

    Notes
    -----
    A cluster keeps the list of its neighbours and the price of the edges that it owns; the list is searched again only
    when its cheapest edge leads to a cluster that has been merged. The merges, their order and how ties are broken are
    those of scikit-learn's ``ward_tree``, which keeps every edge in a heap.
    """
    n_nodes = len(values)
    clusters = _singles(values, counts)
    lists = _first_lists(indptr, indices, clusters)
    entries = _first_entries(clusters, lists)
    children, costs = np.empty((n_nodes, 2), np.int32), np.empty(n_nodes)
    new, end = n_nodes, len(indices)
    while entries.costs[1] < np.inf:
        cost, newer = entries.costs[1], entries.places[1]
        older = clusters.partners[newer]
        if clusters.ids[older] > clusters.ids[newer]:
            # The partner has been merged since.
            put(entries, newer, _cheapest(clusters, lists, newer))
        else:
            if end + _length(lists, newer) + _length(lists, older) > len(lists.prices):
                end = _pack(clusters, lists, new)
            merge = new - n_nodes
            children[merge, 0], children[merge, 1], costs[merge] = clusters.ids[older], clusters.ids[newer], cost
            # Others know the one of the longer list by its place: let it stay there.
            kept, gone = (older, newer) if _length(lists, older) > _length(lists, newer) else (newer, older)
            _merge(clusters, kept, gone, new)
            end, cost = _join(clusters, lists, kept, gone, new, end)
            put(entries, gone, np.inf)
            put(entries, kept, cost)
            new += 1
    return children[: new - n_nodes].copy(), costs[: new - n_nodes].copy()


@compiled
def _singles(values: Floats, counts: Floats) -> Clusters:
    """Make every node a cluster."""
    n_nodes = len(values)
    places = np.arange(n_nodes).astype(np.int32)
    sums = values * counts.reshape(-1, 1)
    means = sums / counts.reshape(-1, 1)
    met = np.full(n_nodes, -1, np.int32)
    return Clusters(places, places.copy(), np.full(n_nodes, -1, np.int32), met, counts.copy(), sums, means)


@compiled
def _first_lists(indptr: Integers, indices: Integers, clusters: Clusters) -> Lists:
    """Give every node its edges to older ones."""
    n_nodes = len(clusters.ids)
    # Two lists joined are never longer than both: once packed, they leave room for any new one.
    neighbours, prices = np.empty(2 * len(indices), np.int32), np.empty(2 * len(indices))
    for node in range(n_nodes):
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            neighbours[edge] = other
            prices[edge] = _price(clusters, node, other) if other < node else np.inf
    holders = np.empty(2 * n_nodes, np.int32)
    holders[:n_nodes] = clusters.ids
    return Lists(indptr[:-1].copy(), indptr[1:].copy(), holders, neighbours, prices)


@compiled
def _first_entries(clusters: Clusters, lists: Lists) -> Tournament:
    """Make the tournament of each node's cheapest edge."""
    n_nodes = len(clusters.ids)
    entries = tournament(clusters.ids)
    for node in range(n_nodes):
        entries.costs[n_nodes + node] = _cheapest(clusters, lists, node)
    play(entries)
    return entries


@compiled
def _length(lists: Lists, place: int) -> int:
    return int(lists.stops[place] - lists.starts[place])


@compiled
def _merge(clusters: Clusters, kept: int, gone: int, new: int) -> None:
    """Make the cluster `new` of two, at the place of one of them."""
    ids, parents, _, met, sizes, sums, means = clusters
    ids[kept], ids[gone], parents[gone], met[kept] = new, 2 * len(ids), kept, new
    sizes[kept] += sizes[gone]
    for channel in range(sums.shape[1]):
        sums[kept, channel] += sums[gone, channel]
        means[kept, channel] = sums[kept, channel] / sizes[kept]


@compiled
def _join(clusters: Clusters, lists: Lists, kept: int, gone: int, new: int, end: int) -> tuple[int, float]:
    """Write the joint list of two clusters, each neighbour once; return its end, and what the cheapest edge costs."""
    ids, parents, met = clusters.ids, clusters.parents, clusters.met
    start, cost, partner = end, np.inf, -1
    for place in (kept, gone):
        for edge in range(lists.starts[place], lists.stops[place]):
            other = _current(parents, lists.neighbours[edge])
            if met[other] != new:
                met[other] = new
                price = _price(clusters, kept, other)
                lists.neighbours[end], lists.prices[end] = other, price
                end += 1
                if price < cost or (price == cost and ids[other] < ids[partner]):
                    cost, partner = price, other
    lists.starts[kept], lists.stops[kept], lists.holders[new] = start, end, kept
    clusters.partners[kept] = partner
    return end, cost


@compiled
def _price(clusters: Clusters, one: int, other: int) -> float:
    """Return what a merge of two clusters adds to the sum of squares within regions (Ward 1963)."""
    sizes, means = clusters.sizes, clusters.means
    distance = 0.0
    for channel in range(means.shape[1]):
        difference = means[one, channel] - means[other, channel]
        distance += difference * difference
    return float(distance * ((sizes[one] * sizes[other]) / (sizes[one] + sizes[other])))


@compiled
def _current(parents: Integers, place: int) -> int:
    """Return where the cluster is that a place's has become part of, and shorten the way for the next who asks."""
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


@compiled
def _cheapest(clusters: Clusters, lists: Lists, place: int) -> float:
    """Find the cheapest edge that a cluster owns to a live one, of equal ones that to the oldest; infinite if none."""
    ids, neighbours, prices = clusters.ids, lists.neighbours, lists.prices
    cost, partner = np.inf, -1
    for edge in range(lists.starts[place], lists.stops[place]):
        if prices[edge] < np.inf and prices[edge] <= cost:
            other = neighbours[edge]
            if ids[other] > ids[place]:
                prices[edge] = np.inf
            elif prices[edge] < cost or ids[other] < ids[partner]:
                cost, partner = prices[edge], other
    clusters.partners[place] = partner
    return cost


@compiled
def _pack(clusters: Clusters, lists: Lists, n_clusters: int) -> int:
    """Close the gaps that merged clusters left between the lists, which lie in the order of their clusters' ids."""
    starts, stops, holders, neighbours, prices = lists
    end = 0
    for cluster in range(n_clusters):
        place = holders[cluster]
        if clusters.ids[place] == cluster:
            start = end
            for edge in range(starts[place], stops[place]):
                neighbours[end], prices[end] = neighbours[edge], prices[edge]
                end += 1
            starts[place], stops[place] = start, end
    return end


@compiled
def cut_merges(children: Integers, n_nodes: int, n_merges: int) -> Integers:
    """Label the nodes by the clusters that there are after the first merges, in the order of their first nodes.

    Parameters
    ----------
    children : ndarray of int32, shape (M, 2)
        From `ward_merges`.
    n_nodes, n_merges : int
        P, and how many of the M merges happen.

    Returns
    -------
    labels : ndarray of int64, shape (P,)
        From 0.
    """
    roots = np.arange(n_nodes + n_merges)
    for merge in range(n_merges - 1, -1, -1):
        roots[children[merge, 0]] = roots[children[merge, 1]] = roots[n_nodes + merge]
    numbers = np.full(n_nodes + n_merges, -1)
    labels = np.empty(n_nodes, np.int64)
    count = 0
    for node in range(n_nodes):
        if numbers[roots[node]] < 0:
            numbers[roots[node]] = count
            count += 1
        labels[node] = numbers[roots[node]]
    return labels
