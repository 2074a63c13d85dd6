"""The steps around clustering against SciPy, scikit-image and OpenCV: smoothing and rescaling, the region table."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, interleaved, photos
from segmentation.prepare import rescale, smooth, smooth_and_rescale
from segmentation.regions import region_table

_PROPERTIES = ("label", "area", "centroid", "bbox", "perimeter", "eccentricity", "intensity_mean")


def run(*, quick: bool = False) -> list[Row]:
    """Measure 12-megapixel images and a photograph of 481×321 pixels."""
    import cv2

    cv2.setNumThreads(1)
    rng, photo = np.random.default_rng(0), _photo()
    shape, side = ((300, 400), 64) if quick else ((3000, 4000), 512)
    grey, rgb = rng.random(shape), rng.integers(0, 256, (*shape, 3), np.uint8)
    size = f"{grey.size / 1e6:.3g} megapixels"
    rows = [
        _smoothing(f"{size}, float64, scale 0.2", grey, 0.2, repeats=5),
        _smoothing(f"{size}, uint8 RGB, scale 0.2", rgb, 0.2, repeats=5),
        _smoothing("photograph, uint8 RGB, scale 0.5", photo, 0.5, repeats=41),
        _smoothing("photograph, uint8 RGB, scale 0.2", photo, 0.2, repeats=41),
    ]
    for n_regions in (27, 2000):
        labels = _map_of(n_regions, (side, side))
        rows.append(_table(f"{side}×{side}, {n_regions} regions, RGB", labels, rgb[:side, :side].copy()))
    labels = _map_of(27, photo.shape[:2])
    rows.append(_table("photograph, 27 regions, RGB", labels, photo))
    rows.append(_table("photograph, 27 regions, grey", labels, photo[..., 1].copy()))
    return rows


def _photo() -> np.ndarray:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        (path,) = photos(Path(folder), 1).iterdir()
        return np.asarray(Image.open(path))


def _smoothing(name: str, image: np.ndarray, scale: float, *, repeats: int) -> Row:
    """Smooth by 2 pixels and rescale; OpenCV is given SciPy's weights, and sums in 64 bits without cutting off."""
    ours = smooth_and_rescale(image, 2, scale)
    spent = interleaved(
        {
            "ours": lambda: smooth_and_rescale(image, 2, scale),
            "libraries": lambda: rescale(smooth(image, 2), scale),
            "opencv": lambda: _opencv(image, scale),
        },
        repeats=repeats,
    )
    return {
        "step": "smooth and rescale",
        "input": name,
        "ms": spent["ours"],
        "SciPy + scikit-image ms": spent["libraries"],
        "ratio": spent["libraries"] / spent["ours"],
        "largest difference": float(np.abs(ours - rescale(smooth(image, 2), scale)).max()),
        "OpenCV ms": spent["opencv"],
        "OpenCV's difference": float(np.abs(ours - _opencv(image, scale)).max()),
    }


def _opencv(image: np.ndarray, scale: float) -> np.ndarray:
    import cv2

    places = np.arange(-8, 9)
    weights = np.exp(-0.5 / 4 * places**2)
    weights /= weights.sum()
    smoothed = cv2.sepFilter2D(image, cv2.CV_64F, weights, weights, borderType=cv2.BORDER_REFLECT)
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    resized = cv2.resize(smoothed, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized / np.iinfo(image.dtype).max if image.dtype.kind == "u" else resized


def _map_of(n_regions: int, shape: tuple[int, int]) -> np.ndarray:
    """Divide a grid among random points, each pixel to the nearest."""
    from scipy.spatial import cKDTree

    points = np.random.default_rng(0).random((n_regions, 2)) * shape
    nearest = cKDTree(points).query(np.indices(shape).reshape(2, -1).T)[1]
    return (nearest.reshape(shape) + 1).astype(np.uint16)


def _table(name: str, labels: np.ndarray, image: np.ndarray) -> Row:
    from skimage.measure import regionprops_table

    def theirs() -> dict[str, np.ndarray]:
        return regionprops_table(labels, image, properties=_PROPERTIES)

    spent = interleaved({"ours": lambda: region_table(labels, image), "libraries": theirs}, repeats=5)
    return {
        "step": "region table",
        "input": name,
        "ms": spent["ours"],
        "SciPy + scikit-image ms": spent["libraries"],
        "ratio": spent["libraries"] / spent["ours"],
        "largest difference": _largest_difference(region_table(labels, image), theirs()),
    }


def _largest_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Compare the columns that both have."""
    pairs = {"area": "area", "perimeter": "perimeter", "eccentricity": "eccentricity"}
    for name, number in (("row", 0), ("col", 1)):
        pairs[f"centroid_{name}"] = f"centroid-{number}"
        pairs[f"bbox_{name}_min"], pairs[f"bbox_{name}_max"] = f"bbox-{number}", f"bbox-{number + 2}"
    if "intensity_mean" in theirs:
        pairs["mean_intensity"] = "intensity_mean"
    else:
        colours = zip(("mean_red", "mean_green", "mean_blue"), range(3), strict=True)
        pairs.update({name: f"intensity_mean-{number}" for name, number in colours})
    return max(float(np.abs(ours[name] - theirs[other]).max()) for name, other in pairs.items())
