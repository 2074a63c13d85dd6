"""Ward's greedy merging of neighbours, and cuts of its tree.

An edge belongs to the newer of its two clusters; every live cluster has one entry in the heap, the cheapest edge that
it owns.
"""

import numpy as np

from segmentation.arrays import Bools, Floats, Integers
from segmentation.kernels.compiled import compiled
from segmentation.kernels.heap import heapify, replace_first


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
    those of scikit-learn's ``ward_tree``, which keeps every edge in its heap.
    """
    n_nodes = len(values)
    n_all = 2 * n_nodes
    sizes, sums = np.ones(n_all), np.zeros((n_all, values.shape[1]))
    sizes[:n_nodes], sums[:n_nodes] = counts, values * counts.reshape(-1, 1)
    parents = np.arange(n_all).astype(np.int32)
    alive, met = np.arange(n_all) < n_nodes, np.full(n_all, -1, np.int32)
    starts, stops = np.zeros(n_all, np.int64), np.zeros(n_all, np.int64)
    starts[:n_nodes], stops[:n_nodes] = indptr[:-1], indptr[1:]
    # Two lists joined are never longer than both: once packed, they leave room for any new one.
    neighbours, prices = np.empty(2 * len(indices), np.int32), np.empty(2 * len(indices))
    heap = np.empty(n_nodes), np.empty(n_nodes, np.int32), np.empty(n_nodes, np.int32)
    count = _first_edges(indptr, indices, neighbours, prices, sizes, sums, alive, heap)
    children, costs = np.empty((n_nodes, 2), np.int32), np.empty(n_nodes)
    new, end = n_nodes, len(indices)
    while count > 0:
        cost, newer, older = heap[0][0], heap[1][0], heap[2][0]
        if not alive[newer]:
            count = replace_first(heap, count, 0.0, -1, -1)
        elif not alive[older]:
            cost, older = _cheapest(neighbours, prices, starts[newer], stops[newer], alive)
            count = replace_first(heap, count, cost, newer, older)
        else:
            if end + stops[newer] - starts[newer] + stops[older] - starts[older] > len(neighbours):
                end = _pack(neighbours, prices, starts, stops, alive, new)
            children[new - n_nodes, 0], children[new - n_nodes, 1], costs[new - n_nodes] = older, newer, cost
            alive[newer], alive[older], alive[new] = False, False, True
            parents[newer] = parents[older] = new
            sizes[new] = sizes[newer] + sizes[older]
            for channel in range(sums.shape[1]):
                sums[new, channel] = sums[newer, channel] + sums[older, channel]
            starts[new], met[new] = end, new
            end, cost, older = _join(
                neighbours, prices, starts, stops, newer, older, end, new, parents, met, sizes, sums
            )
            stops[new] = end
            count = replace_first(heap, count, cost, new, older)
            new += 1
    return children[: new - n_nodes].copy(), costs[: new - n_nodes].copy()


@compiled
def _first_edges(
    indptr: Integers,
    indices: Integers,
    neighbours: Integers,
    prices: Floats,
    sizes: Floats,
    sums: Floats,
    alive: Bools,
    heap: tuple[Floats, Integers, Integers],
) -> int:
    """Give every node its edges to older ones, and make the heap of each node's cheapest; return its length."""
    count = 0
    for node in range(len(indptr) - 1):
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            neighbours[edge] = other
            prices[edge] = _price(sizes, sums, node, other) if other < node else np.inf
        cost, older = _cheapest(neighbours, prices, indptr[node], indptr[node + 1], alive)
        if older >= 0:
            heap[0][count], heap[1][count], heap[2][count] = cost, node, older
            count += 1
    heapify(heap, count)
    return count


@compiled
def _join(
    neighbours: Integers,
    prices: Floats,
    starts: Integers,
    stops: Integers,
    one: int,
    another: int,
    end: int,
    new: int,
    parents: Integers,
    met: Integers,
    sizes: Floats,
    sums: Floats,
) -> tuple[int, float, int]:
    """Write the joint list of two clusters, each neighbour once; return its end, and the cheapest edge as above."""
    cost, oldest = np.inf, -1
    for cluster in (one, another):
        for edge in range(starts[cluster], stops[cluster]):
            other = _current(parents, neighbours[edge])
            if met[other] != new:
                met[other] = new
                price = _price(sizes, sums, new, other)
                neighbours[end], prices[end] = other, price
                end += 1
                if price < cost or (price == cost and other < oldest):
                    cost, oldest = price, other
    return end, cost, oldest


@compiled
def _price(sizes: Floats, sums: Floats, one: int, other: int) -> float:
    """Return what a merge of two clusters adds to the sum of squares within regions (Ward 1963)."""
    distance = 0.0
    for channel in range(sums.shape[1]):
        difference = sums[one, channel] / sizes[one] - sums[other, channel] / sizes[other]
        distance += difference * difference
    return float(distance * ((sizes[one] * sizes[other]) / (sizes[one] + sizes[other])))


@compiled
def _current(parents: Integers, cluster: int) -> int:
    """Return the cluster that one has become part of, and shorten the way for the next who asks."""
    while parents[cluster] != cluster:
        parents[cluster] = parents[parents[cluster]]
        cluster = parents[cluster]
    return cluster


@compiled
def _cheapest(neighbours: Integers, prices: Floats, start: int, stop: int, alive: Bools) -> tuple[float, int]:
    """Find the cheapest edge of a list, of equal ones that to the oldest cluster; -1 if it owns none to a live one."""
    cost, oldest = np.inf, -1
    for edge in range(start, stop):
        if prices[edge] < np.inf:
            other = neighbours[edge]
            if not alive[other]:
                prices[edge] = np.inf
            elif prices[edge] < cost or (prices[edge] == cost and other < oldest):
                cost, oldest = prices[edge], other
    return cost, oldest


@compiled
def _pack(
    neighbours: Integers, prices: Floats, starts: Integers, stops: Integers, alive: Bools, n_clusters: int
) -> int:
    """Close the gaps that merged clusters left between the lists, which lie in the order of their clusters."""
    end = 0
    for cluster in range(n_clusters):
        if alive[cluster]:
            start = end
            for edge in range(starts[cluster], stops[cluster]):
                neighbours[end], prices[end] = neighbours[edge], prices[edge]
                end += 1
            starts[cluster], stops[cluster] = start, end
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
