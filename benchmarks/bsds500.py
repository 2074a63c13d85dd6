"""Every method, and two peers, on the photographs of BSDS500 that people segmented by hand, beside published figures.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.bsds500 DATA [--split val] [--methods hierarchy ward]

DATA holds ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat``. Scores are those of `benchmarks.bsds_scores`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bsds_scores import ImageScores, Truth, summarise
from benchmarks.measure import Row, markdown

Photo = NDArray[np.uint8]

_COLUMNS = ("covering ODS", "OIS", "best", "PRI ODS", "PRI OIS", "VI ODS", "VI OIS", "F ODS", "F OIS")
_FIELDS = (
    "cover_ods", "cover_ois", "cover_best", "pri_ods", "pri_ois", "vi_ods", "vi_ois", "f_ods", "f_ois",
)  # fmt: skip
#: Published for the 200 test images (Arbelaez et al. 2011, tables 1 to 3).
PUBLISHED: list[Row] = [
    {"method": f"{name} (published, test)", **dict(zip(_COLUMNS, figures, strict=True))}
    for name, figures in {
        "people": (0.72, 0.72, None, 0.88, 0.88, 1.17, 1.17, 0.80, 0.80),
        "gPb-owt-ucm": (0.588, 0.647, 0.744, 0.827, 0.856, 1.69, 1.48, 0.726, 0.760),
        "Mean Shift": (0.54, 0.58, 0.66, 0.79, 0.81, 1.85, 1.64, 0.64, 0.68),
        "Felzenszwalb": (0.52, 0.57, 0.69, 0.80, 0.82, 2.21, 1.87, 0.61, 0.64),
        "NCuts": (0.45, 0.53, 0.67, 0.78, 0.80, 2.23, 1.89, 0.64, 0.68),
    }.items()
]

#: Thresholds of the hierarchy at which it is scored.
THRESHOLDS = np.linspace(0.06, 0.94, 45)
NUMBERS = (2, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Method:
    """Label maps of a photograph, one for each setting, and whether boundaries are to be matched at all of them."""

    name: str
    segment: Callable[[Photo], Iterator[NDArray]]
    settings: tuple[Any, ...]
    #: The indices of settings whose boundaries are matched: that is the slow part.
    matched: tuple[int, ...]


def _hierarchy(photo: Photo) -> Iterator[NDArray]:
    from segmentation import region_tree

    tree = region_tree(photo)
    for threshold in THRESHOLDS:
        yield tree.cut(threshold=float(threshold))


def _hierarchy_auto(photo: Photo) -> Iterator[NDArray]:
    from segmentation import region_tree

    yield region_tree(photo).cut()


def _hierarchy_numbers(photo: Photo) -> Iterator[NDArray]:
    from segmentation import region_tree

    tree = region_tree(photo)
    for number in NUMBERS:
        yield tree.cut(n_regions=min(number, tree.n_base))


def _grey(photo: Photo) -> Photo:
    return np.rint(photo @ [0.299, 0.587, 0.114]).astype(np.uint8)


def _of_recipes(make: Callable[[Any], Any], numbers: tuple[Any, ...]) -> Callable[[Photo], Iterator[NDArray]]:
    def segment_all(photo: Photo) -> Iterator[NDArray]:
        from segmentation import Recipe, segment

        for number in numbers:
            yield segment(photo, Recipe(sigma=1, scale=0.5, method=make(number))).labels

    return segment_all


def _spectral(number: Any) -> Any:
    from segmentation import Spectral

    return Spectral(n_regions=number, extra_regions=0)


def _ward(number: Any) -> Any:
    from segmentation import Ward

    return Ward(n_regions=number)


def _kmeans(number: int) -> Any:
    from segmentation import KMeans

    return KMeans(n_clusters=number, color_space="lab")


_SCALES = (50, 100, 200, 400, 800, 1600, 3200)
_CUTS = (0.02, 0.05, 0.1, 0.2)


def _felzenszwalb(photo: Photo) -> Iterator[NDArray]:
    from skimage.segmentation import felzenszwalb

    for scale in _SCALES:
        yield felzenszwalb(photo, scale=scale, sigma=0.8, min_size=100) + 1


def _slic_ncut(photo: Photo) -> Iterator[NDArray]:
    from skimage.graph import cut_normalized, rag_mean_color
    from skimage.segmentation import slic

    superpixels = slic(photo, n_segments=400, compactness=30, start_label=1)
    for threshold in _CUTS:
        graph = rag_mean_color(photo, superpixels, mode="similarity")
        yield cut_normalized(superpixels, graph, thresh=threshold, rng=0) + 1


_EIGHT = tuple(range(len(NUMBERS)))
_EVERY_THIRD = tuple(range(4, 28, 3))
METHODS = (
    Method("hierarchy", _hierarchy, tuple(THRESHOLDS.round(2)), _EVERY_THIRD),
    Method("hierarchy, auto", _hierarchy_auto, ("auto",), (0,)),
    Method("hierarchy, by number", _hierarchy_numbers, NUMBERS, _EIGHT),
    Method("hierarchy, grey", lambda photo: _hierarchy(_grey(photo)), tuple(THRESHOLDS.round(2)), _EVERY_THIRD),
    Method("spectral", _of_recipes(_spectral, NUMBERS), NUMBERS, _EIGHT),
    Method("spectral, auto", _of_recipes(_spectral, ("auto",)), ("auto",), (0,)),
    Method("ward", _of_recipes(_ward, NUMBERS), NUMBERS, _EIGHT),
    Method("ward, auto", _of_recipes(_ward, ("auto",)), ("auto",), (0,)),
    Method("kmeans, L*a*b*", _of_recipes(_kmeans, NUMBERS), NUMBERS, _EIGHT),
    Method("felzenszwalb (scikit-image)", _felzenszwalb, _SCALES, tuple(range(len(_SCALES)))),
    Method("SLIC + cut_normalized (scikit-image)", _slic_ncut, _CUTS, tuple(range(len(_CUTS)))),
)


def find_data() -> Path | None:
    """Return the folder of BSDS500 that lies beside the project, if there is one."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "bsds500"
    return beside if (beside / "groundTruth").is_dir() else None


