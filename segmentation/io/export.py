"""Exports of a finished store in the formats of other programs: GeoJSON, COCO, CSV, PNG.

One image is in memory at a time. Every file gets a temporary name and is renamed when it is whole.
"""

import csv
import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from segmentation.arrays import Ints, Labels
from segmentation.contours import region_colors
from segmentation.errors import ParameterError, StoreError
from segmentation.io.files import write_atomically
from segmentation.io.storage import LocalStorage, Location, open_storage
from segmentation.polygons import RegionPolygons, region_polygons
from segmentation.regions import RegionTable, region_table

#: Writes items to a folder, which is made if need be, and returns the files written.
Exporter = Callable[[Iterable["LabelledImage"], Path], list[Path]]

_REGION_COLUMNS = tuple(region_table(np.zeros((0, 0), np.int64)))
_CLASS_COLOR = (255, 214, 0)
_FEATURE_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:regionflow:feature")
# A spreadsheet takes a cell that starts with one of these for a formula, and runs it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class LabelledImage:
    """What an export needs to know of one image and one of its label maps.

    Without `regions` the table is computed from the labels, with intensities unknown.
    """

    id: str
    source: str
    label: str
    labels: Labels
    regions: RegionTable | None = None

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The region table, one dict of plain numbers per region.

        Raises
        ------
        StoreError
            If `regions` is not the table of these labels.
        """
        table = region_table(self.labels) if self.regions is None else self.regions
        counts = np.bincount(self.labels.reshape(-1).astype(np.intp), minlength=1)
        if not np.array_equal(np.sort(table["label"]), np.flatnonzero(counts[1:]) + 1):
            raise StoreError(
                f"{self.source}, {self.label}: the label map has {np.count_nonzero(counts[1:])} regions, "
                f"the region table {len(table['label'])}, or others"
            )
        columns = [table[name].tolist() for name in _REGION_COLUMNS]
        return [dict(zip(_REGION_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]

    def path_in(self, folder: Path, suffix: str) -> Path:
        """Return the path of this item's own file in `folder`.

        Raises
        ------
        ParameterError
            If id or label name a folder.
        """
        name = f"{self.id}.{self.label}{suffix}"
        if Path(name).name != name:
            raise ParameterError(f"id {self.id!r} and label {self.label!r} cannot be a file name")
        return folder / name


def export_geojson(items: Iterable[LabelledImage], folder: Path) -> list[Path]:
    """Write ``<id>.<label>.geojson`` for each item: one feature per region, as QuPath reads annotations.

    Coordinates are pixels, x to the right and y down; pixel (r, c) covers (c, r) to (c + 1, r + 1). A region
    in several 4-connected pieces is a MultiPolygon. Feature ids depend on nothing but id, label and region:
    those of a second export are the same. Measurements are the columns of the region table that are known.

    Returns
    -------
    written : list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for item in items:
        colors = region_colors(int(item.labels.max(initial=0))).tolist()
        rows = {row["label"]: row for row in item.rows}
        features = [
            _json(_feature(item, region, colors[region.label], rows[region.label]))
            for region in region_polygons(item.labels)
        ]
        text = '{"type":"FeatureCollection","features":[\n' + ",\n".join(features) + "\n]}\n"
        written.append(item.path_in(folder, ".geojson"))
        write_atomically(written[-1], text.encode())
    return written


