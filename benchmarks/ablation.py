"""What each part of the hierarchy is worth: learned anew without it on the training images, scored on val.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.ablation DATA

The last column of differences is the standard deviation of the difference in covering (ODS) over 500 draws of images
with replacement. Learned from images in colour alone and from fewer borders than the committed forests, see `SAMPLES`.
The direction of a boundary at a pixel is that of all cues in every variant.
"""

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import train_hierarchy
from benchmarks.boosting import Rows
from benchmarks.bsds_scores import ImageScores, Truth, summarise
from benchmarks.measure import Row, markdown
from benchmarks.train_boundaries import learn_boundaries, pixels_seen
from benchmarks.train_hierarchy import Example, Photo, cues_of, example_of, learn_forest, read_photos, score_cuts
from segmentation import base_regions
from segmentation.kernels.forest import Forest
from segmentation.learned import untrained
from segmentation.strength import VIEWS, strongest_cues

SAMPLES = 300
THRESHOLDS = np.linspace(0.1, 0.9, 41)
#: Thresholds at which boundaries are matched.
_MATCHED = (5, 8, 11, 14, 17, 20, 23, 26)
#: What variants do without: maps that trees look at for the strength of boundaries (`segmentation.strength`), and
#: features of borders as numbered in `segmentation.kernels.merging`. The formula (43) sums up most.
CUES: dict[str, tuple[Collection[int | str], list[int]]] = {
    "without brightness": ((0, 1, 2, "L*"), [0, 1, 2, 13, 17, 20, 21, 36, 43]),
    "without colour": ((3, 5, 6, "a*", "b*"), [3, 4, 5, 6, 14, 15, 18, 19, 37, 38, 41, 42, 43]),
    "without texture": ((8,), [7, 8, 16, 43]),
    "without steepness": (("steep", "steep/2", "steep/4", "steep near", "steep far"), [11]),
}
FEATURES = {
    "without what lies along borders": [*range(13), 22, 23, 33, 34, 35, 43],
    "without how regions differ": [*range(13, 20), 43],
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
    train_hierarchy.SAMPLES = SAMPLES
    train, val = (read_photos(arguments.data, split, arguments.every) for split in ("train", "val"))
    rng = np.random.default_rng(0)
    looks = [pixels_seen(cues_of(image, untrained()), truth, rng) for image, truth in train]
    examples = grown(train, val, looks, ())
    whole = scored(*examples, [])
    report("everything", whole, whole)
    for name, missing in FEATURES.items():
        report(name, scored(*examples, missing), whole)
    report("a formula instead of trees", score_cuts(examples[1], untrained(), THRESHOLDS, _MATCHED), whole)
    for name, (maps, missing) in CUES.items():
        report(name, scored(*grown(train, val, looks, maps), missing), whole)
    report("the mean of cues instead of learned strength", scored(*(as_they_are(s) for s in (train, val)), []), whole)
    fine, base_regions._FINE = base_regions._FINE, 0.0
    report("base regions at half resolution", scored(*grown(train, val, looks, ()), []), whole)
    base_regions._FINE, base_regions._DEPTH, base_regions._AREA = fine, 0, 0
    report("shallow basins kept", scored(*grown(train, val, looks, ()), []), whole)


def grown(
    train: list[Photo], val: list[Photo], looks: list[Rows], missing: Collection[int | str]
) -> tuple[list[Example], list[Example]]:
    """Learn boundary strength without some maps; make images ready to be merged, none by what it taught itself."""
    keys = [map_ for map_, kinds in VIEWS.items() for distances in kinds.values() for _ in distances]
    columns = [number for number, map_ in enumerate(keys) if map_ in missing]
    seen = [(without(rows, columns), *rest) for rows, *rest in looks]
    halves = [learn_boundaries(seen[half::2]) for half in (0, 1)]
    everything = learn_boundaries(seen)
    return (
        [ready(*photo, halves[1 - number % 2]) for number, photo in enumerate(train)],
        [ready(*photo, everything) for photo in val],
    )


def ready(image: NDArray[np.uint8], truth: Truth, pixels: Forest) -> Example:
    return example_of(cues_of(image, pixels), truth)


def as_they_are(photos: list[Photo]) -> list[Example]:
    """Make images ready to be merged, with the mean of all cues for the strength of boundaries."""
    known = [(cues_of(image, untrained()), truth) for image, truth in photos]
    return [example_of(replace(cues, strength=strongest_cues(cues.seen)), truth) for cues, truth in known]


def without(rows: NDArray, columns: list[int]) -> NDArray:
    """Return rows of features with nothing to be learned from some."""
    rows = rows.copy()
    rows[:, columns] = 0
    return rows


def scored(train: list[Example], val: list[Example], missing: list[int]) -> list[ImageScores]:
    """Learn without some features of borders, and score all cuts of the trees that are grown so."""
    forest = learn_forest(train, lambda rows: without(rows, missing))
    return score_cuts(val, forest, THRESHOLDS, _MATCHED)


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
