"""Gaussian smoothing of the lines of an image that are needed, and bilinear samples between them.

Sums are added up in the order of ``scipy.ndimage``, so that what is cut off to an integer afterwards is the same
integer.
"""

import numpy as np

from segmentation.arrays import Floats, Ints
from segmentation.kernels.compiled import compiled

#: What is done to a sum before it is summed again: nothing, cut off its fraction, or round it to 32 bits.
KEEP, TRUNCATE, SINGLE = 0, 1, 2
# Numbers summed side by side: these and what is added to them stay in the cache nearest to the processor.
_BLOCK = 2048


@compiled
def smooth_lines(lines: Floats, places: Ints, columns: Ints, weights: Floats, rounding: int) -> Floats:
    """Smooth along columns, then along rows, some of the lines of an image.

    Parameters
    ----------
    lines : ndarray of float64, shape (H, N*C)
        Lines of the image, the channels of a pixel side by side.
    places : ndarray of int64, shape (K, 2*R + 1)
        For each line that is wanted, those that it is the weighted mean of.
    columns : ndarray of int64, shape (N + 2*R,)
        For each place from R before the first column to R behind the last, the column that stands for it.
    weights : ndarray of float64, shape (R + 1,)
        That of the farthest line first, that of the wanted line itself last.
    rounding : int
        `KEEP`, `TRUNCATE` or `SINGLE`, done after each of the two directions.

    Returns
    -------
    smoothed : ndarray of float64, shape (K, N*C)
    """
    n_lines, width = len(places), lines.shape[1]
    n_channels = width // (len(columns) - places.shape[1] + 1)
    smoothed = np.empty((n_lines, width))
    flat = lines.reshape(lines.size)
    for start in range(0, width, _BLOCK):
        for line in range(n_lines):
            _weighted_mean(flat, start, places[line] * width, weights, smoothed[line, start : start + _BLOCK])
    padded = np.empty(len(columns) * n_channels)
    shifts = np.arange(places.shape[1]) * n_channels
    for line in range(n_lines):
        values = smoothed[line]
        _round(values, rounding)
        _pad(values, columns, n_channels, padded)
        for start in range(0, width, _BLOCK):
            _weighted_mean(padded, start, shifts, weights, values[start : start + _BLOCK])
        _round(values, rounding)
    return smoothed


@compiled
def _weighted_mean(values: Floats, start: int, shifts: Ints, weights: Floats, mean: Floats) -> None:
    """Add up stretches of `values` from the middle one and the farthest two to the nearest two."""
    radius, n = len(weights) - 1, len(mean)
    middle = start + shifts[radius]
    _multiply(mean, values[middle : middle + n], weights[radius])
    tap = 0
    while tap < radius % 4:
        one, other = start + shifts[tap], start + shifts[2 * radius - tap]
        _add_pair(mean, values[one : one + n], values[other : other + n], weights[tap])
        tap += 1
    while tap < radius:
        last = 2 * radius - tap
        a, b, c, d = shifts[tap], shifts[tap + 1], shifts[tap + 2], shifts[tap + 3]
        e, f, g, h = shifts[last], shifts[last - 1], shifts[last - 2], shifts[last - 3]
        _add_four_pairs(
            mean,
            values[start + a : start + a + n],
            values[start + b : start + b + n],
            values[start + c : start + c + n],
            values[start + d : start + d + n],
            values[start + e : start + e + n],
            values[start + f : start + f + n],
            values[start + g : start + g + n],
            values[start + h : start + h + n],
            weights[tap : tap + 4],
        )
        tap += 4


@compiled
def _multiply(total: Floats, values: Floats, weight: float) -> None:
    for i in range(len(total)):
        total[i] = values[i] * weight


@compiled
def _add_pair(total: Floats, one: Floats, other: Floats, weight: float) -> None:
    for i in range(len(total)):
        total[i] += (one[i] + other[i]) * weight


@compiled
def _add_four_pairs(
    total: Floats,
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    e: Floats,
    f: Floats,
    g: Floats,
    h: Floats,
    weights: Floats,
) -> None:
    """Add the pairs a and e, b and f, c and g, d and h: as `_add_pair` four times, with one way through memory."""
    v, w, x, y = weights[0], weights[1], weights[2], weights[3]
    for i in range(len(total)):
        value = total[i] + (a[i] + e[i]) * v
        value += (b[i] + f[i]) * w
        value += (c[i] + g[i]) * x
        total[i] = value + (d[i] + h[i]) * y


@compiled
def _round(values: Floats, rounding: int) -> None:
    if rounding == TRUNCATE:
        for i in range(len(values)):
            values[i] = np.trunc(values[i])
    elif rounding == SINGLE:
        for i in range(len(values)):
            values[i] = np.float32(values[i])


@compiled
def _pad(values: Floats, columns: Ints, n_channels: int, padded: Floats) -> None:
    middle = (len(padded) - len(values)) // 2
    for i in range(len(values)):
        padded[middle + i] = values[i]
    radius = middle // n_channels
    for i in range(2 * radius):
        place = i if i < radius else len(columns) + i - 2 * radius
        for channel in range(n_channels):
            padded[place * n_channels + channel] = values[columns[place] * n_channels + channel]


@compiled
def sample_lines(
    lines: Floats,
    above: Ints,
    below: Ints,
    row_parts: Floats,
    left: Ints,
    right: Ints,
    column_parts: Floats,
    sampled: Floats,
) -> None:
    """Interpolate bilinearly between pixels.

    Parameters
    ----------
    lines : ndarray of float64, shape (H, N*C)
    above, below : ndarray of int64, shape (m,)
        The two lines that each sampled row lies between.
    row_parts : ndarray of float64, shape (m,)
        How far below the line above it, in [0, 1).
    left, right, column_parts : ndarray, shape (n,)
        The same for each sampled column.
    sampled : ndarray of float64, shape (m, n, C)
        Where to write.
    """
    n_channels = sampled.shape[2]
    for row in range(len(above)):
        top, bottom = lines[above[row]], lines[below[row]]
        down = row_parts[row]
        up = 1 - down
        for column in range(len(left)):
            one, other = left[column] * n_channels, right[column] * n_channels
            rightward = column_parts[column]
            leftward = 1 - rightward
            for channel in range(n_channels):
                value = top[one + channel] * up * leftward + top[other + channel] * up * rightward
                value += bottom[one + channel] * down * leftward
                sampled[row, column, channel] = value + bottom[other + channel] * down * rightward
