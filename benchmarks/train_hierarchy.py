"""Learn what `segmentation.hierarchy` knows of borders, from the training images of BSDS500 alone.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.train_hierarchy DATA

DATA holds ``images/train/*.jpg`` and ``groundTruth/train/*.mat``. Writes segmentation/hierarchy.npz, the same bytes at
every run, in about six minutes of CPU time:

1. textons: k-means of filter responses;
2. a forest that says how probable people draw a boundary at a pixel (`benchmarks.train_boundaries`);
3. a forest of boosted regression trees, which says how probable it is that people see two regions as different. It is
   learned from the borders met while regions are merged: first by a formula, then by the forest itself (Nunez-Iglesias
   et al., "Machine learning of hierarchical clustering to segment 2D and 3D images", PLoS ONE 8(8), 2013);
4. the usual cut: that of the largest covering on each half of the images, of trees grown by what the other half taught.

Every second image is learned from in grey too.
"""

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import segmentation
from benchmarks.boosting import Rows, boost
from benchmarks.bsds_scores import ImageScores, Truth, merged, summarise
from benchmarks.train_boundaries import learn_boundaries, pixels_seen
from segmentation.arrays import read_only
from segmentation.base_regions import describe, find_basins
from segmentation.boundaries import BoundaryCues, boundary_cues, filter_responses, lightness
from segmentation.hierarchy import RegionTree, finish
from segmentation.kernels.forest import Forest
from segmentation.kernels.merging import live_borders, merge_regions, start_merging
from segmentation.kernels.ward import cut_merges
from segmentation.learned import learned, untrained

Photo = tuple[NDArray[np.uint8], Truth]

#: Numbers of regions at which borders are collected while regions are merged, and how many at most each time.
STOPS, SAMPLES = (1200, 500, 250, 120, 60, 30, 15, 8, 4), 600
FOREST = {"n_trees": 80, "depth": 4, "rate": 0.12}
THRESHOLDS = np.linspace(0.2, 0.8, 61)
_SEED = 0


