"""Learn what `segmentation.hierarchy` knows of borders, from the training images of BSDS500 alone.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.train_hierarchy DATA

DATA holds ``images/train/*.jpg`` and ``groundTruth/train/*.mat``. Writes segmentation/hierarchy.npz, the same bytes at
every run, in about five minutes of CPU time:

1. textons: k-means of filter responses;
2. a forest of boosted regression trees, which says how probable it is that people see two regions as different. It is
   learned from the borders met while regions are merged: first by a formula, then by the forest itself (Nunez-Iglesias
   et al., "Machine learning of hierarchical clustering to segment 2D and 3D images", PLoS ONE 8(8), 2013);
3. the usual cut: that of the largest covering on each half of the images, of trees grown by what the other half taught.

Every second image is learned from in grey too.
"""

import argparse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import segmentation
from benchmarks.bsds_scores import ImageScores, Truth, merged, summarise
from segmentation.arrays import read_only
from segmentation.base_regions import basins, describe
from segmentation.boundaries import boundary_cues, filter_responses, lightness
from segmentation.hierarchy import RegionTree, finish
from segmentation.kernels.merging import Forest, live_borders, merge_regions, start_merging
from segmentation.kernels.ward import cut_merges
from segmentation.learned import learned, untrained

#: Numbers of regions at which borders are collected while regions are merged, and how many at most each time.
STOPS, SAMPLES = (1200, 500, 250, 120, 60, 30, 15, 8, 4), 600
N_TREES, DEPTH, RATE = 80, 4, 0.12
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
    photos = read_photos(parser.parse_args().data)
    textons = learn_textons([photo for photo, _ in photos])
    save(textons, untrained(), 0.5)
    examples = [[example(photo, truth)] for photo, truth in photos]
    for number in range(0, len(photos), 2):
        photo, truth = photos[number]
        examples[number].append(example(np.rint(photo @ [0.299, 0.587, 0.114]).astype(np.uint8), truth))
    print(f"{sum(map(len, examples))} examples", flush=True)
    everything = learn_forest([each for pair in examples for each in pair])
    print("learned from all", flush=True)
    # Halves with as many grey images in both: pictures 0 and 1 of every four, and the others.
    halves = [[each for i, pair in enumerate(examples) if i % 4 // 2 == half for each in pair] for half in (0, 1)]
    scores = [score for half in (0, 1) for score in score_cuts(halves[1 - half], learn_forest(halves[half]))]
    summary = summarise(scores)
    print(f"each half by what the other taught: {summary}", flush=True)
    save(textons, everything, round(float(THRESHOLDS[summary.best_setting]), 3))


def read_photos(data: Path) -> list[tuple[NDArray[np.uint8], Truth]]:
    """Read the training images and what people saw in them."""
    from PIL import Image

    return [
        (np.asarray(Image.open(path).convert("RGB")), Truth.read(data / f"groundTruth/train/{path.stem}.mat"))
        for path in sorted((data / "images" / "train").glob("*.jpg"))
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


def example(image: NDArray[np.uint8], truth: Truth) -> Example:
    pixels = image if image.ndim == 3 else image[:, :, None]
    cues = boundary_cues(pixels, float(image.max()))
    base = basins(cues, np.ones(image.shape[:2], bool))
    return Example(base, describe(cues, base, 1), truth, truth.table(base))


def learn_forest(examples: list[Example]) -> Forest:
    """Learn from borders on the way of a formula, then also from those on the way of what that taught."""
    rng = np.random.default_rng(_SEED)
    seen = [borders_met(each, untrained(), rng) for each in examples]
    first = boost(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
    seen += [borders_met(each, first, rng) for each in examples]
    return boost(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))


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


def boost(rows: NDArray, probabilities: NDArray, weights: NDArray) -> Forest:
    """Boost regression trees for the log-odds of a probability; every row counts for both answers, in its parts."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=N_TREES,
        max_depth=DEPTH,
        max_leaf_nodes=2**DEPTH,
        learning_rate=RATE,
        l2_regularization=1.0,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=_SEED,
    )
    answers = np.repeat([1, 0], len(rows))
    shares = np.concatenate([weights * probabilities, weights * (1 - probabilities)])
    counts = shares > 1e-9
    model.fit(np.concatenate([rows, rows])[counts], answers[counts], sample_weight=shares[counts])
    return as_forest(model)


def as_forest(model) -> Forest:
    """Write a model of scikit-learn's as full binary trees; where one stops early, what follows asks nothing."""
    n_nodes, trees = 2**DEPTH - 1, [stage[0].nodes for stage in model._predictors]
    features = np.zeros((len(trees), n_nodes), np.uint16)
    thresholds = np.full((len(trees), n_nodes), np.inf, np.float32)
    values = np.zeros((len(trees), n_nodes + 1), np.float32)
    for number, nodes in enumerate(trees):
        places = [(0, 0)]
        while places:
            node, place = places.pop()
            if nodes[node]["is_leaf"]:
                first = last = place
                while first < n_nodes:
                    first, last = 2 * first + 1, 2 * last + 2
                values[number, first - n_nodes : last - n_nodes + 1] = nodes[node]["value"]
            else:
                features[number, place] = nodes[node]["feature_idx"]
                thresholds[number, place] = nodes[node]["num_threshold"]
                places += [(nodes[node]["left"], 2 * place + 1), (nodes[node]["right"], 2 * place + 2)]
    bias = float(np.ravel(model._baseline_prediction)[0])
    return Forest(read_only(features), read_only(thresholds), read_only(values), bias)


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


def save(textons: NDArray[np.float32], forest: Forest, usual_cut: float) -> None:
    """Write what was learned where the library reads it, and have it read anew: each step builds on those before."""
    names = ("features", "thresholds", "values", "bias")
    np.savez(
        Path(segmentation.__file__).with_name("hierarchy.npz"),
        textons=textons,
        usual_cut=usual_cut,
        **dict(zip(names, forest, strict=True)),
    )
    learned.cache_clear()


if __name__ == "__main__":
    main()
