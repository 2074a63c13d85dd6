"""Trees of regions in the store: beside the labels that were cut from them, so that others can be cut later.

```
labels/<name>/tree/base     base regions at the image's resolution, 0 where masked
                   merges   the two nodes that each merge joins; not there if nothing is merged
                   heights  how credible the border is that each merge removes
                   sums     sums of the image's channels in each base region
```
The group's attributes hold the other numbers, and the SHA-256 of all. OME-NGFF knows no trees, and its readers do not
look for any.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Image
from segmentation.cuts import MeasuredTree
from segmentation.errors import StoreError
from segmentation.io.ome_zarr import Files, array_files, below, group_metadata, open_group
from segmentation.io.records import shard_of
from segmentation.io.storage import Location, open_storage
from segmentation.prepare import centres

TREE = "tree"
_SCHEMA = 1
_AXES = {"base": ("y", "x"), "merges": ("merge", "node"), "heights": ("merge",), "sums": ("region", "c")}
_NOTHING: dict[str, NDArray[np.generic]] = {"merges": np.zeros((0, 2), np.int32), "heights": np.zeros(0, np.float32)}
_NUMBERS = ("suggested", "within")


def tree_files(tree: MeasuredTree) -> Files:
    """Return the files of a tree's group, by their names in it; equal trees give equal bytes.

    Examples
    --------
    >>> from segmentation.hierarchy import RegionTree
    >>> one = RegionTree(np.ones((2, 3), np.uint16), np.zeros((0, 2), np.int32), np.zeros(0, np.float32), 0.5)
    >>> sorted(tree_files(MeasuredTree(one, np.array([[12.0]]), 0.0)))
    ['base/c/0/0', 'base/zarr.json', 'sums/c/0/0', 'sums/zarr.json', 'zarr.json']
    """
    arrays = tree.as_arrays()
    attributes = {"schema": _SCHEMA, "sha256": _digest(arrays), **{name: float(arrays[name]) for name in _NUMBERS}}
    files = {"zarr.json": group_metadata({"regionflow": attributes})}
    for name, axes in _AXES.items():
        if arrays[name].size:
            files |= below(name, array_files(arrays[name], axes))
    return files


def read_tree(root: Location, identity: str, label: str) -> MeasuredTree:
    """Read the tree that a label was cut from.

    Raises
    ------
    StoreError
        There is none, or it is damaged.
    """
    storage = open_storage(root)
    name = f"images/{shard_of(identity)}/{identity}.ome.zarr/labels/{label}/{TREE}"
    try:
        group = open_group(storage, name)
        attributes = dict(group.attrs)["regionflow"]
        found = {array: np.asarray(group[array][...]) for array in group.array_keys()}  # type: ignore[index]
        numbers = {number: np.array(attributes[number]) for number in _NUMBERS}  # type: ignore[index, call-overload]
        arrays = {**_NOTHING, **found, **numbers}
        is_whole = _digest(arrays) == attributes["sha256"]  # type: ignore[index, call-overload]
    except Exception as error:  # zarr and its codecs promise no exception types
        raise StoreError(f"{storage.url}/{name}: holds no tree that can be read") from error
    if not is_whole:
        raise StoreError(f"{storage.url}/{name}: its tree is not the one recorded (a missing or altered chunk)")
    return MeasuredTree.from_arrays(arrays)


def picture_of(root: Location, identity: str, tree: MeasuredTree) -> Image:
    """Return what is stored of an image, at the size of its labels, to draw outlines on.

    It is the image itself if that was stored whole, as hierarchy does unless told otherwise; a smaller preview is
    enlarged, and where only one mean pixel was stored (``--pixels none``) base regions stand in their mean colours.
    """
    group = open_group(open_storage(root), f"images/{shard_of(identity)}/{identity}.ome.zarr", without="labels")
    pixels = np.asarray(group["0"][...])  # type: ignore[index]
    preview = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels
    shape = tree.tree.base.shape
    if preview.shape[:2] == shape:
        return preview
    if preview.shape[:2] == (1, 1):
        return _in_depth_of(preview, tree.mean_image())
    return preview[np.ix_(centres(shape[0], preview.shape[0]), centres(shape[1], preview.shape[1]))]


def _digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    found = hashlib.sha256()
    for name in (*_AXES, *_NUMBERS):
        array = arrays[name]
        found.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


def _in_depth_of(preview: Image, means: Image) -> Image:
    return means.astype(preview.dtype) if preview.dtype.kind == "u" else means
