"""Lists of images: a CSV or Parquet file with a column of paths."""

import os
from collections.abc import Iterator, Mapping, Sequence
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
from segmentation.io.sources.names import Selection, as_stored, image_id
from segmentation.io.sources.spreadsheets import decode_table, read_table
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

    A CSV may come from a spreadsheet: comma, semicolon, tab or bar between columns, UTF-8, or UTF-16 with its mark.
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
    folder = place.rpartition("/")[0] if is_url(place) else str(Path(place).parent)
    rows = [_as_found(row, folder) for row in _rows(place)]
    if not rows:
        raise ParameterError(f"SOURCE: {display(place)} lists no images; it has a header and no row")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.name] = counts.get(row.name, 0) + 1
    for row in rows:
        count = counts.pop(row.name, 0)  # 0: a name that came before
        if not count or not selection.takes_member(row.name):
            continue
        if count > 1:
            problem = f"{count} rows of the list have this name; which one is meant is not known"
            yield ImageRef(row.name, beside(row.path, folder), image_id(row.name), problem=problem)
        else:
            yield _reference(row, folder)


def _as_found(row: Row, folder: str) -> Row:
    """Name image and mask as they are stored here, where the list has them as another system or program does."""
    path = _stored(row.path, folder)
    return Row(path, _stored(row.mask, folder), row.name if row.name != _name_of(row.path) else _name_of(path))


def _stored(path: str, folder: str) -> str:
    """Find what a list names: as it says, else without spaces around it, with folders divided as on Windows."""
    if not path or is_url(beside(path, folder)) or os.path.lexists(beside(path, folder)):
        return path
    plain = path.strip()
    return as_stored(path, folder) or as_stored(plain, folder) or as_stored(plain.replace("\\", "/"), folder) or path


def _name_of(path: str) -> str:
    return str(PurePosixPath(path)) if path else path


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
    if not is_url(place) and not os.path.lexists(place):
        return ImageRef("", place, "", problem=f"not found: {display(place)}")
    return file_reference(tree, Entry("", path, is_folder), url)


def _rows(place: str) -> Iterator[Row]:
    table = _parquet(place) if place.lower().endswith(".parquet") else _csv(place)
    for values in table:
        path, mask, name = (str(values.get(column) or "") for column in _COLUMNS)
        yield Row(path, mask.strip(), name.strip() or _name_of(path))


def _csv(place: str) -> Iterator[dict[str, Any]]:
    data = _read(place)
    try:
        rows = list(read_table(decode_table(data), "path"))
        if not _is_utf8(rows) and not _names_bytes(rows, place):
            rows = list(read_table(data.decode("cp1252", "replace"), "path"))  # what a spreadsheet on Windows writes
    except ParameterError as error:
        raise ParameterError(f"SOURCE: {display(place)}: {display(str(error))}") from error
    yield from rows


def _is_utf8(rows: Sequence[Mapping[str, str]]) -> bool:
    return not any("\ud800" <= character <= "\udfff" for row in rows for text in row.values() for character in text)


def _names_bytes(rows: Sequence[Mapping[str, str]], place: str) -> bool:
    """Tell whether a list that is not UTF-8 names files of this machine whose names are not, either."""
    odd = [row["path"] for row in rows if not _is_utf8([{"path": row["path"]}])]
    return any(os.path.lexists(beside(path, str(Path(place).parent))) for path in odd) and not is_url(place)


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
