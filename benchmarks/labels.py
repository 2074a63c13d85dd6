"""After the clustering: labels brought up, outlined and encoded, specks merged; against scikit-image and OpenCV."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from benchmarks.measure import Row, interleaved
from segmentation.contours import encode_picture, region_colors, render_contours
from segmentation.labels import merge_small_regions, upscale_labels
from segmentation.params import Recipe, Ward
from segmentation.pipeline import segment

Candidates = dict[str, Callable[[], Any]]


def run(*, quick: bool = False) -> list[Row]:
    """Measure a photograph of 481×321 pixels at scale 0.5, one of 12 megapixels at 0.2, and noise."""
    import cv2
    from sklearn.datasets import load_sample_image

    cv2.setNumThreads(1)
    china = load_sample_image("china.jpg")
    photo = china[40:361:4, 80:561:4] if quick else china[40:361, 80:561]
    rows = _rows("photo", photo, 0.5, repeats=1 if quick else 15)
    if not quick:
        rows += _rows("12 megapixels", _enlarged(china, (4000, 3000)), 0.2, repeats=3)
    return rows + _noise_rows(64 if quick else 1000, repeats=1 if quick else 3)


def _enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 4, large.shape).round().astype(np.int16)
    return (large + noise).clip(0, 255).astype(np.uint8)


def _rows(name: str, image: np.ndarray, scale: float, *, repeats: int) -> list[Row]:
    result = segment(image, Recipe(sigma=2, scale=scale, method=Ward(n_regions=27)))
    working, labels = result.working_labels, result.labels
    flooded = _flood_with_scikit_image(image, working)
    equal = bool(np.array_equal(upscale_labels(working, labels.shape, image=image), flooded))
    up: Candidates = {
        "regionflow": lambda: upscale_labels(working, labels.shape, image=image),
        "SciPy, scikit-image": lambda: _flood_with_scikit_image(image, working),
    }
    picture: Candidates = {
        "regionflow": lambda: encode_picture(render_contours(image, labels)),
        "OpenCV": lambda: _overlay_with_opencv(image, labels),
        "scikit-image, Pillow": lambda: _overlay_with_scikit_image(image, labels),
    }
    rows = _timed(f"{name}: labels up, watershed", up, repeats)
    rows[1]["equal"] = equal
    rows += _timed(f"{name}: outlines as {encode_picture(image)[1][1:].upper()}", picture, repeats)
    specks: Candidates = {"regionflow": lambda: merge_small_regions(labels, image, 2)}
    return rows + _timed(f"{name}: look for specks", specks, repeats)


def _noise_rows(side: int, *, repeats: int) -> list[Row]:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 6, (side, side)).astype(np.uint16)
    image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    candidates: Candidates = {"regionflow": lambda: merge_small_regions(labels, image, 10)}
    return _timed(f"noise, {side}×{side}: specks merged", candidates, repeats)


def _timed(case: str, candidates: Candidates, repeats: int) -> list[Row]:
    times = interleaved(candidates, repeats=repeats)
    return [
        {"case": case, "program": program, "CPU ms": spent, "× ours": spent / times["regionflow"]}
        for program, spent in times.items()
    ]


def _flood_with_scikit_image(image: np.ndarray, working: np.ndarray) -> np.ndarray:
    """Do what `upscale_labels` does with whole arrays; pieces without an interior, which it keeps, aside."""
    from scipy.ndimage import binary_dilation, gaussian_gradient_magnitude
    from skimage.measure import label
    from skimage.segmentation import find_boundaries, watershed

    from segmentation.prepare import centres

    block = np.ix_(*(centres(n, of=m) for n, m in zip(image.shape[:2], working.shape, strict=True)))
    pieces = label(working, connectivity=1)
    border = find_boundaries(working, mode="thick", connectivity=1)
    has_interior = np.bincount(pieces.ravel(), weights=~border.ravel()) > 0
    band = (border & has_interior[pieces])[block]
    elevation = gaussian_gradient_magnitude(image.mean(axis=2), sigma=1)
    near = binary_dilation(band)
    markers = np.where(near & ~band, working[block], 0).astype(np.int32)
    return np.where(band, watershed(elevation, markers, mask=near), working[block])


def _overlay_with_opencv(image: np.ndarray, labels: np.ndarray) -> Any:
    import cv2

    picture = np.ascontiguousarray(image[..., ::-1])
    colors = region_colors(int(labels.max()))[:, ::-1].tolist()
    for region in range(1, len(colors)):
        inside = (labels == region).astype(np.uint8)
        outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colors[region], 1)
    if labels.size > 4_000_000:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _overlay_with_scikit_image(image: np.ndarray, labels: np.ndarray) -> bytes:
    from PIL import Image
    from skimage.segmentation import mark_boundaries

    picture = (mark_boundaries(image, labels) * 255).astype(np.uint8)
    buffer = BytesIO()
    if labels.size > 4_000_000:
        Image.fromarray(picture).save(buffer, format="JPEG", quality=92)
    else:
        Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