@dataclass(frozen=True)
class Example:
    """An image ready to be merged, and how its base regions share pixels with human ones."""

    base: NDArray
    start: tuple[NDArray, NDArray, NDArray, NDArray]
    truth: Truth
    table: NDArray[np.float64]

    def merging(self, forest: Forest):
        """Start merging; the sums are used up, so they are copied."""
        return start_merging(*(part.copy() for part in self.start), forest)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn from BSDS500 how credible borders are.")
    parser.add_argument("data", type=Path)
    photos = read_photos(parser.parse_args().data, "train")
    textons = learn_textons([photo for photo, _ in photos])
    save(textons, untrained(), untrained(), 0.5)
    pictures = [in_colour_and_grey(number, *photo) for number, photo in enumerate(photos)]
    # Halves with as many grey images in both: pictures 0 and 1 of every four, and the others.
    halves = [[number for number in range(len(photos)) if number % 4 // 2 == half] for half in (0, 1)]
    pixels, by_halves = learn_pixels(pictures, halves)
    print("learned boundaries", flush=True)
    # Borders are learned from boundaries as unseen images will have them: by what the other half taught.
    examples = [
        [example_of(cues_of(image, by_halves[1 - number % 4 // 2]), truth) for image, truth in group]
        for number, group in enumerate(pictures)
    ]
    borders = learn_forest([each for group in examples for each in group])
    print("learned borders", flush=True)
    sides = [[each for number in half for each in examples[number]] for half in halves]
    scores = [score for half in (0, 1) for score in score_cuts(sides[1 - half], learn_forest(sides[half]))]
    summary = summarise(scores)
    print(f"each half by what the other taught: {summary}", flush=True)
    save(textons, pixels, borders, round(float(THRESHOLDS[summary.best_setting]), 3))


def in_colour_and_grey(number: int, photo: NDArray[np.uint8], truth: Truth) -> list[Photo]:
    """Return a picture, and of every second one its grey version too."""
    grey = [(np.rint(photo @ [0.299, 0.587, 0.114]).astype(np.uint8), truth)] if number % 2 == 0 else []
    return [(photo, truth), *grey]


def learn_pixels(pictures: list[list[Photo]], halves: list[list[int]]) -> tuple[Forest, list[Forest]]:
    """Learn how probable boundaries are: from all pictures, and from each half."""
    rng = np.random.default_rng(_SEED)
    seen = [[pixels_seen(cues_of(image, untrained()), truth, rng) for image, truth in group] for group in pictures]
    by_halves = [learn_boundaries([rows for number in half for rows in seen[number]]) for half in halves]
    return learn_boundaries([rows for group in seen for rows in group]), by_halves


def cues_of(image: NDArray[np.uint8], forest: Forest) -> BoundaryCues:
    return boundary_cues(image if image.ndim == 3 else image[:, :, None], float(image.max()), forest)


def read_photos(data: Path, split: str, every: int = 1) -> list[Photo]:
    """Read every n-th image of a split and what people saw in it."""
    from PIL import Image

    return [
        (np.asarray(Image.open(path).convert("RGB")), Truth.read(data / f"groundTruth/{split}/{path.stem}.mat"))
        for path in sorted((data / "images" / split).glob("*.jpg"))[::every]
    ]


def learn_textons(photos: list[NDArray[np.uint8]], n_textons: int = 16) -> NDArray[np.float32]:
    """Cluster damped filter responses of 500 pixels of every second image."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(_SEED)
    samples = []
    for photo in photos[::2]:
        responses = filter_responses(lightness(photo, 255.0)).reshape(10, -1).T
        chosen = responses[rng.choice(len(responses), 500, replace=False)].astype(float)
        norms = np.linalg.norm(chosen, axis=1, keepdims=True)
        samples.append(chosen * np.log1p(norms) / np.maximum(norms, 1e-9))
    centers = KMeans(n_textons, n_init=3, random_state=_SEED).fit(np.concatenate(samples)).cluster_centers_
    return np.ascontiguousarray(centers.T.astype(np.float32))


def example_of(cues: BoundaryCues, truth: Truth) -> Example:
    base = find_basins(cues, np.ones(cues.steepness.shape, bool)).regions
    return Example(base, describe(cues, base, 1), truth, truth.table(base))


def learn_forest(examples: list[Example], as_seen: Callable[[NDArray], NDArray] = lambda rows: rows) -> Forest:
    """Learn from borders on the way of a formula, then also from those on the way of what that taught.

    `as_seen` may hide features from what is learned.
    """
    rng = np.random.default_rng(_SEED)
    seen: list[Rows] = []
    forest = untrained()
    for _ in range(2):
        for each in examples:
            rows, probabilities, weights = borders_met(each, forest, rng)
            seen.append((as_seen(rows), probabilities, weights))
        forest = boost(seen, **FOREST)
    return forest


def borders_met(each: Example, forest: Forest, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Collect features of borders, how probably people see two regions there, and weights, along a merging."""
    merging, n_base = each.merging(forest), int(each.base.max())
    tables = np.zeros((2 * n_base, each.table.shape[1]))
    tables[:n_base] = each.table
    rows, probabilities, weights, done = [], [], [], 0
    for stop in (n_base, *(stop for stop in STOPS if stop < n_base)):
        merge_regions(merging, forest, stop)
        for merge in range(done, int(merging.done[0])):
            tables[n_base + merge] = tables[merging.children[merge]].sum(axis=0)
        done = int(merging.done[0])
        features, nodes = live_borders(merging)
        if len(features) > SAMPLES:
            chosen = rng.choice(len(features), SAMPLES, replace=False)
            features, nodes = features[chosen], nodes[chosen]
        one, other = tables[nodes[:, 0]], tables[nodes[:, 1]]
        sizes = [table[:, : each.truth.counts[0]].sum(axis=1) for table in (one, other)]
        # Two pixels, one of each region, are in one human region for this part of all pairs and people.
        alike = (one * other).sum(axis=1) / (sizes[0] * sizes[1]) / len(each.truth.counts)
        rows.append(features.astype(np.float32))
        probabilities.append(1 - alike)
        weights.append(np.sqrt(np.minimum(*sizes)))
    return np.concatenate(rows), np.concatenate(probabilities), np.concatenate(weights)


def score_cuts(
    examples: list[Example], forest: Forest, thresholds: NDArray = THRESHOLDS, matched: Collection[int] = ()
) -> list[ImageScores]:
    """Score the cuts, at some thresholds, of the trees that a forest grows; match boundaries at those numbered."""
    scores = []
    for each in examples:
        merging = each.merging(forest)
        merge_regions(merging, forest, 1)
        tree: RegionTree = finish(merging, each.base, 0.5)
        score = ImageScores(each.truth)
        for number, threshold in enumerate(thresholds):
            n_merges = tree.n_base - tree.n_regions_at(threshold)
            score.add(merged(each.table, cut_merges(read_only(tree.merges), tree.n_base, n_merges)))
            if number in matched:
                score.add_boundary(tree.cut(threshold=float(threshold)))
        scores.append(score)
    return scores


def save(textons: NDArray[np.float32], pixels: Forest, borders: Forest, usual_cut: float) -> None:
    """Write what was learned where the library reads it, and have it read anew: each step builds on those before."""
    named = {"pixels": pixels, "borders": borders}
    forests = {f"{name}_{part}": array for name, forest in named.items() for part, array in forest._asdict().items()}
    path = Path(segmentation.__file__).with_name("hierarchy.npz")
    np.savez(path, textons=textons, usual_cut=usual_cut, **forests)
    learned.cache_clear()


if __name__ == "__main__":
    main()
