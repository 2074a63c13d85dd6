"""k-means on weighted points: starts, Lloyd's rounds, and the exact solution for grey values.

Points lie in a C-ordered array of shape (C, N), a row for each channel: loops along a row become vector instructions
without a change in the order of additions, so that distances to all centres cost less than any bound that would
avoid them.
"""

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled

#: Points whose distances are held at a time: they stay in the fastest cache.
BLOCK = 512


@compiled
def _squares(points: Floats, start: int, stop: int, centre: Floats, squares: Floats) -> None:
    """Write squared distances of points start..stop-1 to a centre."""
    n = stop - start
    if len(points) == 3:
        red, green, blue = points[0, start:stop], points[1, start:stop], points[2, start:stop]
        for i in range(n):
            squares[i] = (red[i] - centre[0]) ** 2 + (green[i] - centre[1]) ** 2 + (blue[i] - centre[2]) ** 2
        return
    squares[:n] = 0.0
    for channel in range(len(points)):
        row, value = points[channel, start:stop], centre[channel]
        for i in range(n):
            squares[i] += (row[i] - value) ** 2


@compiled
def _nearest_of_block(
    points: Floats, start: int, stop: int, centres: Floats, best: Floats, labels: Integers, squares: Floats
) -> None:
    """Write, for points start..stop-1, the nearest centre (of equal ones the first) and the squared distance to it."""
    n = stop - start
    best[:n], labels[:n] = np.inf, 0
    if len(points) == 3:
        red, green, blue = points[0, start:stop], points[1, start:stop], points[2, start:stop]
        for k in range(len(centres)):
            r, g, b = centres[k, 0], centres[k, 1], centres[k, 2]
            for i in range(n):
                square = (red[i] - r) ** 2 + (green[i] - g) ** 2 + (blue[i] - b) ** 2
                closer = square < best[i]
                best[i] = square if closer else best[i]
                labels[i] = k if closer else labels[i]
        return
    for k in range(len(centres)):
        _squares(points, start, stop, centres[k], squares)
        for i in range(n):
            closer = squares[i] < best[i]
            best[i] = squares[i] if closer else best[i]
            labels[i] = k if closer else labels[i]


@compiled
def nearest(points: Floats, centres: Floats) -> tuple[Integers, Floats]:
    """Return the nearest centre of every point, and the squared distance to it.

    Parameters
    ----------
    points : ndarray of float64, shape (C, N)
    centres : ndarray of float64, shape (K, C)

    Returns
    -------
    labels : ndarray of int64, shape (N,)
    squares : ndarray of float64, shape (N,)
    """
    n = points.shape[1]
    labels, best, squares = np.empty(n, np.int64), np.empty(n), np.empty(BLOCK)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        _nearest_of_block(points, start, stop, centres, best[start:stop], labels[start:stop], squares)
    return labels, best


@compiled
def seed_centres(points: Floats, weights: Floats, draws: Floats) -> Floats:
    """Choose starting centres by greedy k-means++.

    Parameters
    ----------
    points : ndarray of float64, shape (C, N)
    weights : ndarray of float64, shape (N,)
    draws : ndarray of float64, shape (K, L)
        Random numbers of [0, 1): for each centre L candidates, of which the best is taken.

    Returns
    -------
    centres : ndarray of float64, shape (K, C)
    """
    n, (n_clusters, n_candidates) = len(weights), draws.shape
    centres = np.empty((n_clusters, len(points)))
    closest, squares, lanes = np.empty(n), np.empty(BLOCK), np.empty(BLOCK)
    chances = np.cumsum(weights)
    first = min(np.searchsorted(chances, draws[0, 0] * chances[-1], side="right"), n - 1)
    centres[0] = points[:, first]
    closest[:] = np.inf
    for k in range(n_clusters):
        if k > 0:
            best, cheapest = 0, np.inf
            for candidate in range(n_candidates):
                drawn = draws[k, candidate] * chances[-1]
                point = min(np.searchsorted(chances, drawn, side="right"), n - 1)
                cost = _cost_with(points, weights, closest, points[:, point].copy(), squares, lanes)
                if cost < cheapest:
                    best, cheapest = point, cost
            centres[k] = points[:, best]
        total = 0.0
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            _squares(points, start, stop, centres[k], squares)
            for i in range(stop - start):
                closest[start + i] = min(closest[start + i], squares[i])
            for i in range(start, stop):
                total += weights[i] * closest[i]
                chances[i] = total
    return centres


