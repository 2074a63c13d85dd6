"""Region and boundary scores of BSDS500, as its benchmark code defines them.

Covering, Probabilistic Rand Index (PRI) and Variation of Information (VI, in bits) after Arbelaez, Maire, Fowlkes &
Malik (IEEE TPAMI 33(5), 2011), and the boundary F-measure of Martin, Fowlkes & Malik (IEEE TPAMI 26(5), 2004) with a
matching of greatest cardinality in place of one of least cost.

A method gives several segmentations of every image, one for each of its settings. ODS is the score of the one setting
that is best for all images together, OIS that of the best setting of every image. Covering counts pixels of all human
segmentations; PRI and VI are means over images of means over people; F is that of counts summed over images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

#: Boundaries match within this part of the image's diagonal.
TOLERANCE = 0.0075


class Truth:
    """The human segmentations of one image."""

    def __init__(self, segmentations: Sequence[NDArray], boundaries: Sequence[NDArray]):
        dense = [np.unique(labels, return_inverse=True) for labels in segmentations]
        self.segmentations = [inverse.reshape(-1) for _, inverse in dense]
        self.counts = [len(values) for values, _ in dense]
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.areas = np.concatenate([np.bincount(flat) for flat in self.segmentations]).astype(float)
        self.boundaries = [np.asarray(boundary, bool) for boundary in boundaries]
        self.n_pixels = segmentations[0].size

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read a file of BSDS500's groundTruth."""
        from scipy.io import loadmat

        cells = loadmat(path)["groundTruth"].reshape(-1)
        return cls(*([cell[name][0, 0] for cell in cells] for name in ("Segmentation", "Boundaries")))

    def table(self, labels: NDArray) -> NDArray[np.float64]:
        """Count common pixels, regions of `labels` by all human regions; numbers without pixels have no row."""
        values, flat = np.unique(labels, return_inverse=True)
        flat = flat.reshape(-1)
        pairs = zip(self.segmentations, self.counts, strict=True)
        tables = [
            np.bincount(flat * n + human, minlength=len(values) * n).reshape(len(values), n) for human, n in pairs
        ]
        return np.hstack(tables).astype(float)


