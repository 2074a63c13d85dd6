"""Cues of boundaries: Lab planes at half size, textons, and how different the two halves of a disc are.

Histograms are kept in single precision: they count at most some hundred pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Integers
from segmentation.kernels.compiled import compiled

Singles = NDArray[np.float32]

#: Orientations of the line that halves a disc; line o has the angle o·π/8 from the columns' axis to the rows'.
N_ORIENTATIONS = 8
_HALF, _ALL = N_ORIENTATIONS, 2 * N_ORIENTATIONS
_ABREAST = 8


@compiled
def halve(image: NDArray[Any], white: float) -> Singles:
    """Average blocks of 2×2 pixels, as parts of a largest value.

    Parameters
    ----------
    image : ndarray, shape (M, N, C)
        Of a side of odd length, the last blocks have one line of pixels only.
    white : float
        The value that becomes 1.

    Returns
    -------
    halved : ndarray of float32, shape (C, ceil(M / 2), ceil(N / 2))
    """
    n_rows, n_columns, n_channels = image.shape
    halved = np.empty((n_channels, (n_rows + 1) // 2, (n_columns + 1) // 2), np.float32)
    for row in range(halved.shape[1]):
        above, below = 2 * row, min(2 * row + 1, n_rows - 1)
        for column in range(halved.shape[2]):
            left, right = 2 * column, min(2 * column + 1, n_columns - 1)
            for channel in range(n_channels):
                # One division of exact sums: 8 bits, and 16 bits of the same picture, give the same to the last bit.
                upper = np.float64(image[above, left, channel]) + np.float64(image[above, right, channel])
                lower = np.float64(image[below, left, channel]) + np.float64(image[below, right, channel])
                halved[channel, row, column] = (upper + lower) / (4 * white)
    return halved


@compiled
def lab_planes(planes: Singles, linear: Singles, roots: Singles) -> Singles:
    """Convert sRGB planes, shape (3, M, N) and in [0, 1], to L*, a*, b* (CIE 1976, D65), by tables.

    Parameters
    ----------
    planes : ndarray of float32, shape (3, M, N)
    linear, roots : ndarray of float32
        The inverse of sRGB's curve, and CIE's cube root, at equal steps over [0, 1]; values between are interpolated.
    """
    lab = np.empty_like(planes)
    for row in range(planes.shape[1]):
        for column in range(planes.shape[2]):
            red = _look_up(linear, planes[0, row, column])
            green = _look_up(linear, planes[1, row, column])
            blue = _look_up(linear, planes[2, row, column])
            x = _look_up(roots, (0.412453 * red + 0.357580 * green + 0.180423 * blue) / 0.95047)
            y = _look_up(roots, 0.212671 * red + 0.715160 * green + 0.072169 * blue)
            z = _look_up(roots, (0.019334 * red + 0.119193 * green + 0.950227 * blue) / 1.08883)
            lab[0, row, column] = 116 * y - 16
            lab[1, row, column] = 500 * (x - y)
            lab[2, row, column] = 200 * (y - z)
    return lab


@compiled
def _look_up(table: Singles, value: float) -> float:
    place = min(max(value, 0.0), 1.0) * (len(table) - 1)
    before = min(int(place), len(table) - 2)
    part = place - before
    return float(table[before] * (1 - part) + table[before + 1] * part)


@compiled
def nearest_codes(responses: Singles, codes: Singles) -> Integers:
    """Give every pixel the number of the code nearest to its filter responses, damped as by Weber's law.

    Parameters
    ----------
    responses : ndarray of float32, shape (F, M, N)
        Of F filters, each scaled to an r.m.s. of 1 over the image.
    codes : ndarray of float32, shape (F, K)

    Returns
    -------
    numbers : ndarray of int32, shape (M, N)
    """
    n_filters, n_rows, n_columns = responses.shape
    squares = np.zeros(codes.shape[1], np.float32)
    for index in range(n_filters):
        squares += codes[index] * codes[index]
    numbers = np.empty((n_rows, n_columns), np.int32)
    distances = np.empty_like(squares)
    for row in range(n_rows):
        for column in range(n_columns):
            norm = 0.0
            for index in range(n_filters):
                norm += responses[index, row, column] ** 2
            norm = np.sqrt(norm)
            damping = np.log1p(norm) / norm if norm > 0 else 0.0
            distances[:] = squares
            for index in range(n_filters):
                twice = np.float32(2 * damping * responses[index, row, column])
                for code in range(len(distances)):
                    distances[code] -= twice * codes[index, code]
            numbers[row, column] = distances.argmin()
    return numbers


@compiled
def disc_contrasts(bins: Integers, parts: Singles, n_bins: int, offsets: Integers, wedges: Integers) -> Singles:
    """Compare the histograms of the two halves of a disc around every pixel, for eight orientations.

    Parameters
    ----------
    bins : ndarray of int32, shape (M + 2R, N + 2R)
        The lower of the two bins that a pixel counts in; mirrored beyond the image by the discs' radius R.
    parts : ndarray of float32, shape of `bins`
        Share in [0, 1) of a pixel that counts in the next bin.
    n_bins : int
        Number of bins.
    offsets : ndarray of int64, shape (D, 2)
        The pixels of a disc, as rows and columns from its centre.
    wedges : ndarray of int64, shape (D,)
        The sixteenth of a turn that each lies in.

    Returns
    -------
    contrasts : ndarray of float32, shape (M, N, 8)
        Square root of the chi-squared distance of the halves, in [0, 1].

    Notes
    -----
    O(MN·(D + 8·n_bins)) time. After [1]_: from one orientation to the next, a wedge changes sides.

    References
    ----------
    .. [1] Martin, Fowlkes & Malik, "Learning to detect natural image boundaries using local brightness, color, and
       texture cues", IEEE TPAMI 26(5), 2004.
    """
    radius = -offsets[:, 0].min()
    n_rows, n_columns = bins.shape[0] - 2 * radius, bins.shape[1] - 2 * radius
    contrasts = np.empty((n_rows, n_columns, _HALF), np.float32)
    # Pixels side by side are one vector to the processor.
    histograms = np.empty((_ALL, n_bins + 1, _ABREAST), np.float32)
    differences, shares = np.empty((n_bins, _ABREAST), np.float32), np.empty((n_bins, _ABREAST), np.float32)
    totals = np.empty(_ABREAST, np.float32)
    for row in range(n_rows):
        for start in range(0, n_columns, _ABREAST):
            count = min(_ABREAST, n_columns - start)
            histograms[:] = 0
            for pixel in range(len(wedges)):
                r, c = row + radius + offsets[pixel, 0], start + radius + offsets[pixel, 1]
                histogram = histograms[wedges[pixel]]
                for abreast in range(count):
                    place, part = bins[r, c + abreast], parts[r, c + abreast]
                    histogram[place, abreast] += np.float32(1) - part
                    histogram[place + 1, abreast] += part
            _halve_discs(histograms, differences, shares)
            for line in range(_HALF):
                totals[:] = 0
                for place in range(n_bins):
                    behind, ahead = histograms[line + _HALF, place], histograms[line, place]
                    difference, share = differences[place], shares[place]
                    for abreast in range(_ABREAST):
                        totals[abreast] += difference[abreast] * difference[abreast] * share[abreast]
                        difference[abreast] += np.float32(2) * (behind[abreast] - ahead[abreast])
                for abreast in range(count):
                    contrasts[row, start + abreast, line] = np.sqrt(totals[abreast] / np.float32(len(wedges)))
    return contrasts


@compiled
def _halve_discs(histograms: Singles, differences: Singles, shares: Singles) -> None:
    """Take the difference of the first line's sides, and one over their sum (0 for an empty bin)."""
    for place in range(len(shares)):
        difference, share = differences[place], shares[place]
        difference[:], share[:] = 0, 0
        for wedge in range(_HALF):
            one, other = histograms[wedge, place], histograms[wedge + _HALF, place]
            for abreast in range(_ABREAST):
                difference[abreast] += one[abreast] - other[abreast]
                share[abreast] += one[abreast] + other[abreast]
        for abreast in range(_ABREAST):
            # A bin that holds rounding errors only counts as empty.
            total = share[abreast]
            share[abreast] = np.float32(1) / total if total > np.float32(1e-4) else np.float32(0)


