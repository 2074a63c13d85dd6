"""Normalized cuts of a graph: their value, greedy merging towards a low one, and refinement of borders."""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Bools, Floats, Integers
from segmentation.kernels.coarsening import Level
from segmentation.kernels.compiled import compiled
from segmentation.kernels.tournament import Tournament, play, put, tournament


@compiled
def cuts_and_volumes(level: Level, labels: Integers, n_regions: int) -> tuple[Floats, Floats]:
    """Sum, for every region, the edges that leave it and the volumes of its nodes."""
    cuts, volumes = np.zeros(n_regions), np.zeros(n_regions)
    for node in range(len(labels)):
        region = labels[node]
        volumes[region] += level.volumes[node]
        for edge in range(level.indptr[node], level.indptr[node + 1]):
            if labels[level.indices[edge]] != region:
                cuts[region] += level.weights[edge]
    return cuts, volumes


@compiled
def ratio_sum(cuts: Floats, volumes: Floats) -> float:
    """Sum cut / volume over the regions that have edges: the normalized cut."""
    total = 0.0
    for region in range(len(cuts)):
        if volumes[region] > 0.0:
            total += cuts[region] / volumes[region]
    return total


class Clusters(NamedTuple):
    """What is known of every cluster: nodes first, then one for each merge; `holders` has its place in the tournament.

    `ratios` are cuts by volumes.
    """

    cuts: Floats
    volumes: Floats
    ratios: Floats
    sizes: Integers
    alive: Bools
    parents: Integers
    holders: Integers


class Edges(NamedTuple):
    """For every cluster the list of its neighbours, where it starts and stops; infinite prices are not its own."""

    starts: Integers
    stops: Integers
    neighbours: Integers
    weights: Floats
    prices: Floats


@compiled
def merge_greedily(level: Level, smallest: int) -> Integers:
    """Merge neighbouring clusters, always the two whose union lowers the normalized cut most.

    Parameters
    ----------
    level : Level
        Graph of P nodes, each a cluster of its own at first.
    smallest : int
        Clusters of fewer pixels merge before all others.

    Returns
    -------
    children : ndarray of int32, shape (M, 2)
        The two clusters of every merge, older first; merge i makes the cluster P + i. `cut_merges` in `kernels.ward`
        turns them into labels.

    Notes
    -----
    An edge belongs to the newer of its two clusters; every live cluster takes part in the tournament with the best edge
    that it owns. O(E log P) time for E edges, as long as lists of neighbours stay short.
    """
    n_nodes = len(level.volumes)
    clusters, edges, end = _singles(level)
    ids, partners = np.arange(n_nodes).astype(np.int32), np.full(n_nodes, -1, np.int32)
    entries = tournament(ids)
    _first_merges(clusters, edges, smallest, entries, partners)
    children, slots = np.empty((n_nodes, 2), np.int32), np.full(2 * n_nodes, -1, np.int64)
    new = n_nodes
    while entries.costs[1] < np.inf:
        place = entries.places[1]
        newer, older = ids[place], partners[place]
        if clusters.alive[older]:
            end = _with_room(edges, end, newer, older, clusters.alive, new)
            children[new - n_nodes, 0], children[new - n_nodes, 1] = older, newer
            put(entries, clusters.holders[older], np.inf)
            end = _join(clusters, edges, newer, older, new, end, slots)
            clusters.holders[new], ids[place] = place, new
            price, partners[place] = _price_all(clusters, edges, new, smallest)
            new += 1
        else:
            price, partners[place] = _best(edges, newer, clusters.alive)
        put(entries, place, price)
    return children[: new - n_nodes].copy()


@compiled
def _singles(level: Level) -> tuple[Clusters, Edges, int]:
    """Make every node a cluster, with a list of its edges; return where the last list ends."""
    n_nodes = len(level.volumes)
    n_all = 2 * n_nodes
    cuts, volumes, ratios, sizes = np.zeros(n_all), np.zeros(n_all), np.zeros(n_all), np.zeros(n_all, np.int64)
    volumes[:n_nodes], sizes[:n_nodes] = level.volumes, level.sizes
    starts, stops = np.zeros(n_all, np.int64), np.zeros(n_all, np.int64)
    # Two lists joined are never longer than both: once packed, they leave room for any new one.
    room = 3 * len(level.indices)
    neighbours, weights, prices = np.empty(room, np.int32), np.empty(room), np.empty(room)
    end = 0
    for node in range(n_nodes):
        starts[node] = end
        for edge in range(level.indptr[node], level.indptr[node + 1]):
            other, weight = level.indices[edge], level.weights[edge]
            if other != node and weight > 0.0:
                cuts[node] += weight
                neighbours[end], weights[end], prices[end] = other, weight, np.inf
                end += 1
        stops[node] = end
        ratios[node] = cuts[node] / volumes[node]
    order = np.arange(n_all).astype(np.int32)
    clusters = Clusters(cuts, volumes, ratios, sizes, order < n_nodes, order, order.copy())
    return clusters, Edges(starts, stops, neighbours, weights, prices), end