def merged(table: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Add up the rows of a table that are of one group, 0..K-1."""
    ones = np.ones(len(groups))
    joined: NDArray[np.float64] = sparse.csr_array((ones, (groups, np.arange(len(groups))))) @ table
    return joined


class ImageScores:
    """Scores of one image at every setting of a method."""

    def __init__(self, truth: Truth):
        self.truth = truth
        self.covered: list[float] = []
        self.pri: list[float] = []
        self.vi: list[float] = []
        self.n_regions: list[int] = []
        self.best = np.zeros(len(truth.areas))
        self.boundary: list[tuple[int, int, int, int]] = []

    def add(self, table: NDArray[np.float64]) -> None:
        """Score a segmentation by its table."""
        truth, n = self.truth, float(self.truth.n_pixels)
        sizes = table[:, : truth.counts[0]].sum(axis=1)
        overlap = (table / (sizes[:, None] + truth.areas - table)).max(axis=0)
        self.best = np.maximum(self.best, overlap)
        self.covered.append(float((truth.areas * overlap).sum()))

        def per_person(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.add.reduceat(values, truth.starts)

        together = per_person((table**2).sum(axis=0))
        differing = ((sizes**2).sum() + per_person(truth.areas**2)) / 2 - together
        self.pri.append(float(np.mean(1 - differing / (n * (n - 1) / 2))))
        entropies = _bits(sizes).sum() + per_person(_bits(truth.areas)) - 2 * per_person(_bits(table).sum(axis=0))
        self.vi.append(float(np.mean(entropies / n)))
        self.n_regions.append(len(table))

    def add_boundary(self, labels: NDArray) -> None:
        """Match the boundaries of a segmentation with those that people drew."""
        self.boundary.append(boundary_counts(boundary_map(labels), self.truth.boundaries))


def _bits(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * np.log2(np.where(counts > 0, counts, 1.0))


@dataclass(frozen=True)
class Summary:
    """Scores of a method on a set of images; `f_ods` and `f_ois` are NaN where no boundaries were matched."""

    cover_ods: float
    cover_ois: float
    cover_best: float
    pri_ods: float
    pri_ois: float
    vi_ods: float
    vi_ois: float
    f_ods: float
    f_ois: float
    #: Index of the setting that is best for covering, for the whole set.
    best_setting: int


def summarise(scores: Sequence[ImageScores], settings: Iterable[int] | None = None) -> Summary:
    """Summarise the scores of images over some settings, by default all."""
    chosen = list(range(len(scores[0].covered)) if settings is None else settings)
    covered = np.array([score.covered for score in scores])[:, chosen]
    pri = np.array([score.pri for score in scores])[:, chosen]
    vi = np.array([score.vi for score in scores])[:, chosen]
    total = sum(score.truth.areas.sum() for score in scores)
    best = sum((score.truth.areas * score.best).sum() for score in scores)
    f_ods = f_ois = float("nan")
    if scores[0].boundary:
        counts = np.array([score.boundary for score in scores], float)
        f_ods = float(f_measure(counts.sum(axis=0)).max())
        own = f_measure(counts).argmax(axis=1)
        f_ois = float(f_measure(counts[np.arange(len(counts)), own].sum(axis=0)))
    return Summary(
        cover_ods=float(covered.sum(axis=0).max() / total),
        cover_ois=float(covered.max(axis=1).sum() / total),
        cover_best=float(best / total),
        pri_ods=float(pri.mean(axis=0).max()),
        pri_ois=float(pri.max(axis=1).mean()),
        vi_ods=float(vi.mean(axis=0).min()),
        vi_ois=float(vi.min(axis=1).mean()),
        f_ods=f_ods,
        f_ois=f_ois,
        best_setting=chosen[int(covered.sum(axis=0).argmax())],
    )


def f_measure(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F of (matched, all) pixels of people's boundaries and (matched, all) of ours, along the last axis."""
    recall = counts[..., 0] / np.maximum(counts[..., 1], 1)
    precision = counts[..., 2] / np.maximum(counts[..., 3], 1)
    both = precision + recall
    return np.where(both > 0, 2 * precision * recall / np.maximum(both, 1e-12), 0.0)


def boundary_map(labels: NDArray) -> NDArray[np.bool_]:
    """Mark pixels whose neighbours to the right and below are of another region, as seg2bdry of the benchmark does."""
    beside, below = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    marked = np.zeros(labels.shape, bool)
    marked[:-1, :-1] = beside[:-1] | beside[1:] | below[:, :-1] | below[:, 1:]
    marked[-1, :-1] = beside[-1]
    marked[:-1, -1] = below[:, -1]
    return marked


def boundary_counts(marked: NDArray[np.bool_], drawn: Sequence[NDArray[np.bool_]]) -> tuple[int, int, int, int]:
    """Thin a boundary map and match it with those that people drew, one pixel with one pixel of each person's.

    Returns
    -------
    counts : tuple of int
        Of all people's boundary pixels, the matched and all; of ours, those matched with anybody's and all.
    """
    from skimage.morphology import thin

    lines = thin(marked)
    reach = TOLERANCE * np.hypot(*marked.shape)
    points = np.argwhere(lines)
    numbers = np.full(lines.shape, -1)
    numbers[lines] = np.arange(len(points))
    matched = np.zeros(len(points), bool)
    recalled = n_drawn = 0
    for boundary in drawn:
        theirs = np.argwhere(boundary)
        owners = _match(theirs, points, numbers, reach)
        recalled, n_drawn = recalled + int((owners >= 0).sum()), n_drawn + len(theirs)
        matched |= owners >= 0
    return recalled, n_drawn, int(matched.sum()), len(points)


@njit(cache=True)
def _match(theirs: NDArray, ours: NDArray, numbers: NDArray, reach: float) -> NDArray[np.int64]:
    """Match points one to one within a reach, as many as possible; return for each of ours its partner, or -1.

    Nearest pairs first, then shortest augmenting paths.
    """
    starts, others, squares = _near(theirs, numbers, reach)
    firsts = np.empty(len(others), np.int64)
    for point in range(len(theirs)):
        firsts[starts[point] : starts[point + 1]] = point
    mates, owners = np.full(len(theirs), -1), np.full(len(ours), -1)
    for pair in np.argsort(squares, kind="mergesort"):
        if mates[firsts[pair]] < 0 and owners[others[pair]] < 0:
            mates[firsts[pair]], owners[others[pair]] = others[pair], firsts[pair]
    # From where no path leads on is never looked at again; `seen` names the search that met a point.
    is_dead, seen, came_from = np.zeros(len(ours), np.bool_), np.full(len(ours), -1), np.empty(len(ours), np.int64)
    queue, met = np.empty(len(theirs) + 1, np.int64), np.empty(len(ours), np.int64)
    for start in range(len(theirs)):
        if mates[start] >= 0 or starts[start] == starts[start + 1]:
            continue
        queue[0], n_queued, n_met, place, found = start, 1, 0, 0, -1
        while place < n_queued and found < 0:
            for pair in range(starts[queue[place]], starts[queue[place] + 1]):
                other = others[pair]
                if is_dead[other] or seen[other] == start:
                    continue
                seen[other], came_from[other], met[n_met] = start, queue[place], other
                n_met += 1
                if owners[other] < 0:
                    found = other
                    break
                queue[n_queued] = owners[other]
                n_queued += 1
            place += 1
        if found < 0:
            is_dead[met[:n_met]] = True
        while found >= 0:
            point = came_from[found]
            before = mates[point]
            mates[point], owners[found] = found, point
            found = before
    return owners


@njit(cache=True)
def _near(theirs: NDArray, numbers: NDArray, reach: float) -> tuple[NDArray, NDArray, NDArray]:
    """List for every point those of ours within a reach, in raster order, and how far they are, squared."""
    span = int(reach)
    starts = np.zeros(len(theirs) + 1, np.int64)
    others, squares = np.empty(16, np.int64), np.empty(16, np.int64)
    count = 0
    for point in range(len(theirs)):
        row, column = theirs[point]
        for r in range(max(row - span, 0), min(row + span + 1, numbers.shape[0])):
            for c in range(max(column - span, 0), min(column + span + 1, numbers.shape[1])):
                square = (r - row) ** 2 + (c - column) ** 2
                if numbers[r, c] >= 0 and square <= reach * reach:
                    if count == len(others):
                        others, squares = np.append(others, others), np.append(squares, squares)
                    others[count], squares[count] = numbers[r, c], square
                    count += 1
        starts[point + 1] = count
    return starts, others[:count], squares[:count]
