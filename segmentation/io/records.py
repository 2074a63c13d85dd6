"""Records: the Parquet files that say how every image ended.

A batch's records are its commit: written last, to a temporary name, then renamed. The index is made from them and
can be made again at any time::

    runs/<run>/records/<batch>.parquet    one row per image and label, with every output's size and SHA-256
    runs/<run>/regions/<batch>.parquet    region tables of the batch, until they are merged
    tables/index.parquet                  the latest row of every image and label
    tables/regions/<2 hex>.parquet        region tables of all segmented images, by the start of the id's hash
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmentation.errors import StoreError
from segmentation.io.files import sync_folder, write_atomically
from segmentation.io.runs import check_format
from segmentation.planning import ImageRef, Output, Record, State

#: (id, label): what a record is about.
Subject = tuple[str, str]

INDEX_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("source_raw", pa.binary()),
        ("label", pa.string()),
        ("id", pa.string()),
        ("state", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("digest", pa.string()),
        ("mask_digest", pa.string()),
        ("key", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int32()),
        ("n_regions", pa.int32()),
        ("scores", pa.string()),
        ("seconds", pa.float64()),
        ("step_seconds", pa.string()),
        ("attempts", pa.int32()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("has_mask", pa.bool_()),
        ("mask_size", pa.int64()),
        ("mask_mtime_ns", pa.int64()),
        ("problem", pa.string()),
        ("contour", pa.string()),
        ("run", pa.string()),
        ("batch", pa.string()),
    ]
)
_OUTPUT = pa.struct([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
RECORD_SCHEMA = INDEX_SCHEMA.append(pa.field("outputs", pa.list_(_OUTPUT)))


def commit_batch(root: Path, run: str, batch: str, records: Iterable[Record], regions: pa.Table | None) -> None:
    """Make a batch count: its region table first, then its records; both durable when this returns."""
    folder = root / "runs" / run
    for name in ("regions", "records"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if regions is not None:
        write_table(folder / "regions" / f"{batch}.parquet", regions)
    write_table(folder / "records" / f"{batch}.parquet", table_of(records, RECORD_SCHEMA))
    sync_folder(folder / "records")


def read_records(root: Path) -> dict[Subject, Record]:
    """Return the latest record of every image and label: the index, then the runs it does not hold yet.

    Raises
    ------
    StoreError
        A file is damaged, or was written by a newer version.
    """
    check_format(root)
    latest: dict[Subject, Record] = {}
    index = root / "tables" / "index.parquet"
    if index.exists():
        latest.update((subject(record), record) for record in _records(index))
    for folder in open_runs(root):
        latest = after_run(latest, records_of_run(folder))
    return latest


def records_of_run(folder: Path) -> Iterator[Record]:
    """Yield the committed records of one run, in the order of its batches."""
    for path in sorted((folder / "records").glob("*.parquet")):
        yield from _records(path)


def open_runs(root: Path) -> list[Path]:
    """List the runs whose records the index does not hold yet, oldest first; run names sort by time."""
    folders = sorted(path for path in (root / "runs").glob("*") if (path / "records").is_dir())
    return [folder for folder in folders if not (folder / "indexed").exists()]


def after_run(latest: dict[Subject, Record], records: Iterable[Record]) -> dict[Subject, Record]:
    """Take in a run's records. One run at a time: what a run has superseded stays so, whatever comes later."""
    return _without_superseded({**latest, **{subject(record): record for record in records}})


def subject(record: Record) -> Subject:
    """Say what a record is about."""
    return record.ref.id, record.label


def _without_superseded(latest: dict[Subject, Record]) -> dict[Subject, Record]:
    """Drop labels of an image that was replaced: their pixels are not those of its newest segmented label."""
    newest: dict[str, Record] = {}
    for record in latest.values():
        held = newest.get(record.ref.id)
        if record.state is State.SEGMENTED and (held is None or record.run > held.run):
            newest[record.ref.id] = record
    return {
        key: record
        for key, record in latest.items()
        if record.state is not State.SEGMENTED or record.digest == newest[record.ref.id].digest
    }


def publish_index(root: Path) -> dict[Subject, Record]:
    """Write the index and the merged region tables anew from the records; return the records.

    Safe to repeat after a crash at any point: runs count as open until `close_runs`.
    """
    runs = open_runs(root)
    records = read_records(root)
    ordered = sorted(records.values(), key=lambda record: (record.ref.raw_name, record.label))
    (root / "tables").mkdir(parents=True, exist_ok=True)
    _merge_regions(root, runs, records)
    write_table(root / "tables" / "index.parquet", table_of(ordered, INDEX_SCHEMA))
    sync_folder(root / "tables")
    return records


