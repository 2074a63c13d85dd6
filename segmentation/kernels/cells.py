"""Pixels grouped by colour: sorted by the cell of a grid in which they lie, equal ones made one weighted point."""

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled

#: Bits of a packed pixel that are its number; the others are its cell.
INDEX_BITS = 32
#: Bits that are sorted by in one pass.
DIGIT = 11


@compiled
def value_range(features: Floats) -> tuple[Floats, Floats, bool]:
    """Return the least and the largest value of each column, and whether all values are finite."""
    low, high, rest = features[0].copy(), features[0].copy(), 0.0
    for row in range(features.shape[0]):
        for channel in range(features.shape[1]):
            value = features[row, channel]
            low[channel], high[channel] = min(low[channel], value), max(high[channel], value)
            rest += value - value
    return low, high, rest == 0.0


@compiled
def are_whole(features: Floats, per_unit: float) -> bool:
    """Tell whether all values times `per_unit` are whole numbers, up to the rounding of a division and a product."""
    for row in range(features.shape[0]):
        for channel in range(features.shape[1]):
            value = features[row, channel] * per_unit
            whole = np.rint(value)
            if not abs(value - whole) <= 1e-15 * abs(whole):
                return False
    return True


@compiled
def sorted_cells(features: Floats, origin: Floats, factor: float, bits: int) -> Integers:
    """Sort pixels by the cell of a grid in which their colour lies.

    Parameters
    ----------
    features : ndarray of float64, shape (P, C)
    origin : ndarray of float64, shape (C,)
        Corner of the grid: no value is smaller.
    factor : float
        Cells along one unit of the features.
    bits : int
        The grid has ``2**bits`` cells along every channel, C * bits <= 32; what lies beyond is in the last.

    Returns
    -------
    packed : ndarray of uint64, shape (P,)
        The cell in the upper 32 bits, the number of the pixel in the lower ones; ascending.

    Notes
    -----
    The bits of the channels alternate in a cell's number (Morton 1966), so the cells of every coarser grid are runs.
    """
    n_channels = features.shape[1]
    spread = np.zeros(1 << bits, np.uint64)
    for value in range(1 << bits):
        for bit in range(bits):
            spread[value] |= np.uint64((value >> bit) & 1) << np.uint64(bit * n_channels)
    packed = np.empty(len(features), np.uint64)
    last = float((1 << bits) - 1)
    for pixel in range(len(features)):
        cell = np.uint64(0)
        for channel in range(n_channels if bits > 0 else 0):
            # Half a millionth of a cell keeps whole numbers in their cell when they are a rounding below.
            place = min((features[pixel, channel] - origin[channel]) * factor + 5e-7, last)
            cell |= spread[int(place)] << np.uint64(channel)
        packed[pixel] = (cell << np.uint64(INDEX_BITS)) | np.uint64(pixel)
    return _sorted(packed, bits * n_channels)


@compiled
def _sorted(packed: Integers, n_bits: int) -> Integers:
    """Sort by the `n_bits` above the number of the pixel: by their digits, the lowest first."""
    other = np.empty_like(packed)
    for low in range(0, n_bits, DIGIT):
        shift, n_values = np.uint64(INDEX_BITS + low), 1 << min(DIGIT, n_bits - low)
        mask = np.uint64(n_values - 1)
        ends = np.zeros(n_values + 1, np.int64)
        for item in packed:
            ends[((item >> shift) & mask) + np.uint64(1)] += 1
        for value in range(n_values):
            ends[value + 1] += ends[value]
        for item in packed:
            digit = (item >> shift) & mask
            other[ends[digit]] = item
            ends[digit] += 1
        packed, other = other, packed
    return packed


@compiled
def equal_runs(packed: Integers, features: Floats, same_cell: bool) -> Integers:
    """Find where runs of equal colours start.

    Parameters
    ----------
    packed : ndarray of uint64, shape (P,)
        From `sorted_cells`.
    features : ndarray of float64, shape (P, C)
    same_cell : bool
        Whether all colours of a cell are equal; else colours are compared with the pixel before.

    Returns
    -------
    starts : ndarray of int64, shape (N + 1,)
        Run i is ``packed[starts[i] : starts[i + 1]]``.
    """
    starts = np.empty(len(packed) + 1, np.int64)
    count, before = 0, np.int64(0)
    for place in range(len(packed)):
        pixel = np.int64(packed[place] & np.uint64(0xFFFFFFFF))
        new = place == 0 or (packed[place] ^ packed[place - 1]) >> np.uint64(INDEX_BITS) != 0
        if not new and not same_cell:
            for channel in range(features.shape[1]):
                new = new or features[pixel, channel] != features[before, channel]
        if new:
            starts[count] = place
            count += 1
        before = pixel
    starts[count] = len(packed)
    return starts[: count + 1].copy()


@compiled
def run_points(
    packed: Integers, starts: Integers, features: Floats, origin: Floats, factor: float, whole: bool
) -> tuple[Floats, Floats]:
    """Return the colour of each run as (value - origin) * factor, shape (C, N), and its number of pixels."""
    count = len(starts) - 1
    points, weights = np.empty((features.shape[1], count)), np.empty(count)
    for run in range(count):
        weights[run] = starts[run + 1] - starts[run]
        pixel = np.int64(packed[starts[run]] & np.uint64(0xFFFFFFFF))
        for channel in range(features.shape[1]):
            value = (features[pixel, channel] - origin[channel]) * factor
            points[channel, run] = np.rint(value) if whole else value
    return points, weights


@compiled
def new_at(packed: Integers, starts: Integers, bits: int, n_channels: int) -> Integers:
    """Find the coarsest grid on which each run lies in another cell than the run before.

    Returns
    -------
    levels : ndarray of int8, shape (N,)
        Grid i has ``2**i`` cells along a channel; 0 for the first run, `bits` + 1 for one in the cell before.
    """
    levels = np.zeros(len(starts) - 1, np.int8)
    for run in range(1, len(levels)):
        differ = (packed[starts[run]] ^ packed[starts[run - 1]]) >> np.uint64(INDEX_BITS)
        level = bits + 1
        while differ:
            differ >>= np.uint64(n_channels)
            level -= 1
        levels[run] = level
    return levels


@compiled
def cell_means(points: Floats, weights: Floats, levels: Integers, level: int) -> tuple[Floats, Floats, Integers]:
    """Sum the points of each cell of grid `level` up to one: its mean, its weight, its level from `new_at`."""
    count = 0
    for point in range(len(levels)):
        count += levels[point] <= level
    means, masses, new = np.zeros((len(points), count)), np.zeros(count), np.zeros(count, np.int8)
    cell = -1
    for point in range(len(levels)):
        if levels[point] <= level:
            cell += 1
            new[cell] = levels[point]
        masses[cell] += weights[point]
        for channel in range(len(points)):
            means[channel, cell] += weights[point] * points[channel, point]
    for channel in range(len(points)):
        means[channel] /= masses
    return means, masses, new


@compiled
def pixel_labels(packed: Integers, starts: Integers, labels: Integers) -> Integers:
    """Give every pixel the label of its run."""
    found = np.empty(len(packed), np.int64)
    for run in range(len(starts) - 1):
        for place in range(starts[run], starts[run + 1]):
            found[packed[place] & np.uint64(0xFFFFFFFF)] = labels[run]
    return found