@compiled
def strongest(maps: Singles) -> tuple[Singles, Singles, Integers]:
    """Smooth oriented maps by binomials over 3×3 pixels, and look which of them is strongest.

    Parameters
    ----------
    maps : ndarray of float32, shape (M, N, 8)

    Returns
    -------
    highest, mean : ndarray of float32, shape (M, N)
        Of all orientations.
    orientations : ndarray of int32, shape (M, N)
        The first of the strongest.
    """
    n_rows, n_columns, n_maps = maps.shape
    highest, mean = np.empty((n_rows, n_columns), np.float32), np.empty((n_rows, n_columns), np.float32)
    orientations = np.empty((n_rows, n_columns), np.int32)
    sums, lines = np.empty(n_maps, np.float32), np.empty((n_columns, n_maps), np.float32)
    for row in range(n_rows):
        above, here, below = maps[max(row - 1, 0)], maps[row], maps[min(row + 1, n_rows - 1)]
        for column in range(n_columns):
            for index in range(n_maps):
                lines[column, index] = above[column, index] + 2 * here[column, index] + below[column, index]
        for column in range(n_columns):
            left, right = lines[max(column - 1, 0)], lines[min(column + 1, n_columns - 1)]
            for index in range(n_maps):
                sums[index] = left[index] + 2 * lines[column, index] + right[index]
            best = sums.argmax()
            highest[row, column], orientations[row, column] = sums[best] / 16, best
            mean[row, column] = sums.sum() / (16 * n_maps)
    return highest, mean, orientations