def close_runs(root: Path) -> None:
    """Mark all runs as held by the index, once everything made from their records is in place."""
    for folder in open_runs(root):
        write_atomically(folder / "indexed", b"")
        for path in (folder / "regions").glob("*.parquet"):
            path.unlink()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    StoreError
        It is damaged; the message names it.
    """
    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{path}: not a readable Parquet file ({error})") from error


def table_of(records: Iterable[Record], schema: pa.Schema) -> pa.Table:
    """Lay records out as a table of the given schema."""
    rows = [{name: _COLUMNS[name](record) for name in schema.names} for record in records]
    return pa.Table.from_pylist(rows, schema=schema)


def _merge_regions(root: Path, runs: list[Path], records: Mapping[Subject, Record]) -> None:
    """Bring the rows of open runs into the shared tables; rows of anything no longer current leave them."""
    fresh: dict[str, list[pa.Table]] = {}
    touched: set[str] = set()
    for folder in runs:
        touched.update(shard_of(record.ref.id) for record in records_of_run(folder))
        for path in sorted((folder / "regions").glob("*.parquet")):
            table = read_table(path)
            for shard in pc.unique(table["shard"]).to_pylist():
                rows = table.filter(pc.equal(table["shard"], shard))
                fresh.setdefault(shard, []).append(rows.drop_columns(["shard"]))
    current = {(*key, record.key) for key, record in records.items() if record.state is State.SEGMENTED}
    (root / "tables" / "regions").mkdir(parents=True, exist_ok=True)
    for shard in sorted(touched):
        target = root / "tables" / "regions" / f"{shard}.parquet"
        old = [read_table(target)] if target.exists() else []
        tables = old + fresh.get(shard, [])
        if tables:
            write_table(target, _current_rows(pa.concat_tables(tables), current))
    sync_folder(root / "tables" / "regions")


def _current_rows(table: pa.Table, current: set[tuple[str, str, str]]) -> pa.Table:
    """Keep one set of rows per current image and label, ordered; a batch that ran twice left equal rows twice."""
    columns = (table[name].to_pylist() for name in ("id", "label", "key", "region"))
    seen: dict[tuple[str, str, int], int] = {}
    for row, (identity, label, key, region) in enumerate(zip(*columns, strict=True)):
        if (identity, label, key) in current:
            seen[identity, label, region] = row
    return table.take(pa.array([seen[where] for where in sorted(seen)], pa.int64()))


def shard_of(identity: str) -> str:
    """Return the two hexadecimal digits that spread images over folders and tables: the hash's first."""
    return identity.rsplit("-", 1)[1][:2]


_COLUMNS: dict[str, Callable[[Record], Any]] = {
    "source": lambda record: record.ref.display_name,
    "source_raw": lambda record: record.ref.raw_name,
    "label": lambda record: record.label,
    "id": lambda record: record.ref.id,
    "state": lambda record: record.state.value,
    "step": lambda record: record.step,
    "reason": lambda record: record.reason,
    "digest": lambda record: record.digest,
    "mask_digest": lambda record: record.mask_digest,
    "key": lambda record: record.key,
    "height": lambda record: record.height,
    "width": lambda record: record.width,
    "channels": lambda record: record.channels,
    "n_regions": lambda record: record.n_regions,
    "scores": lambda record: json.dumps(record.scores, sort_keys=True),
    "seconds": lambda record: sum(record.seconds.values()),
    "step_seconds": lambda record: json.dumps(record.seconds),
    "attempts": lambda record: record.attempts,
    "size": lambda record: record.ref.size,
    "mtime_ns": lambda record: record.ref.mtime_ns,
    "has_mask": lambda record: bool(record.ref.mask_path),
    "mask_size": lambda record: record.ref.mask_size,
    "mask_mtime_ns": lambda record: record.ref.mask_mtime_ns,
    "problem": lambda record: record.ref.problem,
    "contour": lambda record: record.contour,
    "run": lambda record: record.run,
    "batch": lambda record: record.batch,
    "outputs": lambda record: [vars(output) for output in record.outputs],
}


def _records(path: Path) -> Iterator[Record]:
    for row in read_table(path).to_pylist():
        yield _record(row)


def _record(row: dict[str, Any]) -> Record:
    ref = ImageRef(
        name=row["source_raw"].decode("utf-8", "surrogateescape"),
        path="",
        id=row["id"],
        size=row["size"],
        mtime_ns=row["mtime_ns"],
        mask_path="-" if row["has_mask"] else "",
        mask_size=row["mask_size"],
        mask_mtime_ns=row["mask_mtime_ns"],
        problem=row["problem"],
    )
    plain = ("label", "key", "digest", "mask_digest", "step", "reason", "height", "width", "channels", "n_regions")
    return Record(
        ref=ref,
        state=State(row["state"]),
        scores=json.loads(row["scores"]),
        seconds=json.loads(row["step_seconds"]),
        outputs=tuple(Output(**output) for output in row.get("outputs") or ()),
        **{name: row[name] for name in (*plain, "attempts", "run", "batch", "contour")},
    )
