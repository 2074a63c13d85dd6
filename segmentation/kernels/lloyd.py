"""k-means of points with many coordinates: seeds, and Lloyd's rounds without most of the distances.

What cannot matter is not computed; seeds and labels are those of the plain algorithms. Points are compared with
centers in blocks, a few coordinates of all in one loop, which is what vector instructions are made for.
"""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled

#: Points that are compared with a candidate at once: their sums stay in the fastest cache.
BLOCK = 256
#: Bounds are kept this much on the safe side, relatively: some thousand rounds of rounding errors.
SLACK = 1e-12
#: As far away as no point is, with a square that is still a number: fills rows of centers up.
NOWHERE = 1e150


@compiled
def seed_points(columns: Floats, first: int, draws: Floats) -> tuple[Integers, Integers, Floats, float]:
    """Pick seeds far from each other, by greedy k-means++.

    Parameters
    ----------
    columns : ndarray of float64, shape (C, P)
        Coordinates of the points; their mean should be 0.
    first : int
        The point that is the first seed.
    draws : ndarray of float64, shape (K - 1, T)
        Uniform random numbers from [0, 1): T candidates for each of the other seeds.

    Returns
    -------
    seeds : ndarray of int64, shape (K,)
        Points.
    labels : ndarray of int32, shape (P,)
        The nearest seed of every point, of equally near ones the first.
    squares : ndarray of float64, shape (P,)
        The squared distance to it.
    margin : float
        What rounding errors have to stay below, or other seeds could have been picked: the sum of the squares at the
        last draw, or less if two candidates were almost equally good.

    Notes
    -----
    The algorithm of [1]_ with several candidates for each seed, as in scikit-learn: they are drawn in proportion to
    the squared distances, and the one is taken that leaves the smallest sum of them. A block of points is left alone
    as soon as some of the coordinates tell that the candidate is nearest to none. O(P·C·K·T) time at worst.

    References
    ----------
    .. [1] Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    n_points, n_seeds = columns.shape[1], len(draws) + 1
    seeds, labels = np.empty(n_seeds, np.int64), np.zeros(n_points, np.int32)
    squares, sums, margin = np.full(n_points, np.inf), np.empty(n_points), np.inf
    seeds[0] = first
    _give(columns, first, 0, labels, squares)
    for seed in range(1, n_seeds):
        total = _running_sums(squares, sums)
        # Rounding can put a draw beyond the last sum.
        candidates = np.minimum(np.searchsorted(sums, draws[seed - 1] * total), n_points - 1)
        gains = _gains(columns, candidates, squares)
        best = np.argmax(gains)
        seeds[seed] = candidates[best]
        margin = min(margin, total)
        for trial in range(len(gains)):
            if candidates[trial] != candidates[best]:
                margin = min(margin, gains[best] - gains[trial])
        _give(columns, seeds[seed], seed, labels, squares)
    return seeds, labels, squares, margin


@compiled
def _running_sums(squares: Floats, sums: Floats) -> float:
    total = 0.0
    for point in range(len(squares)):
        total += squares[point]
        sums[point] = total
    return total


@compiled
def _gains(columns: Floats, candidates: Integers, squares: Floats) -> Floats:
    """Sum up how much each candidate would shorten the squared distances."""
    n_candidates = len(candidates)
    centers, orders = np.empty((n_candidates, len(columns))), np.empty((n_candidates, len(columns)), np.int64)
    for trial in range(n_candidates):
        centers[trial] = columns[:, candidates[trial]]
        orders[trial] = _by_size(centers[trial])
    gains, room = np.zeros((n_candidates, BLOCK)), np.empty(BLOCK)
    for start in range(0, len(squares), BLOCK):
        so_far = squares[start : start + BLOCK]
        found = room[: len(so_far)]
        for trial in range(n_candidates):
            if _nearer(columns, start, centers[trial], orders[trial], so_far, found):
                gain = gains[trial]
                for point in range(len(found)):
                    gain[point] += so_far[point] - found[point] if found[point] < so_far[point] else 0.0
    total: Floats = gains.sum(axis=1)
    return total


@compiled
def _give(columns: Floats, candidate: int, seed: int, labels: Integers, squares: Floats) -> None:
    """Give the points that are nearer to it than to any other to a new seed."""
    center = columns[:, candidate].copy()
    order, room = _by_size(center), np.empty(BLOCK)
    for start in range(0, len(squares), BLOCK):
        so_far, label = squares[start : start + BLOCK], labels[start : start + BLOCK]
        found = room[: len(so_far)]
        if _nearer(columns, start, center, order, so_far, found):
            for point in range(len(found)):
                if found[point] < so_far[point]:
                    so_far[point], label[point] = found[point], seed


@compiled
def _by_size(center: Floats) -> Integers:
    """Order the coordinates, the largest first: they are the first to tell a center from the mean."""
    order = np.empty(len(center), np.int64)
    for coordinate in range(len(center)):
        place = coordinate
        while place > 0 and abs(center[order[place - 1]]) < abs(center[coordinate]):
            order[place] = order[place - 1]
            place -= 1
        order[place] = coordinate
    return order


@compiled
def _nearer(columns: Floats, start: int, center: Floats, order: Integers, so_far: Floats, squares: Floats) -> bool:
    """Compute the squared distances of a block of points to a center, unless it is the nearest so far to none."""
    squares[:] = 0.0
    stop = start + len(squares)
    whole = len(order) - len(order) % 4
    for place in range(0, whole, 4):
        a, b, c, d = order[place], order[place + 1], order[place + 2], order[place + 3]
        column_a, column_b = columns[a, start:stop], columns[b, start:stop]
        column_c, column_d = columns[c, start:stop], columns[d, start:stop]
        center_a, center_b, center_c, center_d = center[a], center[b], center[c], center[d]
        for point in range(len(squares)):
            squares[point] += (
                (column_a[point] - center_a) ** 2
                + (column_b[point] - center_b) ** 2
                + ((column_c[point] - center_c) ** 2 + (column_d[point] - center_d) ** 2)
            )
        nearer = 0
        for point in range(len(squares)):
            nearer += squares[point] < so_far[point]
        if nearer == 0:
            return False
    for place in range(whole, len(order)):
        column, center_a = columns[order[place], start:stop], center[order[place]]
        for point in range(len(squares)):
            squares[point] += (column[point] - center_a) ** 2
    return True


class State(NamedTuple):
    """Where Lloyd's rounds are.

    For P points the label, a bound above the distance to its center and one below that to any other; for K clusters
    their sums, sizes and centers, and how far these moved last.
    """

    labels: Integers
    upper: Floats
    lower: Floats
    sums: Floats
    sizes: Floats
    centers: Floats
    moved: Floats


@compiled
def lloyd_rounds(points: Floats, labels: Integers, squares: Floats, seeds: Integers, tol: float, limit: int) -> float:
    """Move centers to the means of their points and points to their nearest centers, until neither moves.

    Parameters
    ----------
    points : ndarray of float64, shape (P, C)
    labels : ndarray of int32, shape (P,)
        The nearest seed of every point; becomes its cluster.
    squares : ndarray of float64, shape (P,)
        The squared distance to it.
    seeds : ndarray of int64, shape (K,)
        The points that are the first centers.
    tol : float
        Rounds stop when the sum of the squares of what the centers moved is no more.
    limit : int
        Rounds at most, >= 1.

    Returns
    -------
    inertia : float
        Sum of the squared distances of the points to their centers; NaN if a cluster lost all its points.

    Notes
    -----
    Lloyd's rounds with the bounds of [1]_: most points are nearer to their center than to any other by more than all
    centers have moved since that was last computed. The labels are those of plain rounds, of equally near centers the
    first. At worst O(P·C·K) time a round.

    References
    ----------
    .. [1] Hamerly, "Making k-means even faster", SDM 2010.
    """
    state = _first_state(points, labels, squares, seeds)
    for number in range(limit):
        changed = _assign(points, state) if number > 0 else 1
        if state.sizes.min() == 0.0:
            return np.nan
        shift = _move(state)
        if changed == 0:
            return _inertia(points, state)
        if shift <= tol:
            break
    _assign(points, state)
    return _inertia(points, state)


@compiled
def _first_state(points: Floats, labels: Integers, squares: Floats, seeds: Integers) -> State:
    n_clusters = len(seeds)
    sums, sizes = np.zeros((n_clusters, points.shape[1])), np.zeros(n_clusters)
    for point in range(len(points)):
        _count(sums, sizes, points, point, labels[point], 1.0)
    upper = np.sqrt(squares) * (1.0 + SLACK)
    return State(labels, upper, np.zeros(len(points)), sums, sizes, points[seeds], np.zeros(n_clusters))


@compiled
def _count(sums: Floats, sizes: Floats, points: Floats, point: int, cluster: int, times: float) -> None:
    sizes[cluster] += times
    total, values = sums[cluster], points[point]
    for coordinate in range(len(values)):
        total[coordinate] += times * values[coordinate]


@compiled
def _move(state: State) -> float:
    """Move the centers to the means; return the sum of the squares of their ways."""
    shift = 0.0
    for cluster in range(len(state.sizes)):
        mean = state.sums[cluster] / state.sizes[cluster]
        square = _square(mean, state.centers[cluster])
        shift += square
        state.moved[cluster] = np.sqrt(square)
        state.centers[cluster] = mean
    return shift


@compiled
def _assign(points: Floats, state: State) -> int:
    """Give every point to its nearest center; return how many changed hands."""
    labels, upper, lower, sums, sizes, centers, moved = state
    halves, columns = _half_distances(centers), _columns(centers)
    squares = np.empty(columns.shape[1])
    others = _longest_of_others(moved)
    changed = 0
    for point in range(len(points)):
        label = labels[point]
        upper[point] = (upper[point] + moved[label]) * (1.0 + SLACK)
        lower[point] -= others[label] + SLACK * upper[point]
        safe = max(halves[label], lower[point])
        if upper[point] >= safe:
            upper[point] = np.sqrt(_square(points[point], centers[label])) * (1.0 + SLACK)
            if upper[point] >= safe:
                _square_all(points[point], columns, squares)
                nearest, square, next_square = _two_least(squares)
                upper[point], lower[point] = np.sqrt(square) * (1.0 + SLACK), np.sqrt(next_square) * (1.0 - SLACK)
                if nearest != label:
                    labels[point] = nearest
                    _count(sums, sizes, points, point, label, -1.0)
                    _count(sums, sizes, points, point, nearest, 1.0)
                    changed += 1
    return changed


@compiled
def _longest_of_others(moved: Floats) -> Floats:
    """Return for each center how far any other has moved at most: by so much they may have come nearer."""
    farthest, second = np.argmax(moved), 0.0
    for cluster in range(len(moved)):
        if cluster != farthest:
            second = max(second, moved[cluster])
    others = np.full(len(moved), moved[farthest])
    others[farthest] = second
    return others


@compiled
def _half_distances(centers: Floats) -> Floats:
    """Return half of how far each center is from the next: a point that is closer to it is closest to it."""
    halves = np.full(len(centers), np.inf)
    for cluster in range(len(centers)):
        for other in range(cluster):
            half = 0.5 * np.sqrt(_square(centers[cluster], centers[other])) * (1.0 - SLACK)
            halves[cluster], halves[other] = min(halves[cluster], half), min(halves[other], half)
    return halves


@compiled
def _columns(centers: Floats) -> Floats:
    """Transpose the centers, and fill rows up to whole vectors with some that are nowhere near."""
    n_clusters, n_coordinates = centers.shape
    columns = np.full((n_coordinates, n_clusters + -n_clusters % 8), NOWHERE)
    columns[:, :n_clusters] = centers.T
    return columns


@compiled
def _square_all(values: Floats, columns: Floats, squares: Floats) -> None:
    """Compute the squared distances of a point to all centers."""
    squares[:] = 0.0
    whole = len(values) - len(values) % 4
    for at in range(0, whole, 4):
        a, b, c, d = values[at], values[at + 1], values[at + 2], values[at + 3]
        column_a, column_b, column_c, column_d = columns[at], columns[at + 1], columns[at + 2], columns[at + 3]
        for cluster in range(len(squares)):
            squares[cluster] += (
                (a - column_a[cluster]) ** 2
                + (b - column_b[cluster]) ** 2
                + ((c - column_c[cluster]) ** 2 + (d - column_d[cluster]) ** 2)
            )
    for at in range(whole, len(values)):
        a, column_a = values[at], columns[at]
        for cluster in range(len(squares)):
            squares[cluster] += (a - column_a[cluster]) ** 2


@compiled
def _two_least(squares: Floats) -> tuple[int, float, float]:
    """Find the smallest number, of equal ones the first, and the next; without branches, for none can be foretold."""
    place, least, second = 0, squares[0], np.inf
    for cluster in range(1, len(squares)):
        square = squares[cluster]
        less = square < least
        next_best = square if square < second else second
        second = least if less else next_best
        place = cluster if less else place
        least = square if less else least
    return place, least, second


@compiled
def _square(values: Floats, others: Floats) -> float:
    """Return a squared distance, from four sums that do not wait for each other."""
    whole = len(values) - len(values) % 4
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for at in range(0, whole, 4):
        a += (values[at] - others[at]) ** 2
        b += (values[at + 1] - others[at + 1]) ** 2
        c += (values[at + 2] - others[at + 2]) ** 2
        d += (values[at + 3] - others[at + 3]) ** 2
    for at in range(whole, len(values)):
        a += (values[at] - others[at]) ** 2
    return float((a + b) + (c + d))


@compiled
def _inertia(points: Floats, state: State) -> float:
    total = 0.0
    for point in range(len(points)):
        total += _square(points[point], state.centers[state.labels[point]])
    return total