@compiled
def _cost_with(
    points: Floats, weights: Floats, closest: Floats, centre: Floats, squares: Floats, lanes: Floats
) -> float:
    """Return the sum of squares if `centre` joined those that are `closest` (squared) so far."""
    lanes[:] = 0.0
    for start in range(0, len(weights), BLOCK):
        stop = min(start + BLOCK, len(weights))
        _squares(points, start, stop, centre, squares)
        before, weight = closest[start:stop], weights[start:stop]
        # As many partial sums as a block has places: neither additions nor their order depend on the machine.
        for i in range(stop - start):
            lanes[i] += weight[i] * min(squares[i], before[i])
    return float(lanes.sum())


@compiled
def lloyd(points: Floats, weights: Floats, centres: Floats, max_iter: int, tol: float) -> float:
    """Move centres to the means of their points until they rest.

    Parameters
    ----------
    points : ndarray of float64, shape (C, N)
    weights : ndarray of float64, shape (N,)
    centres : ndarray of float64, shape (K, C)
        Where they start; overwritten with where they end.
    max_iter : int
        Rounds at most.
    tol : float
        Stop after a round in which the root of the summed squared moves was not larger.

    Returns
    -------
    gain : float
        What the last partition takes off the sum of weighted squares of the points: the larger, the better.

    Notes
    -----
    O(N·K·C) time a round. Sums are only changed for points that change their cluster. A cluster without points gets
    the point that is farthest from its centre.
    """
    (n_clusters, n_channels), n = centres.shape, len(weights)
    labels, sizes, sums = np.full(n, -1, np.int64), np.zeros(n_clusters), np.zeros((n_clusters, n_channels))
    counts = np.zeros(n_clusters, np.int64)
    best, found, squares = np.empty(BLOCK), np.empty(BLOCK, np.int64), np.empty(BLOCK)
    for _ in range(max_iter):
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            _nearest_of_block(points, start, stop, centres, best, found, squares)
            for i in range(start, stop):
                if found[i - start] != labels[i]:
                    _change(points, weights, i, labels[i], found[i - start], sizes, sums, counts)
                    labels[i] = found[i - start]
        moved = _move(centres, sizes, sums, counts)
        if counts.min() == 0:
            _fill_empty(points, centres, labels, counts)
        elif moved <= tol * tol:
            break
    gain = 0.0
    for k in range(n_clusters):
        if counts[k] > 0:
            gain += (sums[k] ** 2).sum() / sizes[k]
    return gain


@compiled
def _change(
    points: Floats, weights: Floats, i: int, old: int, new: int, sizes: Floats, sums: Floats, counts: Integers
) -> None:
    """Take a point from its old cluster, if it has one, and add it to a new one."""
    weight = weights[i]
    if old >= 0:
        counts[old] -= 1
        sizes[old] -= weight
        for channel in range(len(points)):
            sums[old, channel] -= weight * points[channel, i]
    counts[new] += 1
    sizes[new] += weight
    for channel in range(len(points)):
        sums[new, channel] += weight * points[channel, i]


@compiled
def _move(centres: Floats, sizes: Floats, sums: Floats, counts: Integers) -> float:
    """Move centres to the means of their clusters; return the sum of their squared moves."""
    moved = 0.0
    for k in range(len(centres)):
        if counts[k] > 0:
            for channel in range(centres.shape[1]):
                mean = sums[k, channel] / sizes[k]
                moved += (mean - centres[k, channel]) ** 2
                centres[k, channel] = mean
    return moved


