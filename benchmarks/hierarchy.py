"""The hierarchy, stage by stage: CPU time of a photograph in colour and in grey, and growth to 12 megapixels."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, photos
from segmentation.base_regions import describe, find_basins
from segmentation.boundaries import boundary_cues
from segmentation.hierarchy import finish, refined
from segmentation.kernels.merging import merge_regions, start_merging
from segmentation.learned import learned


def run(*, quick: bool = False) -> list[Row]:
    """Time every stage, medians of five; of large pictures once."""
    return [_row(name, picture, repeats=5 if picture.size < 10**6 else 1) for name, picture in _pictures(quick=quick)]


def _pictures(*, quick: bool) -> list[tuple[str, np.ndarray]]:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        (path,) = photos(Path(folder), 1).iterdir()
        photo = Image.open(path).convert("RGB")
    if quick:
        return [("quarter of a photograph", np.asarray(photo.resize((120, 80))))]
    pictures = [("photograph 481×321, RGB", np.asarray(photo)), ("the same, grey", np.asarray(photo.convert("L")))]
    # Mirrored copies side by side: as many regions for each pixel as the photograph has.
    tile = np.concatenate([np.asarray(photo), np.asarray(photo)[:, ::-1]], axis=1)
    tile = np.concatenate([tile, tile[::-1]])
    for megapixels in (1, 3, 12):
        side = int((megapixels * 1e6) ** 0.5)
        copies = -(-side // tile.shape[0]), -(-side // tile.shape[1])
        pictures.append((f"mirrored copies, {megapixels} MP", np.tile(tile, (*copies, 1))[:side, :side]))
    return pictures


def _row(name: str, picture: np.ndarray, *, repeats: int) -> Row:
    stages = [_stages(picture) for _ in range(repeats + 1)]
    # The first round loads compiled loops.
    times = {stage: statistics.median(each[0][stage] for each in stages[-repeats:]) for stage in stages[0][0]}
    return {
        "picture": name,
        "regions merged": stages[0][1],
        **{f"{stage}, ms": spent for stage, spent in times.items()},
        "tree in all, ms": sum(list(times.values())[:4]),
    }


def _stages(picture: np.ndarray) -> tuple[dict[str, float], int]:
    spent: dict[str, float] = {}

    def timed(stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.process_time()
        result = function(*arguments)
        spent[stage] = spent.get(stage, 0.0) + (time.process_time() - started) * 1e3
        return result

    known = learned()
    pixels = picture if picture.ndim == 3 else picture[:, :, None]
    cues = timed("cues", boundary_cues, pixels, float(picture.max()), known.pixels)
    basins = timed("basins", find_basins, cues, np.ones(picture.shape[:2], bool))
    described = timed("description", describe, cues, basins.regions, 1)
    merging = timed("merging", start_merging, *described, known.borders)
    timed("merging", merge_regions, merging, known.borders, 1)
    tree = refined(timed("merging", finish, merging, basins.regions, known.usual_cut), basins)
    timed("cut", tree.cut)
    timed("contours", tree.contours)
    return spent, len(basins.nodes)
