"""Greedy merging of regions whose common border is the least credible.

What is known of a region and of a border adds up when they join. Borders are lists of links: links 2i and 2i + 1 are
border i seen from its two regions; a link names the region across, and the links before and after it in its list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bools, Floats, Integers
from segmentation.kernels.compiled import compiled
from segmentation.kernels.forest import Forest, log_odds
from segmentation.kernels.tournament import Tournament, play, put, tournament

Singles = NDArray[np.float32]

_NONE = -1
# Where things stand in the sums of a region,
N_PLANES, N_BINS, N_TEXTONS = 3, 16, 16
SIZE = 0
HISTOGRAMS = 1
TEXTONS = HISTOGRAMS + N_PLANES * N_BINS
MEANS = TEXTONS + N_TEXTONS
SQUARES = MEANS + N_PLANES
STRENGTH = SQUARES + N_PLANES
PERIMETER = STRENGTH + 1
OUTLINE = PERIMETER + 1  # what the cues come to along the perimeter, as far as it is shared with other regions
N_REGION_SUMS = OUTLINE + 1
# and of a border: its sides, the cues along it, and what they come to, in its direction and in any.
N_CUES = 9
LENGTH = 0
CUES = 1
ALONG = CUES + N_CUES
ALONG_SQUARES = ALONG + 1
HIGHEST = ALONG + 2
STEEPNESS = ALONG + 3
N_BORDER_SUMS = STEEPNESS + 1
#: Number of features of two regions and their border.
N_FEATURES = 44
# A region's borders are all priced anew once it has grown by this factor since: else by far the largest region of a
# large image would make the time quadratic.
_GROWTH = 1.1
# The price that is made a credibility of one half.
_USUAL_COST = 11.7


class Regions(NamedTuple):
    """What is known of the region at every place: sums over its pixels, node of the tree, height of that node."""

    sums: Floats
    nodes: Integers
    heights: Floats
    first: Integers  # the first link of the region
    degree: Integers  # number of its links
    priced: Floats  # its size when all of its borders were priced last
    met: Integers  # a note of the border over which it was met


class Borders(NamedTuple):
    """What is known of every border: sums over its sides; and its two links."""

    sums: Floats
    across: Integers
    before: Integers
    after: Integers
    is_new: Bools  # changed by a merge, and not priced since


class Merging(NamedTuple):
    """Everything while regions are merged; `done` holds the number of merges."""

    regions: Regions
    borders: Borders
    entries: Tournament
    children: Integers
    heights: Floats
    done: Integers
    scene: Floats  # pixels, smallest size, mean and spread of boundary strength, 1 for colour
    row: Floats  # room for the features of one border


@compiled
def start_merging(ends: Integers, border_sums: Floats, region_sums: Floats, scene: Floats, forest: Forest) -> Merging:
    """Price all borders.

    Parameters
    ----------
    ends : ndarray of int64, shape (B, 2)
        The two regions of every border, from 0.
    border_sums, region_sums : ndarray of float64, shape (B, N_BORDER_SUMS) and (n, N_REGION_SUMS)
        Sums over sides and over pixels; used up.
    scene : ndarray of float64, shape (5,)
        Of the image: its pixels, the size below which regions are merged before all others, mean and standard
        deviation of boundary strength, and 1 if it has colours.
    forest : Forest
        What prices borders; without trees a formula does.
    """
    n_regions, n_links = len(region_sums), 2 * len(ends)
    regions = Regions(
        region_sums,
        np.arange(n_regions).astype(np.int32),
        np.zeros(n_regions),
        np.full(n_regions, _NONE, np.int32),
        np.zeros(n_regions, np.int32),
        region_sums[:, 0].copy(),
        np.full(n_regions, _NONE, np.int32),
    )
    across = np.empty(n_links, np.int32)
    borders = Borders(
        border_sums, across, np.empty(n_links, np.int32), np.empty(n_links, np.int32), np.zeros(len(ends), np.bool_)
    )
    for border in range(len(ends)):
        across[2 * border], across[2 * border + 1] = ends[border, 1], ends[border, 0]
        for side in range(2):
            _put_link(regions, borders, ends[border, side], 2 * border + side)
            regions.sums[ends[border, side], OUTLINE] += border_sums[border, ALONG]
    room = max(n_regions - 1, 0)
    entries = tournament(np.arange(len(ends)).astype(np.int32))
    count = np.zeros(1, np.int64)
    children, heights, row = np.empty((room, 2), np.int32), np.empty(room), np.empty(N_FEATURES)
    merging = Merging(regions, borders, entries, children, heights, count, scene, row)
    for border in range(len(ends)):
        entries.costs[len(ends) + border] = _price(merging, forest, border)
    if len(ends) > 0:
        play(entries)
    return merging


@compiled
def merge_regions(merging: Merging, forest: Forest, n_left: int) -> None:
    """Merge touching regions, those with the least credible border first, until some number is left, or none touch."""
    regions, borders, entries, children, heights, done, _, _ = merging
    n_regions = len(regions.sums)
    while done[0] < n_regions - n_left and entries.costs[1] < np.inf:
        border, cost, count = entries.places[1], entries.costs[1], done[0]
        kept, gone = borders.across[2 * border], borders.across[2 * border + 1]
        if regions.degree[kept] < regions.degree[gone]:
            kept, gone = gone, kept
        height = max(cost, regions.heights[kept], regions.heights[gone])
        one, other = regions.nodes[kept], regions.nodes[gone]
        children[count, 0], children[count, 1], heights[count] = min(one, other), max(one, other), height
        _join(regions, borders, entries, kept, gone, border)
        regions.nodes[kept], regions.heights[kept] = n_regions + count, height
        _price_borders(merging, forest, kept)
        done[0] += 1


@compiled
def _price_borders(merging: Merging, forest: Forest, region: int) -> None:
    """Price the borders that a region got by a merge, or all of them."""
    regions, borders = merging.regions, merging.borders
    is_other = regions.sums[region, SIZE] >= _GROWTH * regions.priced[region]
    if is_other:
        regions.priced[region] = regions.sums[region, SIZE]
    link = regions.first[region]
    while link != _NONE:
        border = link // 2
        if is_other or borders.is_new[border]:
            put(merging.entries, border, _price(merging, forest, border))
            borders.is_new[border] = False
        link = borders.after[link]


@compiled
def live_borders(merging: Merging) -> tuple[Floats, Integers]:
    """Return the features of all borders that there are, shape (B, N_FEATURES), and the nodes on their two sides."""
    costs = merging.entries.costs
    first = len(costs) // 2
    count = 0
    for border in range(len(merging.borders.sums)):
        count += costs[first + border] < np.inf
    features, nodes = np.empty((count, N_FEATURES)), np.empty((count, 2), np.int32)
    count = 0
    for border in range(len(merging.borders.sums)):
        if costs[first + border] < np.inf:
            _describe(merging, border, features[count])
            for side in range(2):
                nodes[count, side] = merging.regions.nodes[merging.borders.across[2 * border + side]]
            count += 1
    return features, nodes


@compiled
def _put_link(regions: Regions, borders: Borders, region: int, link: int) -> None:
    """Put a link before the others of a region."""
    following = regions.first[region]
    borders.before[link], borders.after[link] = _NONE, following
    if following != _NONE:
        borders.before[following] = link
    regions.first[region] = link
    regions.degree[region] += 1


@compiled
def _remove_link(regions: Regions, borders: Borders, region: int, link: int) -> None:
    before, after = borders.before[link], borders.after[link]
    if before == _NONE:
        regions.first[region] = after
    else:
        borders.after[before] = after
    if after != _NONE:
        borders.before[after] = before
    regions.degree[region] -= 1


@compiled
def _join(regions: Regions, borders: Borders, entries: Tournament, kept: int, gone: int, border: int) -> None:
    """Give a region the pixels and the borders of another; borders with the same neighbour become one."""
    regions.sums[kept] += regions.sums[gone]
    regions.sums[kept, PERIMETER] -= 2 * borders.sums[border, LENGTH]
    regions.sums[kept, OUTLINE] -= 2 * borders.sums[border, ALONG]
    side = 2 * border if borders.across[2 * border] == gone else 2 * border + 1
    _remove_link(regions, borders, kept, side)
    _remove_link(regions, borders, gone, side ^ 1)
    put(entries, border, np.inf)
    link = regions.first[kept]
    while link != _NONE:
        regions.met[borders.across[link]] = link // 2
        link = borders.after[link]
    link = regions.first[gone]
    while link != _NONE:
        following, neighbour = borders.after[link], borders.across[link]
        known = regions.met[neighbour]
        if known != _NONE:
            borders.sums[known] += borders.sums[link // 2]
            borders.is_new[known] = True
            _remove_link(regions, borders, neighbour, link ^ 1)
            put(entries, link // 2, np.inf)
        else:
            borders.across[link ^ 1] = kept
            borders.is_new[link // 2] = True
            _put_link(regions, borders, kept, link)
        link = following
    link = regions.first[kept]
    while link != _NONE:
        regions.met[borders.across[link]] = _NONE
        link = borders.after[link]


@compiled
def _price(merging: Merging, forest: Forest, border: int) -> float:
    """Return how credible a border is, in (0, 1); of regions that are too small that less 1."""
    _describe(merging, border, merging.row)
    if len(forest.values) == 0:
        cost = np.exp(merging.row[N_FEATURES - 1])
        credible = float(cost / (cost + _USUAL_COST))
    else:
        credible = 1 / (1 + np.exp(-log_odds(forest, merging.row)))
    one, other = merging.borders.across[2 * border], merging.borders.across[2 * border + 1]
    smallest = min(merging.regions.sums[one, SIZE], merging.regions.sums[other, SIZE])
    return credible - 1 if smallest < merging.scene[1] else credible


@compiled
def _compare_histograms(one: Floats, other: Floats, row: Floats) -> float:
    """Write how the histograms of two regions differ, cumulative in each plane, then of textons; return a sum of it."""
    per, other_per = 1 / one[SIZE], 1 / other[SIZE]
    distance = 0.0
    for plane in range(N_PLANES):
        running, total = 0.0, 0.0
        for place in range(HISTOGRAMS + plane * N_BINS, HISTOGRAMS + (plane + 1) * N_BINS):
            running += one[place] * per - other[place] * other_per
            total += running * running
        row[plane] = total
        distance += 0.25 * total
    total = 0.0
    for place in range(TEXTONS, TEXTONS + N_TEXTONS):
        difference = one[place] * per - other[place] * other_per
        total += difference * difference
    row[N_PLANES] = total
    return float(distance + total)


@compiled
def _describe(merging: Merging, border: int, row: Floats) -> None:
    """Write the features of a border: what lies along it, how its two regions differ, and how large they are."""
    regions, borders, scene = merging.regions, merging.borders, merging.scene
    a, b = borders.across[2 * border], borders.across[2 * border + 1]
    one, other, line = regions.sums[a], regions.sums[b], borders.sums[border]
    length, size, other_size = line[LENGTH], one[SIZE], other[SIZE]
    per, other_per = 1 / size, 1 / other_size
    for index in range(N_CUES):
        row[index] = line[CUES + index] / length
    along = line[ALONG] / length
    at = N_CUES
    row[at] = along
    row[at + 1] = line[HIGHEST] / length
    row[at + 2] = line[STEEPNESS] / length
    row[at + 3] = np.sqrt(max(line[ALONG_SQUARES] / length - along * along, 0.0))
    at += 4
    distance = _compare_histograms(one, other, row[at : at + N_PLANES + 1])
    at += 4
    colors, other_colors = 0.0, 0.0
    for plane in range(N_PLANES):
        mean, other_mean = one[MEANS + plane] * per, other[MEANS + plane] * other_per
        spread = np.sqrt(max(one[SQUARES + plane] / size - mean * mean, 0.0))
        other_spread = np.sqrt(max(other[SQUARES + plane] / other_size - other_mean * other_mean, 0.0))
        row[at + plane] = abs(mean - other_mean)
        if plane == 0:
            row[at + 3], row[at + 4] = min(spread, other_spread), max(spread, other_spread)
        else:
            colors, other_colors = colors + spread, other_colors + other_spread
    at += 5
    strength, other_strength = one[STRENGTH] / size, other[STRENGTH] / other_size
    row[at], row[at + 1] = min(strength, other_strength), max(strength, other_strength)
    smaller, larger = min(size, other_size), max(size, other_size)
    row[at + 2], row[at + 3] = np.log(smaller / scene[0]), np.log(larger / scene[0])
    row[at + 4] = length / np.sqrt(smaller)
    row[at + 5] = length / min(one[PERIMETER], other[PERIMETER])
    low, high = regions.heights[a], regions.heights[b]
    row[at + 6], row[at + 7] = min(low, high), max(low, high)
    row[at + 8], row[at + 9], row[at + 10] = scene[2], scene[3], scene[4]
    at += 11
    outline, other_outline = one[OUTLINE] / one[PERIMETER], other[OUTLINE] / other[PERIMETER]
    row[at], row[at + 1] = min(outline, other_outline), max(outline, other_outline)
    row[at + 2] = along / (0.5 * (outline + other_outline) + 1e-3)
    for plane in range(N_PLANES):
        row[at + 3 + plane] = (one[MEANS + plane] + other[MEANS + plane]) / (size + other_size)
    round_, other_round = one[PERIMETER] / np.sqrt(size), other[PERIMETER] / np.sqrt(other_size)
    row[at + 6], row[at + 7] = min(round_, other_round), max(round_, other_round)
    row[at + 8], row[at + 9] = min(colors, other_colors), max(colors, other_colors)
    at += 10
    strength = row[N_CUES + 1] / 0.43
    harmonic = size * other_size / (size + other_size) / scene[0] * 38000
    row[at] = np.log(distance + 3 * strength * strength + 1e-6) + 0.15 * np.log(harmonic)
