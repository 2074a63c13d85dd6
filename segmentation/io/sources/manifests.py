"""Lists of images: a CSV or Parquet file with a column of paths."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from segmentation.errors import ParameterError
from segmentation.io.places import beside, file_system, is_url, open_place, reaching, url_maker
from segmentation.io.sources.folders import (
    Entry,
    LocalTree,
    RemoteTree,
    Tree,
    file_reference,
    is_zarr_folder,
    zarr_reference,
)
from segmentation.io.sources.names import Selection, image_id
from segmentation.planning import ImageRef, display

SUFFIXES = (".csv", ".parquet")
_COLUMNS = ("path", "mask", "id")
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Row:
    """One line of a list."""

    path: str
    mask: str
    name: str


def list_manifest(place: str, selection: Selection) -> Iterator[ImageRef]:
    """List the images that a CSV or Parquet file names, in its order.

    Column ``path`` says where an image is: relative to the list's folder, a full path, or a URL. ``mask``, if there is
    such a column, does the same for its mask, and ``id`` is the name under which it is listed, instead of its path.

    Yields
    ------
    ImageRef
        A file that is not there is one with the reason. A name that comes twice is one, too: which row is meant is
        not known.

    Raises
    ------
    ParameterError
        It cannot be read as a table, has no column ``path`` or no row.
    """
    rows = list(_rows(place))
    if not rows:
        raise ParameterError(f"SOURCE: {display(place)} lists no images; it has a header and no row")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.name] = counts.get(row.name, 0) + 1
    folder = place.rpartition("/")[0] if is_url(place) else str(Path(place).parent)
    for row in rows:
        count = counts.pop(row.name, 0)  # 0: a name that came before
        if not count or not selection.takes_member(row.name):
            continue
        if count > 1:
            problem = f"{count} rows of the list have this name; which one is meant is not known"
            yield ImageRef(row.name, beside(row.path, folder), image_id(row.name), problem=problem)
        else:
            yield _reference(row, folder)


def _reference(row: Row, folder: str) -> ImageRef:
    if not row.path:
        return ImageRef(row.name, folder, image_id(row.name), problem="the list says no path")
    ref = replace(_at(beside(row.path, folder)), name=row.name, id=image_id(row.name))
    if not row.mask or ref.problem:
        return ref
    mask = _at(beside(row.mask, folder))
    if mask.problem or mask.is_zarr:
        return replace(ref, problem=f"mask: {mask.problem or 'an OME-Zarr image; an image file is expected'}")
    return replace(ref, mask_path=mask.path, mask_size=mask.size, mask_mtime_ns=mask.mtime_ns)


def _at(place: str) -> ImageRef:
    """Make the reference of a file or an OME-Zarr image at this place."""
    tree: Tree
    if is_url(place):
        with reaching(place):
            files, path = file_system(place)
            tree, is_folder = RemoteTree(files), files.isdir(path)
        url = url_maker(place)
    else:
        tree, path, is_folder, url = LocalTree(), place, Path(place).is_dir() and not Path(place).is_symlink(), str
    if is_folder and is_zarr_folder(tree, path):
        return zarr_reference(tree, path, "", url)
    return file_reference(tree, Entry("", path, is_folder), url)


def _rows(place: str) -> Iterator[Row]:
    table = _parquet(place) if place.lower().endswith(".parquet") else _csv(place)
    for values in table:
        path, mask, name = (str(values.get(column) or "") for column in _COLUMNS)
        yield Row(path, mask, name or str(PurePosixPath(path)) if path else name)


def _csv(place: str) -> Iterator[dict[str, Any]]:
    text = io.StringIO(_read(place).decode("utf-8-sig", "surrogateescape"), newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        _check_columns(place, list(reader.fieldnames or ()))
        yield from reader
    except csv.Error as error:
        raise ParameterError(
            f"SOURCE: {display(place)}, line {reader.line_num}: a quote that is not closed, or a field that is too long"
        ) from error


def _parquet(place: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(_read(place)))
        _check_columns(place, list(file.schema_arrow.names))
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ParameterError(f"SOURCE: {display(place)} is not a readable Parquet file") from error


def _read(place: str) -> bytes:
    with open_place(place, follow_links=True) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ParameterError(f"SOURCE: {display(place)} is a list of more than {_MAX_BYTES:,} bytes")
    return data


def _check_columns(place: str, names: list[str]) -> None:
    if "path" not in names:
        found = ", ".join(names) or "none"
        raise ParameterError(f"SOURCE: {display(place)} has the columns {display(found)}; a column 'path' is expected")
