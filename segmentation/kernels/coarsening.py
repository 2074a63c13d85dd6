"""Coarser graphs by heavy-edge matching, whose normalized cuts are cuts of the fine graph."""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled


class Level(NamedTuple):
    """A graph as a CSR matrix, the volume of each node (the weight of all edges of its pixels), and its pixels' number.

    An entry on the diagonal or of weight 0 is no edge.
    """

    indptr: Integers
    indices: Integers
    weights: Floats
    volumes: Floats
    sizes: Integers


@compiled
def edge_sums(indptr: Integers, indices: Integers, weights: Floats) -> Floats:
    """Sum the edges of every node, its diagonal entry left out."""
    sums = np.zeros(len(indptr) - 1)
    for node in range(len(sums)):
        total = 0.0
        for edge in range(indptr[node], indptr[node + 1]):
            if indices[edge] != node:
                total += weights[edge]
        sums[node] = total
    return sums


@compiled
def match(level: Level, fences: Integers, largest: float, share: float) -> tuple[Integers, int]:
    """Pair every node with the neighbour that it is most tightly bound to.

    Parameters
    ----------
    level : Level
        Graph of P nodes.
    fences : ndarray of int32, shape (P,)
        Only nodes with equal numbers are ever grouped.
    largest : float
        Volume that no group exceeds.
    share : float
        Only edges of at least this part of the heaviest edge at one of their ends are taken, in [0, 1].

    Returns
    -------
    groups : ndarray of int32, shape (P,)
        Group of each node, from 0.
    n_groups : int

    Notes
    -----
    Nodes are visited in order; the tightness of an edge is w (1/vol a + 1/vol b) [1]_. A node whose neighbours are all
    taken joins the group of its heaviest one. O(edges).

    References
    ----------
    .. [1] Dhillon, Guan & Kulis, "Weighted graph cuts without eigenvectors: a multilevel approach", IEEE TPAMI
       29(11), 2007.
    """
    indptr, indices, weights, volumes, _ = level
    n_nodes = len(volumes)
    groups, filled = np.full(n_nodes, -1, np.int32), np.empty(n_nodes)
    heaviest = _heaviest(level)
    n_groups = 0
    for node in range(n_nodes):
        if groups[node] >= 0:
            continue
        best, tightest = -1, 0.0
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            if other == node or groups[other] >= 0 or fences[other] != fences[node]:
                continue
            if volumes[node] + volumes[other] <= largest and weights[edge] >= share * max(
                heaviest[node], heaviest[other]
            ):
                tightness = weights[edge] * (1.0 / volumes[node] + 1.0 / volumes[other])
                if tightness > tightest:
                    best, tightest = other, tightness
        if best >= 0:
            groups[node] = groups[best] = n_groups
            filled[n_groups] = volumes[node] + volumes[best]
            n_groups += 1
    for node in range(n_nodes):
        if groups[node] < 0:
            best = _group_beside(level, fences, node, groups, filled, largest, share * heaviest[node])
            if best < 0:
                best, filled[n_groups] = n_groups, 0.0
                n_groups += 1
            groups[node] = best
            filled[best] += volumes[node]
    return groups, n_groups


@compiled
def _heaviest(level: Level) -> Floats:
    heaviest = np.zeros(len(level.volumes))
    for node in range(len(heaviest)):
        for edge in range(level.indptr[node], level.indptr[node + 1]):
            if level.indices[edge] != node and level.weights[edge] > heaviest[node]:
                heaviest[node] = level.weights[edge]
    return heaviest


@compiled
def _group_beside(
    level: Level, fences: Integers, node: int, groups: Integers, filled: Floats, largest: float, least: float
) -> int:
    """Find the group that the heaviest edge of a node leads to; -1 if none has room."""
    best, heaviest = -1, 0.0
    for edge in range(level.indptr[node], level.indptr[node + 1]):
        other, weight = level.indices[edge], level.weights[edge]
        if other == node or groups[other] < 0 or fences[other] != fences[node] or weight < least or weight <= heaviest:
            continue
        if filled[groups[other]] + level.volumes[node] <= largest:
            best, heaviest = groups[other], weight
    return best


@compiled
def contract(level: Level, groups: Integers, n_groups: int) -> Level:
    """Make one node of every group, with the sums of its volumes, sizes and edges to each other group.

    The normalized cut of a labelling of the groups is that of the same labelling of their nodes.
    """
    indptr, indices, weights, volumes, sizes = level
    members, starts = _members(groups, n_groups)
    new_volumes, new_sizes = np.zeros(n_groups), np.zeros(n_groups, np.int32)
    slots = np.full(n_groups, -1, np.int64)
    new_indptr = np.zeros(n_groups + 1, indptr.dtype)
    new_indices, new_weights = np.empty(len(indices), np.int32), np.empty(len(indices))
    end = 0
    for group in range(n_groups):
        start = end
        for member in range(starts[group], starts[group + 1]):
            node = members[member]
            new_volumes[group] += volumes[node]
            new_sizes[group] += sizes[node]
            for edge in range(indptr[node], indptr[node + 1]):
                other = groups[indices[edge]]
                if other == group or weights[edge] <= 0.0:
                    continue
                if slots[other] < start:
                    slots[other] = end
                    new_indices[end], new_weights[end] = other, weights[edge]
                    end += 1
                else:
                    new_weights[slots[other]] += weights[edge]
        new_indptr[group + 1] = end
    # Not copied: of what lies behind the end no page is ever touched.
    return Level(new_indptr, new_indices[:end], new_weights[:end], new_volumes, new_sizes)


@compiled
def _members(groups: Integers, n_groups: int) -> tuple[Integers, Integers]:
    """List the nodes group by group, and where each group starts."""
    starts = np.zeros(n_groups + 1, np.int64)
    for node in range(len(groups)):
        starts[groups[node] + 1] += 1
    for group in range(n_groups):
        starts[group + 1] += starts[group]
    members, ends = np.empty(len(groups), np.int32), starts[:-1].copy()
    for node in range(len(groups)):
        members[ends[groups[node]]] = node
        ends[groups[node]] += 1
    return members, starts
