"""What the gallery's slider shows: the cuts of a tree in one small file that a page from the disk may load.

```
contours/<2 hex>/<id>.<name>.cuts.js
```
It is a script, because a page that is opened from the disk may read no other files: it hands over, as text, the
numbers of regions at which the slider stops, a picture, and for each pixel from which stop on a border runs there.
"""

import base64
import json

import numpy as np

from segmentation.arrays import Bytes8, Image
from segmentation.contours import displayable
from segmentation.hierarchy import RegionTree

#: The longer side of the slider's picture at most, in pixels.
_SIDE = 1200
_JPEG_QUALITY = 85
#: The densest, 9, takes five times as long and saves a hundredth of the file.
_DEFLATE_LEVEL = 6
_MOST_REGIONS = 500
#: Each stop has so many times the regions of the one before, from that on where it makes a difference.
_STEP = 1.15


def slider_script(name: str, image: Image, tree: RegionTree, n_regions: int) -> bytes:
    """Return the file for a label; `name` is its image's id and its own name, as the page knows it.

    Parameters
    ----------
    name : str
        "id/label".
    image : ndarray, shape (M, N) or (M, N, 3)
    tree : RegionTree
        Its `base` has shape (M, N).
    n_regions : int
        Regions of the cut that is stored; the slider stops there too.

    Notes
    -----
    O(MN) time, whatever the number of stops. Above 1,200 pixels the picture is made smaller by a whole number, and a
    pixel of it has a border as soon as one of its pixels has one.
    """
    import imagecodecs

    stops = stops_of(tree, n_regions)
    factor = -(-max(tree.base.shape) // _SIDE)
    picture = np.rint(_blocks(displayable(image, tree.base), factor).mean(axis=(1, 3))).astype(np.uint8)
    # What is no border, 0, comes after all stops.
    borders = _blocks(first_stops(tree, stops) - np.uint8(1), factor).min(axis=(1, 3)) + np.uint8(1)
    data = {
        "width": borders.shape[1],
        "height": borders.shape[0],
        "regions": stops,
        "stored": stops.index(n_regions),
        "picture": _text(bytes(imagecodecs.jpeg_encode(picture, level=_JPEG_QUALITY))),
        "borders": _text(bytes(imagecodecs.deflate_encode(borders.tobytes(), level=_DEFLATE_LEVEL))),
    }
    text = json.dumps({name: data}, separators=(",", ":")).replace("<", "\\u003c")
    return f"Object.assign(window.regionflowCuts??={{}},{text});\n".encode("ascii")


def stops_of(tree: RegionTree, n_regions: int) -> list[int]:
    """List the numbers of regions at which the slider stops: close together where there are few.

    Examples
    --------
    >>> base = np.arange(1, 41).reshape(5, 8)
    >>> merges = np.stack([np.r_[0, 40:78], np.arange(1, 40)], axis=1)
    >>> stops_of(RegionTree(base, merges, np.linspace(0, 0.9, 39), 0.5), 11)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 21, 24, 28, 32, 37]
    """
    stops, number = {n_regions}, tree.n_base - len(tree.merges)
    while number <= min(tree.n_base, _MOST_REGIONS):
        stops.add(number)
        number = max(number + 1, round(_STEP * number))
    return sorted(stops)


def first_stops(tree: RegionTree, stops: list[int]) -> Bytes8:
    """Return for each pixel from which stop on, counted from 1, there is a border to its right or below; 0 if at none.

    Examples
    --------
    >>> tree = RegionTree(np.array([[1, 2, 3]]), np.array([[0, 1], [2, 3]]), np.array([0.2, 0.7]), 0.5)
    >>> first_stops(tree, [1, 2, 3])
    array([[3, 2, 0]], dtype=uint8)
    """
    ranks = np.arange(1, len(tree.merges) + 1, dtype=np.float32)
    last = RegionTree(tree.base, tree.merges, ranks, tree.suggested).contours()
    # The merge of rank r is undone where there are at least n_base - r + 1 regions; between pieces r is infinite.
    needed = tree.n_base + 1 - last
    found = np.searchsorted(np.array(stops, dtype=np.float64), needed.ravel(), side="left").reshape(last.shape)
    return np.where((last > 0) & (found < len(stops)), found + 1, 0).astype(np.uint8)


def _blocks(values: Image, factor: int) -> Image:
    """Divide an image into squares of some pixels, shape (m, factor, n, factor, …); the last ones are filled up."""
    more = [(0, -size % factor) for size in values.shape[:2]] + [(0, 0)] * (values.ndim - 2)
    filled = np.pad(values, more, mode="edge")
    shape = (filled.shape[0] // factor, factor, filled.shape[1] // factor, factor)
    return filled.reshape(*shape, *values.shape[2:])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
