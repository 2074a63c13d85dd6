"""Draw every tenth image's contours beside those that people drew, from the best covered to the worst; no photographs.

OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.bsds_pictures DATA docs/images/quality.png
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.bsds_scores import ImageScores, Truth, boundary_map
from segmentation import RegionTree, region_tree

_TILE, _TITLE, _GAP = (288, 192), 14, 6


def main() -> None:
    parser = argparse.ArgumentParser(description="Contours of ten images beside people's.")
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    found = []
    for path in sorted((arguments.data / "images" / arguments.split).glob("*.jpg"))[::10]:
        truth = Truth.read(arguments.data / f"groundTruth/{arguments.split}/{path.stem}.mat")
        tree = region_tree(np.asarray(Image.open(path).convert("RGB")))
        score = ImageScores(truth)
        score.add(truth.table(tree.cut()))
        found.append((score.covered[0] / truth.areas.sum(), path.stem, tree, truth))
    found.sort(key=lambda entry: -entry[0])
    montage(found).save(arguments.output, optimize=True)


def montage(entries: list[tuple[float, str, RegionTree, Truth]]) -> Image.Image:
    """Lay pairs out in two columns: people's boundaries, the darker the more people; then ours."""
    width, height = _TILE[0] + _GAP, _TILE[1] + _TITLE + _GAP
    page = Image.new("RGB", (4 * width + _GAP, -(-len(entries) // 2) * height + _GAP), "#dddddd")
    draw = ImageDraw.Draw(page)
    for number, (covering, name, tree, truth) in enumerate(entries):
        left, top = _GAP + 2 * width * (number % 2), _GAP + height * (number // 2)
        drawn = np.mean(truth.boundaries, axis=0)
        draw.text((left, top), f"{name}: {len(truth.boundaries)} people", fill="black")
        draw.text((left + width, top), f"{tree.cut().max()} regions, covering {covering:.2f}", fill="black")
        page.paste(_tile(_ink(drawn, np.zeros(drawn.shape, bool))), (left, top + _TITLE))
        page.paste(_tile(_ink(tree.contours(), boundary_map(tree.cut()))), (left + width, top + _TITLE))
    return page.quantize(32)


def _ink(strength: NDArray, kept: NDArray) -> NDArray[np.uint8]:
    """Draw strengths in [0, 1] as greys on white, and what is kept in red."""
    picture = np.repeat((255 * (1 - strength)).astype(np.uint8)[:, :, None], 3, axis=2)
    picture[kept] = (200, 30, 30)
    return picture


def _tile(picture: NDArray[np.uint8]) -> Image.Image:
    """Fit a picture into a tile; what stands upright is turned, so that all tiles are alike."""
    image = Image.fromarray(picture)
    if image.height > image.width:
        image = image.transpose(Image.Transpose.ROTATE_90)
    return image.resize(_TILE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