@compiled
def _first_merges(clusters: Clusters, edges: Edges, smallest: int, entries: Tournament, partners: Integers) -> None:
    """Let each node compete with its best edge to an older one."""
    n_nodes = len(partners)
    for node in range(n_nodes):
        for edge in range(edges.starts[node], edges.stops[node]):
            if edges.neighbours[edge] < node:
                edges.prices[edge] = _price(clusters, node, edges.neighbours[edge], edges.weights[edge], smallest)
        entries.costs[n_nodes + node], partners[node] = _best(edges, node, clusters.alive)
    play(entries)


@compiled
def _price(clusters: Clusters, one: int, other: int, weight: float, smallest: int) -> float:
    """Return what a merge of two clusters adds to the normalized cut, in [-2, 0]; much less if one is too small."""
    cut = clusters.cuts[one] + clusters.cuts[other] - 2.0 * weight
    price = cut / (clusters.volumes[one] + clusters.volumes[other]) - clusters.ratios[one] - clusters.ratios[other]
    enough = min(clusters.sizes[one], clusters.sizes[other]) >= smallest
    return float(price if enough else price - 10.0)


@compiled
def _best(edges: Edges, cluster: int, alive: Bools) -> tuple[float, int]:
    """Find a cluster's own edge of the lowest price, of equal ones that to the oldest; -1 if all lead to dead ones."""
    price, oldest = np.inf, -1
    for edge in range(edges.starts[cluster], edges.stops[cluster]):
        if edges.prices[edge] < np.inf:
            other = edges.neighbours[edge]
            if not alive[other]:
                edges.prices[edge] = np.inf
            elif edges.prices[edge] < price or (edges.prices[edge] == price and other < oldest):
                price, oldest = edges.prices[edge], other
    return price, oldest


@compiled
def _join(clusters: Clusters, edges: Edges, one: int, another: int, new: int, end: int, slots: Integers) -> int:
    """Make a cluster of two, with each neighbour once and the sum of the edges to it; return where its list ends."""
    parents, start, between = clusters.parents, end, 0.0
    parents[one] = parents[another] = new
    clusters.alive[one], clusters.alive[another], clusters.alive[new] = False, False, True
    for cluster in (one, another):
        for edge in range(edges.starts[cluster], edges.stops[cluster]):
            other = edges.neighbours[edge]
            while parents[other] != other:
                parents[other] = parents[parents[other]]
                other = parents[other]
            slot = slots[other]
            if other == new:
                between += edges.weights[edge] / 2.0
            elif start <= slot < end and edges.neighbours[slot] == other:
                edges.weights[slot] += edges.weights[edge]
            else:
                slots[other] = end
                edges.neighbours[end], edges.weights[end] = other, edges.weights[edge]
                end += 1
    edges.starts[new], edges.stops[new] = start, end
    clusters.cuts[new] = clusters.cuts[one] + clusters.cuts[another] - 2.0 * between
    clusters.volumes[new] = clusters.volumes[one] + clusters.volumes[another]
    clusters.ratios[new] = clusters.cuts[new] / clusters.volumes[new]
    clusters.sizes[new] = clusters.sizes[one] + clusters.sizes[another]
    return end


@compiled
def _price_all(clusters: Clusters, edges: Edges, new: int, smallest: int) -> tuple[float, int]:
    """Price all edges of a new cluster, and find the best of them."""
    price, oldest = np.inf, -1
    for edge in range(edges.starts[new], edges.stops[new]):
        other = edges.neighbours[edge]
        edges.prices[edge] = _price(clusters, new, other, edges.weights[edge], smallest)
        if edges.prices[edge] < price or (edges.prices[edge] == price and other < oldest):
            price, oldest = edges.prices[edge], other
    return price, oldest