def export_coco(items: Iterable[LabelledImage], folder: Path) -> list[Path]:
    """Write ``annotations.json``: one COCO file for all items, regions as compressed run lengths.

    Items of the same image follow one another, else the image is listed again. Each label name is a category.

    Returns
    -------
    written : list of Path

    Notes
    -----
    Each region is one object: ``iscrowd`` is 0, for trainers and evaluation leave crowds out. ``region`` is the number
    in the label map. Memory does not grow with the number of items: images wait in an unnamed file beside the
    annotations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.json"
    categories: dict[str, int] = {}
    with (
        _written_whole(path) as file,
        tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as images,
    ):
        file.write('{"info":{"description":"Regions"},"annotations":[')
        n_images = n_annotations = 0
        previous = None
        for item in items:
            if item.id != previous:
                n_images += 1
                images.write(_separator(n_images) + _json(_coco_image(item, n_images)))
                previous = item.id
            category = categories.setdefault(item.label, len(categories) + 1)
            for annotation in _coco_annotations(item):
                n_annotations += 1
                annotation |= {"id": n_annotations, "image_id": n_images, "category_id": category}
                file.write(_separator(n_annotations) + _json(annotation))
        images.seek(0)
        file.write('\n],"images":[')
        shutil.copyfileobj(images, file)
        listed = [{"id": number, "name": name, "supercategory": "region"} for name, number in categories.items()]
        file.write(f'\n],"categories":{_json(listed)}}}\n')
    return [path]


def export_csv(items: Iterable[LabelledImage], folder: Path) -> list[Path]:
    """Write ``regions.csv``: the region tables of all items, one row per region.

    Text that a spreadsheet would run as a formula gets an apostrophe in front; unknown values are empty.

    Returns
    -------
    written : list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "regions.csv"
    measured = [name for name in _REGION_COLUMNS if name != "label"]
    with _written_whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(["source", "id", "label", "region", *measured])
        for item in items:
            names = [_as_text(text) for text in (item.source, item.id, item.label)]
            for row in item.rows:
                values = (row[name] if math.isfinite(row[name]) else "" for name in measured)
                writer.writerow([*names, row["label"], *values])
    return [path]


