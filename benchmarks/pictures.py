"""The steps around the clustering: contours against matplotlib, the region table against scikit-image, the store."""

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, interleaved
from segmentation.contours import encode_picture, render_contours
from segmentation.labels import upscale_labels
from segmentation.params import Recipe, Ward
from segmentation.pipeline import segment
from segmentation.polygons import region_polygons
from segmentation.regions import region_table


def run(*, quick: bool = False) -> list[Row]:
    """Measure on a picture of 512×512 (64×64 if `quick`)."""
    from skimage.data import astronaut
    from skimage.measure import regionprops_table

    image = astronaut()[::8, ::8] if quick else astronaut()
    result = segment(image, Recipe(scale=0.25, method=Ward(n_regions=27)))
    labels = result.labels
    properties = ("label", "area", "centroid", "bbox", "intensity_mean", "perimeter", "eccentricity")
    pairs = {
        "contour picture as PNG": (
            lambda: encode_picture(render_contours(image, labels)),
            ("matplotlib", lambda: _matplotlib(image, labels)),
        ),
        "region table": (
            lambda: region_table(labels, image),
            ("scikit-image", lambda: regionprops_table(labels, image, properties=properties)),
        ),
        "labels to original size": (
            lambda: upscale_labels(result.working_labels, labels.shape, image=image, refine="watershed"),
            ("nearest", lambda: upscale_labels(result.working_labels, labels.shape, refine="nearest")),
        ),
        "polygons": (lambda: list(region_polygons(labels)), None),
        "stored as OME-Zarr": (lambda: _store(result, image), None),
    }
    rows = []
    for case, (ours, other) in pairs.items():
        candidates = {"regionflow": ours, **({other[0]: other[1]} if other else {})}
        times = interleaved(candidates, repeats=1 if quick else 5)
        for program, spent in times.items():
            rows.append({"case": case, "program": program, "CPU ms": spent, "× ours": spent / times["regionflow"]})
    return rows


def _matplotlib(image: Any, labels: Any) -> bytes:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    count = int(labels.max())
    figure = plt.figure(figsize=(5.12, 5.12))
    plt.imshow(image)
    for label in range(1, count + 1):
        plt.contour(labels == label, colors=[plt.colormaps["nipy_spectral"]((label + 3) / float(count + 4))])
    buffer = BytesIO()
    figure.savefig(buffer, dpi=100)
    plt.close(figure)
    return buffer.getvalue()


def _store(result: Any, image: Any) -> None:
    from segmentation.io.store import Entry, make_preview, write_entry

    areas = dict(enumerate(np.bincount(result.labels.ravel())[1:].tolist(), start=1))
    with tempfile.TemporaryDirectory() as folder:
        entry = Entry(
            id="x-0000000000000000", source="x", digest="d", source_bytes=0, label="ward", key="k", recipe=Recipe(),
            labels=result.labels, areas=areas, scores={}, preview=make_preview(image, result.working, "preview"),
            picture=b"", picture_suffix=".png",
        )  # fmt: skip
        write_entry(Path(folder), entry)