@compiled
def _with_room(edges: Edges, end: int, one: int, another: int, alive: Bools, n_clusters: int) -> int:
    """Close the gaps that merged clusters left between the lists if those of two would not fit in behind them.

    Lists lie in the order of their clusters. Return where the last one ends.
    """
    starts, stops = edges.starts, edges.stops
    if end + stops[one] - starts[one] + stops[another] - starts[another] <= len(edges.neighbours):
        return end
    end = 0
    for cluster in range(n_clusters):
        if alive[cluster]:
            start = end
            for edge in range(starts[cluster], stops[cluster]):
                edges.neighbours[end], edges.weights[end] = edges.neighbours[edge], edges.weights[edge]
                edges.prices[end] = edges.prices[edge]
                end += 1
            starts[cluster], stops[cluster] = start, end
    return end


@compiled
def refine(level: Level, labels: Integers, n_regions: int, smallest: int, rounds: int) -> float:
    """Move nodes at borders to the region beside them while that lowers the normalized cut; return it.

    Parameters
    ----------
    level : Level
        Graph of P nodes.
    labels : ndarray of int32, shape (P,)
        Regions from 0, changed in place.
    n_regions : int
        Number of regions.
    smallest : int
        Pixels that a region keeps at least, >= 1.
    rounds : int
        Times at most that a node may be looked at.

    Returns
    -------
    ncut : float

    Notes
    -----
    O(edges) for the first look, then the edges of the borders only. Nodes are looked at in order, then those beside a
    node that moved.
    """
    n_nodes = len(labels)
    cuts, volumes = cuts_and_volumes(level, labels, n_regions)
    sizes = np.zeros(n_regions, np.int64)
    for node in range(n_nodes):
        sizes[labels[node]] += level.sizes[node]
    waiting = np.zeros(n_nodes, np.bool_)
    queue, following = np.empty(n_nodes, np.int32), np.empty(n_nodes, np.int32)
    count = _at_borders(level, labels, queue, waiting)
    bonds, met = np.zeros(n_regions), np.empty(n_regions, np.int32)
    for _ in range(rounds):
        n_next = 0
        for place in range(count):
            node = queue[place]
            waiting[node] = False
            old = labels[node]
            if sizes[old] - level.sizes[node] < smallest:
                continue
            new = _better_region(level, labels, node, cuts, volumes, bonds, met)
            if new == old:
                continue
            labels[node] = new
            sizes[old] -= level.sizes[node]
            sizes[new] += level.sizes[node]
            for edge in range(level.indptr[node], level.indptr[node + 1]):
                other = level.indices[edge]
                if not waiting[other]:
                    waiting[other] = True
                    following[n_next] = other
                    n_next += 1
        if n_next == 0:
            break
        queue, following, count = following, queue, n_next
    return ratio_sum(cuts, volumes)


@compiled
def _at_borders(level: Level, labels: Integers, queue: Integers, waiting: Bools) -> int:
    count = 0
    for node in range(len(labels)):
        for edge in range(level.indptr[node], level.indptr[node + 1]):
            if labels[level.indices[edge]] != labels[node]:
                queue[count] = node
                waiting[node] = True
                count += 1
                break
    return count


@compiled
def _better_region(
    level: Level, labels: Integers, node: int, cuts: Floats, volumes: Floats, bonds: Floats, met: Integers
) -> int:
    """Find the region beside a node where it lowers the normalized cut most, and move its cut and volume there."""
    own, volume, total, n_met = labels[node], level.volumes[node], 0.0, 0
    for edge in range(level.indptr[node], level.indptr[node + 1]):
        other, weight = level.indices[edge], level.weights[edge]
        if other != node and weight > 0.0:
            if bonds[labels[other]] == 0.0:
                met[n_met] = labels[other]
                n_met += 1
            bonds[labels[other]] += weight
            total += weight
    new_cut, best, least = cuts[own] + 2.0 * bonds[own] - total, own, -1e-12
    without = new_cut / (volumes[own] - volume) - cuts[own] / volumes[own]
    for place in range(n_met):
        region = met[place]
        if region != own:
            change = (cuts[region] + total - 2.0 * bonds[region]) / (volumes[region] + volume)
            change += without - cuts[region] / volumes[region]
            if change < least:
                best, least = region, change
    if best != own:
        cuts[own], cuts[best] = new_cut, cuts[best] + total - 2.0 * bonds[best]
        volumes[own] -= volume
        volumes[best] += volume
    for place in range(n_met):
        bonds[met[place]] = 0.0
    return int(best)
