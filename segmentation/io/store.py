"""The store: one OME-Zarr image per input, with its label maps and contour pictures.

```
images/<2 hex>/<id>.ome.zarr     OME-NGFF 0.5: a preview of the image, labels/<name> at the original resolution
contours/<2 hex>/<id>.<name>.png coloured outlines over the image (.jpg above 4 megapixels)
.staging/                        what is being written; swept when a run starts
```
Everything is built in memory, written to ``.staging`` and renamed into place, so that no final name ever holds a part.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from segmentation.arrays import Bytes8, Floats, Image, Labels
from segmentation.contours import region_colors
from segmentation.errors import StoreError
from segmentation.io.files import put_folder, write_atomically
from segmentation.io.ome_zarr import Files, array_files, group_metadata
from segmentation.io.records import shard_of
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
    preview: Image
    picture: bytes
    picture_suffix: str


def image_path(root: Path, identity: str) -> Path:
    """Return where an image's OME-Zarr group is."""
    return root / "images" / shard_of(identity) / f"{identity}.ome.zarr"


def sweep_staging(root: Path) -> None:
    """Remove what an interrupted run left half written; only the holder of the store's lock may."""
    shutil.rmtree(root / ".staging", ignore_errors=True)


def write_entry(root: Path, entry: Entry) -> tuple[list[Output], str]:
    """Store one image's labels and picture; return its files, and the path of the picture below `root`.

    A label joins its siblings if the stored image is the same picture; otherwise the image is replaced whole.
    Nothing is durable before `segmentation.io.files.sync_all`, nothing counts before its record does.

    Raises
    ------
    OSError
        The disk is full, read-only or gone; what was stored before is as it was.
    """
    staging = root / ".staging" / uuid.uuid4().hex
    target = image_path(root, entry.id)
    try:
        if _stored_digest(target) == entry.digest:
            _add_label(staging, target, entry)
        else:
            _dump(staging / "image", _image_group(entry))
            put_folder(staging / "image", target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    picture = root / "contours" / shard_of(entry.id) / f"{entry.id}.{entry.label}{entry.picture_suffix}"
    for folder in (picture.parent, root / ".staging"):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(picture, entry.picture, scratch=root / ".staging")
    files = [*_image_files(target, entry.label), picture]
    return [_output(root, path) for path in files], picture.relative_to(root).as_posix()


def read_labels(root: Path, identity: str, label: str) -> Labels:
    """Read a stored label map.

    Returns
    -------
    labels : ndarray of uint16 or uint32, shape (M, N)

    Raises
    ------
    StoreError
        It is absent, damaged (the stored checksum differs) or a chunk is missing.
    """
    path = image_path(root, identity) / "labels" / label
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
        array = group["0"]
        assert isinstance(array, zarr.Array)
        labels = np.asarray(array[...])
    except Exception as error:  # zarr and its codecs promise no exception types
        raise StoreError(f"{path}: cannot be read ({error})") from error
    recorded = dict(group.attrs)["regionflow"]["label_sha256"]  # type: ignore[index, call-overload]
    if array_digest(labels) != recorded:
        raise StoreError(f"{path}: its labels are not those recorded (a missing or altered chunk)")
    return labels


def read_preview(root: Path, identity: str) -> Image:
    """Read the stored picture of an image, shape (M, N) or (M, N, 3)."""
    group = zarr.open_group(image_path(root, identity), mode="r", zarr_format=3)
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


def _stored_digest(target: Path) -> str:
    """Return the digest of the picture that is stored, "" if there is none or it cannot be told."""
    try:
        attributes = json.loads((target / "zarr.json").read_bytes())["attributes"]
        return str(attributes["regionflow"]["source"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _add_label(staging: Path, target: Path, entry: Entry) -> None:
    _dump(staging / "label", _label_group(entry))
    put_folder(staging / "label", target / "labels" / entry.label)
    listed = sorted(path.name for path in (target / "labels").iterdir() if (path / "zarr.json").exists())
    write_atomically(target / "labels" / "zarr.json", _labels_metadata(listed))


def _label_group(entry: Entry) -> Files:
    array = array_files(entry.labels, ("y", "x"))
    return {"zarr.json": group_metadata(_label_attributes(entry)), **_below("0", array)}


def _image_group(entry: Entry) -> Files:
    color = entry.preview.ndim == 3
    pixels = np.moveaxis(entry.preview, -1, 0) if color else entry.preview
    height, width = entry.labels.shape
    steps = [height / pixels.shape[-2], width / pixels.shape[-1]]
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    if color:
        axes = [{"name": "c", "type": "channel"}, *axes]
        steps = [1.0, *steps]
    attributes = {
        "ome": {"version": "0.5", "multiscales": [_multiscale(entry.id, axes, steps)]},
        "regionflow": {
            "schema": SCHEMA,
            "source": {"uri": entry.source, "sha256": entry.digest, "bytes": entry.source_bytes},
            "versions": versions(),
        },
    }
    return {
        "zarr.json": group_metadata(attributes),
        **_below("0", array_files(pixels, tuple(axis["name"] for axis in axes))),
        "labels/zarr.json": _labels_metadata([entry.label]),
        **_below(f"labels/{entry.label}", _label_group(entry)),
    }


def _below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": data for name, data in files.items()}


def _multiscale(name: str, axes: list[dict[str, str]], steps: list[float]) -> dict[str, Any]:
    """Place the array in the original's pixel grid: pixel centres are at whole numbers."""
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": steps}]
    if any(step != 1 for step in steps):
        transformations.append({"type": "translation", "translation": [(step - 1) / 2 for step in steps]})
    dataset = {"path": "0", "coordinateTransformations": transformations}
    return {"name": name, "axes": axes, "datasets": [dataset]}


def _label_attributes(entry: Entry) -> dict[str, Any]:
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
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
            "multiscales": [_multiscale(entry.label, axes, [1.0, 1.0])],
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


def _dump(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True)
    made = {folder}
    for name, data in sorted(files.items()):
        path = folder / name
        _make(path.parent, made)
        path.write_bytes(data)


def _make(folder: Path, made: set[Path]) -> None:
    """Make a folder and those above it that are not made yet, from the top: each is asked for once."""
    if folder not in made:
        _make(folder.parent, made)
        folder.mkdir()
        made.add(folder)


def _image_files(target: Path, label: str) -> list[Path]:
    """List the files a record answers for: the image's own and its label's, not the shared list of labels."""
    own = [path for path in target.rglob("*") if path.relative_to(target).parts[0] != "labels"]
    named = (target / "labels" / label).rglob("*")
    return sorted(path for path in (*own, *named) if path.is_file())


def _output(root: Path, path: Path) -> Output:
    data = path.read_bytes()
    return Output(path.relative_to(root).as_posix(), len(data), hashlib.sha256(data).hexdigest())