def run(
    *, quick: bool = False, data: Path | None = None, split: str = "val", names: list[str] | None = None, every: int = 1
) -> list[Row]:
    """Score methods on every n-th image of a split, published figures last; without data say why nothing is scored."""
    data = data or find_data()
    if data is None:
        return [{"method": "none: no photographs; python -m benchmarks.bsds500 DATA names their folder"}]
    paths = sorted((data / "images" / split).glob("*.jpg"))[::every][: 1 if quick else None]
    if not paths:
        return [{"method": f"none: {data / 'images' / split} holds no *.jpg"}]
    rows = []
    for method in METHODS:
        if not names or method.name in names:
            rows.append(_row(method, paths, data / "groundTruth" / split))
            print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    return rows + PUBLISHED


def _row(method: Method, paths: list[Path], truths: Path) -> Row:
    from PIL import Image

    scores, spent = [], 0.0
    next(
        method.segment(np.asarray(Image.open(paths[0]).convert("RGB")))
    )  # compiled loops and imports are not its speed
    for path in paths:
        score = ImageScores(Truth.read(truths / f"{path.stem}.mat"))
        photo = np.asarray(Image.open(path).convert("RGB"))
        started = time.process_time()
        maps = list(method.segment(photo))
        spent += time.process_time() - started
        for number, labels in enumerate(maps):
            score.add(score.truth.table(labels))
            if number in method.matched:
                score.add_boundary(labels)
        scores.append(score)
    summary = summarise(scores)
    figures = [getattr(summary, name) for name in _FIELDS]
    return {
        "method": method.name,
        **dict(zip(_COLUMNS, figures, strict=True)),
        "at": str(method.settings[summary.best_setting]),
        "regions there": float(np.median([score.n_regions[summary.best_setting] for score in scores])),
        "CPU s": spent / len(paths),
        "images": len(paths),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bsds500", description="Score methods on BSDS500.")
    parser.add_argument("data", type=Path, nargs="?", help="folder with images/ and groundTruth/")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--methods", nargs="*", help=f"of {', '.join(method.name for method in METHODS)}")
    parser.add_argument("--every", type=int, default=1, help="score every n-th image only")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--quick", action="store_true", help="one image: does it run?")
    arguments = parser.parse_args()
    rows = run(
        quick=arguments.quick,
        data=arguments.data,
        split=arguments.split,
        names=arguments.methods,
        every=arguments.every,
    )
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"bsds500-{arguments.split}.json").write_text(json.dumps(rows, indent=2) + "\n")
    (arguments.results / f"bsds500-{arguments.split}.md").write_text(markdown(rows) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