@compiled
def add_enlarged(total: Singles, maps: Singles) -> None:
    """Add to oriented maps those of half the size, interpolated between pixel centres."""
    n_rows, n_columns, n_maps = total.shape
    for row in range(n_rows):
        above = (row - 1) // 2
        below_part = np.float32(0.25 if row % 2 else 0.75)
        below = min(above + 1, maps.shape[0] - 1)
        above = max(above, 0)
        for column in range(n_columns):
            left = (column - 1) // 2
            right_part = np.float32(0.25 if column % 2 else 0.75)
            right = min(left + 1, maps.shape[1] - 1)
            left = max(left, 0)
            for index in range(n_maps):
                upper = maps[above, left, index] * (1 - right_part) + maps[above, right, index] * right_part
                lower = maps[below, left, index] * (1 - right_part) + maps[below, right, index] * right_part
                total[row, column, index] += upper * (1 - below_part) + lower * below_part


@compiled
def steepness(image: NDArray[Any], white: float) -> Singles:
    """Compute how steep the steepest channel of an image is, by Sobel's filters.

    Parameters
    ----------
    image : ndarray, shape (M, N, C)
        Continued by its last pixels.
    white : float
        The value that counts as 1.

    Returns
    -------
    steepness : ndarray of float32, shape (M, N)
        Change from one pixel to the next.
    """
    n_rows, n_columns, n_channels = image.shape
    result = np.empty((n_rows, n_columns), np.float32)
    across = np.empty((2, n_channels, n_columns + 2))
    for row in range(n_rows):
        above, below = max(row - 1, 0), min(row + 1, n_rows - 1)
        for column in range(n_columns):
            for channel in range(n_channels):
                one, other = np.float64(image[above, column, channel]), np.float64(image[below, column, channel])
                across[0, channel, column + 1] = one + 2 * np.float64(image[row, column, channel]) + other
                across[1, channel, column + 1] = other - one
        across[:, :, 0], across[:, :, -1] = across[:, :, 1], across[:, :, -2]
        for column in range(n_columns):
            highest = 0.0
            for channel in range(n_channels):
                smooth, slope = across[0, channel], across[1, channel]
                right = smooth[column + 2] - smooth[column]
                down = slope[column] + 2 * slope[column + 1] + slope[column + 2]
                highest = max(highest, right * right + down * down)
            result[row, column] = np.sqrt(highest) / (8 * white)
    return result