def export_png(items: Iterable[LabelledImage], folder: Path) -> list[Path]:
    """Write ``<id>.<label>.png`` for each item: the label map as 16-bit grey, 0 = masked.

    Above 65,535 regions it is a 32-bit TIFF, ``<id>.<label>.tif``.

    Returns
    -------
    written : list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for item in items:
        data, suffix = _encoded_labels(item.labels)
        written.append(item.path_in(folder, suffix))
        write_atomically(written[-1], data)
    return written


#: What `regionflow export OUTPUT FORMAT` can write.
FORMATS: dict[str, Exporter] = {
    "geojson": export_geojson,
    "coco": export_coco,
    "csv": export_csv,
    "png": export_png,
}


#: Formats with a file for each label map; the others have one file for all.
_A_FILE_EACH = ("geojson", "png")


def export_to(format_name: str, items: Iterable[LabelledImage], location: Location) -> int:
    """Write items in a format to a folder or a bucket; return the number of files.

    On its way to a bucket a file lies in a temporary folder: one of an image at a time, or the one for all.
    """
    storage = open_storage(location)
    exporter = FORMATS[format_name]
    if isinstance(storage, LocalStorage):
        return len(exporter(items, storage.root))
    n_files = 0
    with tempfile.TemporaryDirectory(prefix="regionflow-export-") as folder:
        for group in ([item] for item in items) if format_name in _A_FILE_EACH else [items]:
            for path in exporter(group, Path(folder)):
                with path.open("rb") as file:
                    storage.upload(path.name, file)
                path.unlink()
                n_files += 1
    return n_files


def encode_run_lengths(labels: Labels) -> dict[int, str]:
    """Encode the mask of every region as COCO's compressed run lengths.

    Parameters
    ----------
    labels : ndarray of int, shape (M, N)
        1..K, 0 where masked.

    Returns
    -------
    counts : dict of str
        For each region, in ascending order, what ``pycocotools.mask.encode`` calls "counts".

    Notes
    -----
    O(M·N + runs·log(runs)) time for all regions together. Column by column, a mask is a number of pixels
    outside, then inside, then outside and so on; each number is written as the difference from the last but
    one (from the fourth on), five bits a character, the lowest first.

    Examples
    --------
    >>> encode_run_lengths(np.array([[1, 1, 2], [1, 1, 2]]))
    {1: '042', 2: '42'}
    """
    flat = labels.reshape(-1, order="F")
    if not flat.any():
        return {}
    first = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    after = np.append(first[1:], flat.size)
    inside = np.flatnonzero(flat[first])
    inside = inside[np.argsort(flat[first[inside]], kind="stable")]
    first, after = first[inside], after[inside]
    present, begin = np.unique(flat[first], return_index=True)
    counts, owner = _alternating_counts(first, after, begin, flat.size)
    characters, n_characters = _five_bits_each(_differences(counts, owner))
    ends = np.bincount(owner, weights=n_characters, minlength=len(present)).cumsum().astype(int).tolist()
    text = characters.decode("ascii")
    return {region: text[start:end] for region, start, end in zip(present.tolist(), [0, *ends], ends, strict=False)}


def _alternating_counts(first: Ints, after: Ints, begin: Ints, size: int) -> tuple[Ints, Ints]:
    """Return the numbers of pixels outside, inside, outside, … of each region in turn, and whose they are.

    Runs go from `first` to `after`; those of the i-th region start at index ``begin[i]``.
    """
    previous = np.append(0, after[:-1])
    previous[begin] = 0
    counts = np.stack([first - previous, after - first], axis=1).reshape(-1)
    n_counts = 2 * np.diff(begin, append=len(first))
    tails = size - after[np.append(begin[1:], len(first)) - 1]
    ends = np.cumsum(n_counts)[tails > 0]
    owner = np.repeat(np.arange(len(begin)), n_counts)
    return np.insert(counts, ends, tails[tails > 0]), np.insert(owner, ends, np.flatnonzero(tails > 0))


def _differences(counts: Ints, owner: Ints) -> Ints:
    position = np.arange(len(counts)) - np.searchsorted(owner, owner)
    late = np.flatnonzero(position > 2)
    differences = counts.copy()
    differences[late] -= counts[late - 2]
    return differences


def _five_bits_each(numbers: Ints) -> tuple[bytes, Ints]:
    """Return the characters of all numbers, and how many each number took."""
    # Seven times five bits hold what COCO allows, 32.
    characters = np.zeros((len(numbers), 7), np.uint8)
    used = np.zeros(characters.shape, np.bool_)
    rest, unfinished = numbers.copy(), np.ones(len(numbers), np.bool_)
    for place in range(characters.shape[1]):
        used[:, place] = unfinished
        bits = rest & 0x1F
        rest >>= 5
        # The sign is the highest bit of the last character.
        unfinished &= np.where(bits & 0x10, rest != -1, rest != 0)
        characters[:, place] = bits + 48 + 0x20 * unfinished
    return characters[used].tobytes(), used.sum(axis=1)


def _feature(item: LabelledImage, region: RegionPolygons, color: list[int], row: dict[str, Any]) -> dict[str, Any]:
    pieces = [[ring.tolist() for ring in polygon] for polygon in region.polygons]
    is_single = len(pieces) == 1
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_FEATURE_IDS, f"{item.id}/{item.label}/{region.label}")),
        "geometry": {
            "type": "Polygon" if is_single else "MultiPolygon",
            "coordinates": pieces[0] if is_single else pieces,
        },
        "properties": {
            "objectType": "annotation",
            "name": f"region {region.label}",
            "color": color,
            # QuPath keeps one colour per class: it belongs to the label map, the region's own is above.
            "classification": {"name": item.label, "color": _CLASS_COLOR},
            "measurements": {name: value for name, value in row.items() if name != "label" and math.isfinite(value)},
        },
    }


def _coco_image(item: LabelledImage, number: int) -> dict[str, Any]:
    height, width = item.labels.shape
    return {"id": number, "file_name": item.source, "width": width, "height": height}


def _coco_annotations(item: LabelledImage) -> Iterator[dict[str, Any]]:
    counts = encode_run_lengths(item.labels)
    for row in item.rows:
        left, top = row["bbox_col_min"], row["bbox_row_min"]
        yield {
            "region": row["label"],
            "segmentation": {"size": list(item.labels.shape), "counts": counts[row["label"]]},
            "area": row["area"],
            "bbox": [left, top, row["bbox_col_max"] - left, row["bbox_row_max"] - top],
            "iscrowd": 0,
        }


def _encoded_labels(labels: Labels) -> tuple[bytes, str]:
    import imagecodecs
    import tifffile

    if labels.max(initial=0) <= np.iinfo(np.uint16).max:
        return bytes(imagecodecs.png_encode(labels.astype(np.uint16))), ".png"
    file = BytesIO()
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib", metadata=None)
    return file.getvalue(), ".tif"


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears at `path` when the block ends well, and never otherwise."""
    temporary = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        # File names may hold bytes that are no text; these are written as, for example, \\udcff.
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _separator(number: int) -> str:
    return "\n" if number == 1 else ",\n"


def _as_text(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
