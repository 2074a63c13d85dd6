"""Greedy merging of regions whose common border is the least credible.

What is known of a region and of a border adds up when they join. Borders are lists of links: links 2i and 2i + 1 are
border i seen from its two regions; a link names the region across, and the links before and after it in its list.
"""

from typing import NamedTuple

import numpy as np

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled
from segmentation.kernels.tournament import Tournament, play, put, tournament

_NONE = -1
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


class Layout(NamedTuple):
    """Where things stand in a region's sums."""

    n_planes: int
    n_bins: int
    n_codes: int
    n_pixels: float


@compiled
def merge_regions(
    ends: Integers, border_sums: Floats, region_sums: Floats, layout: Layout, min_size: int
) -> tuple[Integers, Floats]:
    """Merge touching regions, those with the lowest price first, until none touch.

    Parameters
    ----------
    ends : ndarray of int64, shape (B, 2)
        The two regions of every border, from 0.
    border_sums, region_sums : ndarray of float64, shape (B, E) and (n, F)
        Sums over sides and over pixels; used up.
    layout : Layout
    min_size : int
        Regions of fewer pixels are merged before all others, at height 0.

    Returns
    -------
    children : ndarray of int32, shape (K, 2)
        The nodes of every merge; regions are the nodes below n, merge i makes the node n + i.
    heights : ndarray of float64, shape (K,)
        The price of every merge, or the height of a child if that is larger.
    """
    n_regions = len(region_sums)
    regions, borders = _linked(ends, border_sums, region_sums)
    entries = tournament(np.arange(len(ends)).astype(np.int32))
    for border in range(len(ends)):
        entries.costs[len(ends) + border] = _price(regions, borders, layout, border, min_size)
    if len(ends) > 0:
        play(entries)
    children, heights = np.empty((max(n_regions - 1, 0), 2), np.int32), np.empty(max(n_regions - 1, 0))
    count = 0
    while len(ends) > 0 and entries.costs[1] < np.inf:
        border, cost = entries.places[1], entries.costs[1]
        kept, gone = borders.across[2 * border], borders.across[2 * border + 1]
        if regions.degree[kept] < regions.degree[gone]:
            kept, gone = gone, kept
        height = max(cost, regions.heights[kept], regions.heights[gone])
        one, other = regions.nodes[kept], regions.nodes[gone]
        children[count, 0], children[count, 1], heights[count] = min(one, other), max(one, other), height
        _join(regions, borders, entries, kept, gone, border)
        regions.nodes[kept], regions.heights[kept] = n_regions + count, height
        _price_again(regions, borders, layout, entries, kept, min_size)
        count += 1
    return children[:count].copy(), heights[:count].copy()


@compiled
def _linked(ends: Integers, border_sums: Floats, region_sums: Floats) -> tuple[Regions, Borders]:
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
    borders = Borders(border_sums, across, np.empty(n_links, np.int32), np.empty(n_links, np.int32))
    for border in range(len(ends)):
        across[2 * border], across[2 * border + 1] = ends[border, 1], ends[border, 0]
        _put_link(regions, borders, ends[border, 0], 2 * border)
        _put_link(regions, borders, ends[border, 1], 2 * border + 1)
    return regions, borders


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
            _remove_link(regions, borders, neighbour, link ^ 1)
            put(entries, link // 2, np.inf)
        else:
            borders.across[link ^ 1] = kept
            _put_link(regions, borders, kept, link)
        link = following
    link = regions.first[kept]
    while link != _NONE:
        regions.met[borders.across[link]] = _NONE
        link = borders.after[link]


@compiled
def _price_again(
    regions: Regions, borders: Borders, layout: Layout, entries: Tournament, region: int, min_size: int
) -> None:
    link = regions.first[region]
    while link != _NONE:
        put(entries, link // 2, _price(regions, borders, layout, link // 2, min_size))
        link = borders.after[link]


@compiled
def _price(regions: Regions, borders: Borders, layout: Layout, border: int, min_size: int) -> float:
    """Return how credible a border is, in [0, 1); of regions that are too small that less 1."""
    one, other = regions.sums[borders.across[2 * border]], regions.sums[borders.across[2 * border + 1]]
    n_values = layout.n_planes * layout.n_bins
    distance = 0.0
    for plane in range(layout.n_planes):
        running = 0.0
        for place in range(1 + plane * layout.n_bins, 1 + (plane + 1) * layout.n_bins):
            running += one[place] / one[0] - other[place] / other[0]
            distance += 0.25 * running * running
    for place in range(1 + n_values, 1 + n_values + layout.n_codes):
        difference = one[place] / one[0] - other[place] / other[0]
        distance += difference * difference
    strength = borders.sums[border, 1] / borders.sums[border, 0] / 0.43
    size = one[0] * other[0] / (one[0] + other[0]) / layout.n_pixels
    cost = (distance + 3 * strength * strength) * (size * 38000) ** 0.15
    credible = float(cost / (cost + _USUAL_COST))
    return credible - 1 if min(one[0], other[0]) < min_size else credible
