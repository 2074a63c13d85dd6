"""What is counted and summed for every region, in one way through the label map."""

import numpy as np

from segmentation.arrays import Bytes8, Floats, Image, Integers, Ints, Labels
from segmentation.kernels.compiled import compiled

# Pixels compared at once: more of them than most stretches are long would be for nothing.
_STEP = 8


@compiled
def measure_regions(labels: Labels, n_slots: int, lengths: Bytes8) -> tuple[Ints, Ints, Ints]:
    """Count pixels and border pixels, and sum up where they lie.

    Parameters
    ----------
    labels : ndarray of uint16 or uint32, shape (M, N)
    n_slots : int
        Highest label + 1.
    lengths : ndarray of uint8
        For 1 + 2 * (border pixels of its region beside a border pixel) + 10 * (those diagonal to it), which of the
        counts is raised; 0 for none.

    Returns
    -------
    bounds : ndarray of int64, shape (n_slots, 4)
        First row, first column, and those behind the last.
    sums : ndarray of int64, shape (n_slots, 6)
        Of 1, y, x, yy, xx, yx.
    borders : ndarray of int64, shape (n_slots, 4)
        Counts of border pixels by `lengths`.
    """
    n_rows, n_columns = labels.shape
    bounds = np.zeros((n_slots, 4), np.int64)
    bounds[:, :2] = max(n_rows, n_columns)
    sums = np.zeros((n_slots, 6), np.int64)
    borders = np.zeros((n_slots, 4), np.int64)
    # Three lines of the map, and of the map with 0 inside regions, between zeros: what lies outside is of no region.
    lines = np.zeros((3, n_columns + 2), labels.dtype)
    outlines = np.zeros((3, n_columns + 2), labels.dtype)
    _put(labels, 0, lines[1])
    for row in range(n_rows + 1):
        above, here, below = row % 3, (row + 1) % 3, (row + 2) % 3
        _put(labels, row + 1, lines[below])
        _outline(lines[above], lines[here], lines[below], outlines[here])
        if row > 0:
            _count_borders(outlines[below], outlines[above], outlines[here], lengths, borders)
        if row < n_rows:
            _sum_runs(labels[row], row, bounds, sums)
    return bounds, sums, borders


@compiled
def _put(labels: Labels, row: int, line: Labels) -> None:
    inside = row < len(labels)
    for column in range(len(line) - 2):
        line[column + 1] = labels[row, column] if inside else 0


@compiled
def _outline(above: Labels, here: Labels, below: Labels, outline: Labels) -> None:
    """Keep the labels of the pixels that have a pixel of another region beside them."""
    for column in range(1, len(here) - 1):
        label = here[column]
        same = (
            (label == above[column])
            & (label == below[column])
            & (label == here[column - 1])
            & (label == here[column + 1])
        )
        outline[column] = 0 if same else label


@compiled
def _count_borders(above: Labels, here: Labels, below: Labels, lengths: Bytes8, borders: Ints) -> None:
    for column in range(1, len(here) - 1):
        label = here[column]
        if label:
            beside = int(above[column] == label) + int(below[column] == label)
            beside += int(here[column - 1] == label) + int(here[column + 1] == label)
            diagonal = int(above[column - 1] == label) + int(above[column + 1] == label)
            diagonal += int(below[column - 1] == label) + int(below[column + 1] == label)
            borders[label, lengths[1 + 2 * beside + 10 * diagonal]] += 1


@compiled
def _sum_runs(line: Labels, row: int, bounds: Ints, sums: Ints) -> None:
    """Add the stretches of one label in a row: what a stretch adds follows from its ends."""
    start = 0
    while start < len(line):
        label, stop = line[start], _end_of_run(line, start)
        if label:
            bound, total, n = bounds[label], sums[label], stop - start
            bound[0], bound[2] = min(bound[0], row), row + 1
            bound[1], bound[3] = min(bound[1], start), max(bound[3], stop)
            x = (start + stop - 1) * n // 2
            xx = ((stop - 1) * stop * (2 * stop - 1) - (start - 1) * start * (2 * start - 1)) // 6
            total[0] += n
            total[1] += row * n
            total[2] += x
            total[3] += row * row * n
            total[4] += xx
            total[5] += row * x
        start = stop


@compiled
def _end_of_run(line: Labels, start: int) -> int:
    label, stop, same = line[start], start + 1, True
    while same and stop + _STEP <= len(line):  # several at once, without asking after each
        for column in range(stop, stop + _STEP):
            same &= line[column] == label
        stop += _STEP if same else 0
    while stop < len(line) and line[stop] == label:
        stop += 1
    return stop


@compiled
def sum_channels(labels: Labels, image: Image, n_slots: int) -> Floats:
    """Sum up each channel within each region.

    Parameters
    ----------
    labels : ndarray of uint16 or uint32, shape (M, N)
    image : ndarray, shape (M, N, 1) or (M, N, 3)
    n_slots : int
        Highest label + 1.

    Returns
    -------
    sums : ndarray of float64, shape (n_slots, C)
        Those of label 0 are 0.
    """
    sums = np.zeros((n_slots, image.shape[2]))
    for row in range(len(labels)):
        line, pixels, start = labels[row], image[row], 0
        while start < len(line):
            label, stop = line[start], _end_of_run(line, start)
            if label:
                _add_run(pixels, start, stop, sums[label])
            start = stop
    return sums


@compiled
def _add_run(pixels: Image, start: int, stop: int, total: Floats) -> None:
    if len(total) == 3:  # three sums that do not wait for one another
        # Times 1: a number of 64 bits, an integer where pixels are.
        red, green, blue = 1 * pixels[start, 0], 1 * pixels[start, 1], 1 * pixels[start, 2]
        for column in range(start + 1, stop):
            red += pixels[column, 0]
            green += pixels[column, 1]
            blue += pixels[column, 2]
        total[0] += red
        total[1] += green
        total[2] += blue
    else:
        grey = 1 * pixels[start, 0]
        for column in range(start + 1, stop):
            grey += pixels[column, 0]
        total[0] += grey


@compiled
def squares_around_means(features: Floats, labels: Integers, n_regions: int) -> float:
    """Sum the squared distances of points, shape (P, C), to the mean of their region, a number from 0."""
    n_points, n_channels = features.shape
    sizes, means = np.zeros(n_regions), np.zeros((n_regions, n_channels))
    for point in range(n_points):
        sizes[labels[point]] += 1
        for channel in range(n_channels):
            means[labels[point], channel] += features[point, channel]
    for region in range(n_regions):
        for channel in range(n_channels):
            means[region, channel] /= max(1.0, sizes[region])
    total = 0.0
    for point in range(n_points):
        for channel in range(n_channels):
            total += (features[point, channel] - means[labels[point], channel]) ** 2
    return total
