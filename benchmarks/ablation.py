"""What each part of the hierarchy is worth: learned anew without it on the training images, scored on val.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.ablation DATA

The last column of differences is the standard deviation of the difference in covering (ODS) over 500 draws of images
with replacement. Learned from fewer borders than the committed forest, see `SAMPLES`.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import train_hierarchy
from benchmarks.bsds_scores import ImageScores, Truth, summarise
from benchmarks.measure import Row, markdown
from benchmarks.train_hierarchy import Example, boost, borders_met, example, score_cuts
from segmentation import base_regions
from segmentation.kernels.merging import Forest
from segmentation.learned import learned, untrained

SAMPLES = 150
THRESHOLDS = np.linspace(0.1, 0.9, 41)
#: Thresholds at which boundaries are matched, of parts that are about where borders run.
_MATCHED = (5, 8, 11, 14, 17)
#: Features, as numbered in `segmentation.kernels.merging`, that a variant does without. The formula (43) sums up most.
VARIANTS = {
    "everything": [],
    "without what lies along borders": [*range(13), 22, 23, 33, 34, 35, 43],
    "without how regions differ": [*range(13, 20), 43],
    "without texture": [7, 8, 16, 43],
    "without sizes and shapes": [24, 25, 26, 27, 39, 40, 43],
    "without earlier merges (heights)": [28, 29],
    "without the outline of regions": [33, 34, 35],
    "without the scene, and the regions' colours": [30, 31, 32, 36, 37, 38],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What each part of the hierarchy is worth, on val.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th image of both splits only")
    arguments = parser.parse_args()
    data, every = arguments.data, arguments.every
    train_hierarchy.SAMPLES = SAMPLES
    rng = np.random.default_rng(0)
    rows = [
        borders_met(each, forest, rng)
        for each in read(data, "train", every)
        for forest in (untrained(), learned().forest)
    ]
    known, probabilities, weights = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    val = read(data, "val", every)
    whole: list[ImageScores] = []
    for name, missing in VARIANTS.items():
        seen = known.copy()
        seen[:, missing] = 0
        scores = score(val, boost(seen, probabilities, weights), match=name == "everything")
        whole = whole or scores
        report(name, scores, whole)
    report("the committed forest", score(val, learned().forest, match=True), whole)
    report("a formula instead of a forest", score(val, untrained(), match=True), whole)
    base_regions._FINE = 0.0
    report(
        "the committed forest, base regions at half resolution",
        score(read(data, "val", every), learned().forest, True),
        whole,
    )


def read(data: Path, split: str, every: int) -> list[Example]:
    """Read every n-th image of a split and make them ready to be merged."""
    return [
        example(np.asarray(Image.open(path).convert("RGB")), Truth.read(data / f"groundTruth/{split}/{path.stem}.mat"))
        for path in sorted((data / "images" / split).glob("*.jpg"))[::every]
    ]


def score(examples: list[Example], forest: Forest, match: bool = False) -> list[ImageScores]:
    """Score all cuts of the trees that a forest grows."""
    return score_cuts(examples, forest, THRESHOLDS, _MATCHED if match else ())


def report(name: str, scores: list[ImageScores], whole: list[ImageScores]) -> None:
    summary, best = summarise(scores), summarise(whole)
    areas = np.array([each.truth.areas.sum() for each in scores])
    curves = [np.array([each.covered for each in some]) for some in (scores, whole)]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(scores), (500, len(scores)))
    differences = [_best(curves[0], areas, draw) - _best(curves[1], areas, draw) for draw in draws]
    row: Row = {
        "": name,
        "covering ODS": f"{summary.cover_ods:.4f}",
        "OIS": f"{summary.cover_ois:.4f}",
        "PRI ODS": f"{summary.pri_ods:.4f}",
        "VI ODS": f"{summary.vi_ods:.3f}",
        "F ODS": f"{summary.f_ods:.3f}",
        "difference": f"{summary.cover_ods - best.cover_ods:+.4f}",
        "s.d.": f"{np.std(differences):.4f}",
    }
    print("\n".join(markdown([row]).splitlines()[0 if scores is whole else 2 :]), flush=True)


def _best(covered: NDArray, areas: NDArray, draw: NDArray) -> float:
    return float(covered[draw].sum(axis=0).max() / areas[draw].sum())


if __name__ == "__main__":
    main()