@compiled
def _fill_empty(points: Floats, centres: Floats, labels: Integers, counts: Integers) -> bool:
    """Move the first centre without points to the point that is farthest from its own; False if none is away."""
    farthest, most = -1, 0.0
    for i in range(len(labels)):
        square = 0.0
        for channel in range(len(points)):
            square += (points[channel, i] - centres[labels[i], channel]) ** 2
        if square > most:
            farthest, most = i, square
    if farthest < 0:
        return False
    centres[np.argmin(counts)] = points[:, farthest]
    return True


@compiled
def settle(points: Floats, weights: Floats, centres: Floats) -> tuple[Integers, float]:
    """Return the nearest centre of every point, and the sum of the weighted squared distances.

    Centres that are nobody's nearest get a point first, as long as there is one that is not a centre itself.
    """
    while True:
        labels, squares = nearest(points, centres)
        counts = np.zeros(len(centres), np.int64)
        for label in labels:
            counts[label] += 1
        if counts.min() > 0 or not _fill_empty(points, centres, labels, counts):
            # Not by a library's dot product: that may be split over threads.
            inertia = 0.0
            for i in range(len(weights)):
                inertia += weights[i] * squares[i]
            return labels, inertia


@compiled
def optimal_ends(values: Floats, weights: Floats, n_clusters: int) -> Integers:
    """Divide sorted numbers into the clusters with the least sum of squares.

    Parameters
    ----------
    values : ndarray of float64, shape (N,)
        Ascending.
    weights : ndarray of float64, shape (N,)
    n_clusters : int
        In [1, N].

    Returns
    -------
    ends : ndarray of int64, shape (n_clusters,)
        Cluster k is ``values[ends[k - 1] : ends[k]]``.

    Notes
    -----
    Dynamic programming [1]_: the best division of the first i values into k clusters is one of the first j into k - 1,
    and a last cluster. The best j never falls as i grows, so it is looked for between those of two values around i
    [2]_: O(n_clusters · N log N) time, 4 · n_clusters · N bytes.

    References
    ----------
    .. [1] Wang & Song, "Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic programming", The R
       Journal 3(2), 2011.
    .. [2] Grønlund, Larsen, Mathiasen, Nielsen, Schneider & Song, "Fast exact k-means, k-medians and Bregman
       divergence clustering in 1D", arXiv:1701.07204, 2017.
    """
    n = len(values)
    # From the mean: the difference of two prefix sums loses what they have in common.
    centred = values - (values * weights).sum() / weights.sum()
    masses, sums = np.zeros(n + 1), np.zeros(n + 1)
    masses[1:] = np.cumsum(weights)
    sums[1:] = np.cumsum(weights * centred)
    splits = np.zeros((n_clusters, n + 1), np.int32)
    # Gains, not costs: what squares add is the same however values are divided.
    gains, before = np.zeros(n + 1), np.zeros(n + 1)
    gains[1:] = sums[1:] ** 2 / masses[1:]
    for k in range(1, n_clusters):
        gains, before = before, gains
        if k == n_clusters - 1:
            splits[k, n], gains[n] = _best_split(masses, sums, before, k, n - 1, n)
            break
        step = 1
        while step <= n:
            step *= 2
        while step > 0:
            for i in range(step, n + 1, 2 * step):
                if i > k:
                    low = max(splits[k, i - step], k)
                    high = min(splits[k, i + step] if i + step <= n else n, i - 1)
                    splits[k, i], gains[i] = _best_split(masses, sums, before, low, high, i)
            step //= 2
    ends = np.empty(n_clusters, np.int64)
    ends[-1] = n
    for k in range(n_clusters - 1, 0, -1):
        ends[k - 1] = splits[k, ends[k]]
    return ends


@compiled
def _best_split(masses: Floats, sums: Floats, before: Floats, low: int, high: int, i: int) -> tuple[int, float]:
    """Return the start low..high of the last cluster of the first i values, and what it and those before gain."""
    best, most = low, -np.inf
    for j in range(low, high + 1):
        total = sums[i] - sums[j]
        gain = before[j] + total * total / (masses[i] - masses[j])
        if gain > most:
            best, most = j, gain
    return best, most
