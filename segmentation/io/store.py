"""The store: one OME-Zarr image per input, with its label maps and contour pictures.

```
images/<2 hex>/<id>.ome.zarr     OME-NGFF 0.5: a preview of the image, labels/<name> at the original resolution,
                                 for hierarchy labels/<name>/tree (`segmentation.io.trees`)
contours/<2 hex>/<id>.<name>.png coloured outlines over the image (.jpg above 4 megapixels), for hierarchy
                <id>.<name>.cuts.js what the gallery's slider shows (`segmentation.io.slider`)
.staging/                        what is being written; swept when a run starts and when it ends
```
Everything is built in memory and put in place by a `Storage`, so that no final name ever holds a part.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from segmentation.arrays import Bytes8, Floats, Image, Labels
from segmentation.contours import region_colors
from segmentation.cuts import MeasuredTree
from segmentation.errors import StoreError
from segmentation.io.ome_zarr import Files, array_files, below, group_metadata, open_group
from segmentation.io.pictures import PIXELS, Grid
from segmentation.io.records import Subject, shard_of
from segmentation.io.storage import Location, Storage, open_storage
from segmentation.io.trees import TREE, tree_files
from segmentation.params import Recipe
from segmentation.planning import Output

Pixels = Literal["preview", "full", "none"]
SCHEMA = 1
#: Above this many regions the viewer's colour and property lists are left out.
_MAX_LISTED_REGIONS = 256


@dataclass(frozen=True)
class Entry:
    """All that is stored of one image under one label."""

    id: str
    source: str
    digest: str
    source_bytes: int
    label: str
    key: str
    recipe: Recipe
    labels: Labels
    areas: Mapping[int, int]
    scores: Mapping[str, float]
    preview: Image | None  # None: the image's group is there already
    picture: bytes
    picture_suffix: str
    tree: MeasuredTree | None = None
    slider: bytes = b""
    grid: Grid = PIXELS


def image_name(identity: str) -> str:
    """Return where an image's OME-Zarr group is, below the store."""
    return f"images/{shard_of(identity)}/{identity}.ome.zarr"


def image_path(root: Path, identity: str) -> Path:
    """Return where an image's OME-Zarr group is, in a store that is a folder."""
    return root / image_name(identity)


def replaced_by(root: Location, identity: str, label: str, digest: str) -> Subject | None:
    """Tell what storing a label of an image replaces: that label, or all of an image that changed (label "").

    It must be withdrawn before (`segmentation.io.records.withdraw`): from then on its files change.
    """
    storage = open_storage(root)
    image = image_name(identity)
    if _stored_digest(storage, image) == digest:
        return (identity, label) if next(storage.files(f"{image}/labels/{label}"), None) is not None else None
    return (identity, "") if next(storage.files(image), None) is not None else None


def write_entry(root: Location, entry: Entry) -> tuple[list[Output], str]:
    """Store one image's labels and picture; return its files, and the path of the picture below `root`.

    A label joins its siblings if the stored image is the same picture; otherwise the image is replaced whole.
    Nothing is durable before `Storage.sync`, nothing counts before its record does.

    Raises
    ------
    OSError
        The disk is full, read-only or gone; what was stored before is as it was.
    StoreError
        The image's group is not there, or that of another picture, and the entry has no preview to replace it.
    """
    storage = open_storage(root)
    image = image_name(entry.id)
    if _stored_digest(storage, image) == entry.digest:
        written = _add_label(storage, image, entry)
    else:
        if entry.preview is None:
            raise StoreError(f"{storage.url}/{image}: is gone, or is of another picture; segment it again")
        written = _put_group(storage, image, _image_group(entry, entry.preview))
    picture = f"contours/{shard_of(entry.id)}/{entry.id}.{entry.label}{entry.picture_suffix}"
    beside = {picture: entry.picture}
    if entry.slider:
        beside[slider_name(picture)] = entry.slider
    for name, data in beside.items():
        storage.write(name, data)
    written |= beside
    names = [*_image_files(storage, image, entry.label), *beside]
    return [_output(name, written[name] if name in written else storage.read(name)) for name in names], picture


def slider_name(picture: str) -> str:
    """Return where the cuts for the gallery's slider are, beside a picture of outlines."""
    return f"{picture.rpartition('.')[0]}.cuts.js"


def read_labels(root: Location, identity: str, label: str) -> Labels:
    """Read a stored label map.

    Parameters
    ----------
    root : Path, str or Storage
        The store: a folder, or an ``s3://`` URL.
    identity, label : str
        As the index has them: "id" and "label".

    Returns
    -------
    labels : ndarray of uint16 or uint32, shape (M, N)

    Raises
    ------
    StoreError
        It is absent, damaged (the stored checksum differs) or a chunk is missing.
    """
    storage = open_storage(root)
    name = f"{image_name(identity)}/labels/{label}"
    place = f"{storage.url}/{name}"
    try:
        group = open_group(storage, name, without=TREE)
        array = group["0"]
        assert isinstance(array, zarr.Array)
        labels = np.asarray(array[...])
        recorded = dict(group.attrs)["regionflow"]["label_sha256"]  # type: ignore[index, call-overload]
    except StoreError:
        raise
    except Exception as error:  # zarr and its codecs promise no exception types
        raise StoreError(f"{place}: its labels cannot be read (a missing or damaged chunk, or metadata)") from error
    if array_digest(labels) != recorded:
        raise StoreError(f"{place}: its labels are not those recorded (a missing or altered chunk)")
    return labels


def read_preview(root: Location, identity: str) -> Image:
    """Read the stored picture of an image, shape (M, N) or (M, N, 3)."""
    group = open_group(open_storage(root), image_name(identity), without="labels")
    pixels = np.asarray(group["0"][...])  # type: ignore[index]
    return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels


def make_preview(image: Image, working: Floats, pixels: Pixels) -> Image:
    """Choose what is stored of the image itself.

    "preview" is the smoothed and rescaled image in the depth of the original, "full" the original, "none" one
    mean pixel: OME-NGFF has no labels without an image.
    """
    if pixels == "full":
        return image
    if pixels == "none":
        working = working.mean(axis=(0, 1), keepdims=True)
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return np.rint(np.clip(working, 0, 1) * np.iinfo(image.dtype).max).astype(image.dtype)
    return working.astype(np.float32)


def array_digest(array: Image) -> str:
    """SHA-256 of an array's values in C order, little-endian."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions that the labels depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("regionflow", "numpy", "scipy", "numba", "scikit-learn", "scikit-image")}


def _stored_digest(storage: Storage, image: str) -> str:
    """Return the digest of the picture that is stored, "" if there is none or it cannot be told."""
    try:
        return str(_stored_source(storage, image)["sha256"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return ""


def _stored_source(storage: Storage, image: str) -> dict[str, Any]:
    attributes = json.loads(storage.read(f"{image}/zarr.json"))["attributes"]
    return dict(attributes["regionflow"]["source"])


def _put_group(storage: Storage, folder: str, files: Files) -> dict[str, bytes]:
    storage.put_folder(folder, files)
    return {f"{folder}/{name}": data for name, data in files.items()}


def _add_label(storage: Storage, image: str, entry: Entry) -> dict[str, bytes]:
    placed = _stored_source(storage, image).get("grid")  # a recut knows the picture from here alone
    grid = PIXELS if placed is None else Grid.from_dict(placed)
    written = _put_group(storage, f"{image}/labels/{entry.label}", _label_group(replace(entry, grid=grid)))
    labels = storage.folders(f"{image}/labels")
    listed = [label for label in labels if storage.exists(f"{image}/labels/{label}/zarr.json")]
    storage.write(f"{image}/labels/zarr.json", _labels_metadata(listed))
    return written


def _label_group(entry: Entry) -> Files:
    array = array_files(entry.labels, ("y", "x"))
    tree = below(TREE, tree_files(entry.tree)) if entry.tree is not None else {}
    return {"zarr.json": group_metadata(_label_attributes(entry)), **below("0", array), **tree}


def _image_group(entry: Entry, preview: Image) -> Files:
    color = preview.ndim == 3
    pixels = np.moveaxis(preview, -1, 0) if color else preview
    height, width = entry.labels.shape
    grid = entry.grid.coarser((height / pixels.shape[-2], width / pixels.shape[-1]))
    multiscale = _multiscale(entry.id, grid, channel=color)
    source = {"uri": entry.source, "sha256": entry.digest, "bytes": entry.source_bytes}
    attributes = {
        "ome": {"version": "0.5", "multiscales": [multiscale]},
        "regionflow": {
            "schema": SCHEMA,
            "source": source if entry.grid == PIXELS else {**source, "grid": entry.grid.as_dict()},
            "versions": versions(),
        },
    }
    return {
        "zarr.json": group_metadata(attributes),
        **below("0", array_files(pixels, tuple(axis["name"] for axis in multiscale["axes"]))),
        "labels/zarr.json": _labels_metadata([entry.label]),
        **below(f"labels/{entry.label}", _label_group(entry)),
    }


def _multiscale(name: str, grid: Grid, *, channel: bool = False) -> dict[str, Any]:
    """Place the array as the source is: where that says nothing, pixel centres are at whole numbers."""
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if channel else []
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * len(axes) + list(grid.step)}]
    if any(grid.origin):
        transformations.append({"type": "translation", "translation": [0.0] * len(axes) + list(grid.origin)})
    dataset = {"path": "0", "coordinateTransformations": transformations}
    return {"name": name, "axes": axes + grid.axes(), "datasets": [dataset]}


def _label_attributes(entry: Entry) -> dict[str, Any]:
    image_label: dict[str, Any] = {"version": "0.5", "source": {"image": "../../"}}
    n_regions = len(entry.areas)
    if 0 < n_regions <= _MAX_LISTED_REGIONS:
        colors = _color_list(region_colors(n_regions))
        image_label["colors"] = [
            {"label-value": value, "rgba": rgba} for value, rgba in zip(entry.areas, colors, strict=True)
        ]
        image_label["properties"] = [{"label-value": value, "area": area} for value, area in entry.areas.items()]
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [_multiscale(entry.label, entry.grid)],
            "image-label": image_label,
        },
        "regionflow": {
            "schema": SCHEMA,
            "recipe": entry.recipe.model_dump(mode="json"),
            "key": f"sha256:{entry.key}",
            "label_sha256": array_digest(entry.labels),
            "n_regions": n_regions,
            "scores": dict(entry.scores),
            "versions": versions(),
        },
    }


def _color_list(colors: Bytes8) -> list[list[int]]:
    return [[int(value) for value in color] + [255] for color in colors[1:]]


def _labels_metadata(names: list[str]) -> bytes:
    return group_metadata({"ome": {"version": "0.5", "labels": names}})


def _image_files(storage: Storage, image: str, label: str) -> list[str]:
    """List the files a record answers for: the image's own and its label's, not the shared list of labels."""
    start = len(image) + 1
    found = list(storage.files(image))
    return [
        name for name in found if not name[start:].startswith("labels/") or f"/labels/{label}/" in name[start - 1 :]
    ]


def _output(name: str, data: bytes) -> Output:
    return Output(name, len(data), hashlib.sha256(data).hexdigest())
