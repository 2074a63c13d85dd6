"""Records: the Parquet files that say how every image ended.

A batch's records are its commit, written last and whole. The index is made from them and
can be made again at any time::

    runs/<run>/records/<batch>.parquet    one row per image and label, with every output's size and SHA-256
    runs/<run>/withdrawn/<batch>.parquet  earlier results that the batch replaces, written before their files change
    runs/<run>/indexed                    the index holds this run; digests of its records
    runs/<run>/regions/<batch>.parquet    region tables of the batch, until they are merged
    tables/index.parquet                  the latest row of every image and label
    tables/regions/<2 hex>.parquet        region tables of all segmented images, by the start of the id's hash
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmentation.errors import StoreError
from segmentation.io.runs import check_format, run_names
from segmentation.io.storage import Location, Storage, open_storage
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
WITHDRAWN_SCHEMA = pa.schema([("id", pa.string()), ("label", pa.string())])
INDEX = "tables/index.parquet"


def commit_batch(root: Location, run: str, batch: str, records: Iterable[Record], regions: pa.Table | None) -> None:
    """Make a batch count: its region table first, then its records; both durable when this returns."""
    storage = open_storage(root)
    if regions is not None:
        write_table(storage, f"runs/{run}/regions/{batch}.parquet", regions)
    write_table(storage, f"runs/{run}/records/{batch}.parquet", table_of(records, RECORD_SCHEMA))
    storage.sync(f"runs/{run}/records")


def withdraw(root: Location, run: str, batch: str, replaced: Iterable[Subject]) -> None:
    """Say, before it happens, which earlier results a batch replaces; label "" is all of an image.

    They no longer count from now on: whatever breaks while their files change, nobody takes the old record for them.
    Durable when this returns.
    """
    storage = open_storage(root)
    rows = [dict(zip(WITHDRAWN_SCHEMA.names, each, strict=True)) for each in sorted(replaced)]
    write_table(storage, f"runs/{run}/withdrawn/{batch}.parquet", pa.Table.from_pylist(rows, schema=WITHDRAWN_SCHEMA))
    storage.sync(f"runs/{run}/withdrawn")


def read_records(root: Location) -> dict[Subject, Record]:
    """Return the latest record of every image and label: the index, then the runs it does not hold yet.

    Raises
    ------
    StoreError
        A file is damaged, or was written by a newer version.
    """
    storage = open_storage(root)
    check_format(storage)
    latest: dict[Subject, Record] = {}
    if storage.exists(INDEX):
        latest.update((subject(record), record) for record in records_in(storage, INDEX))
    for run in open_runs(storage):
        latest = after_run(latest, records_of_run(storage, run), withdrawn_by(storage, run))
    return latest


def replay_records(root: Location) -> dict[Subject, Record]:
    """Return the latest record of every image and label from the commit records alone, whatever the index says."""
    storage = open_storage(root)
    latest: dict[Subject, Record] = {}
    for run in run_names(storage):
        latest = after_run(latest, records_of_run(storage, run), withdrawn_by(storage, run))
    return latest


def records_of_run(root: Location, run: str) -> Iterator[Record]:
    """Yield the committed records of one run, in the order of its batches."""
    storage = open_storage(root)
    for name in storage.names(f"runs/{run}/records", ".parquet"):
        yield from records_in(storage, name)


def withdrawn_by(root: Location, run: str) -> set[Subject]:
    """Return the earlier results that a run was about to replace; label "" is all of an image."""
    storage = open_storage(root)
    tables = [read_table(storage, name) for name in storage.names(f"runs/{run}/withdrawn", ".parquet")]
    return {(row["id"], row["label"]) for table in tables for row in table.to_pylist()}


def open_runs(root: Location) -> list[str]:
    """List the runs whose records the index does not hold yet, oldest first; run names sort by time.

    Runs are closed together, oldest first: before a closed one there is none that is open.
    """
    storage = open_storage(root)
    found: list[str] = []
    for run in reversed(run_names(storage)):
        if storage.exists(f"runs/{run}/indexed"):
            break
        if {"records", "withdrawn"} & set(storage.folders(f"runs/{run}")):
            found.append(run)
    return found[::-1]


def after_run(
    latest: dict[Subject, Record], records: Iterable[Record], withdrawn: Set[Subject] = frozenset()
) -> dict[Subject, Record]:
    """Take in a run's records. One run at a time: what a run has superseded stays so, whatever comes later."""
    kept = {key: record for key, record in latest.items() if key not in withdrawn and (key[0], "") not in withdrawn}
    return _without_superseded({**kept, **{subject(record): record for record in records}})


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


def publish_index(root: Location) -> dict[Subject, Record]:
    """Write the index and the merged region tables anew from the records; return the records.

    Safe to repeat after a crash at any point: runs count as open until `close_runs`.
    """
    storage = open_storage(root)
    records, runs = read_records(storage), open_runs(storage)
    if runs or not storage.exists(INDEX):
        write_tables(storage, records, runs)
    return records


def write_tables(
    storage: Storage, records: Mapping[Subject, Record], runs: Sequence[str], *, all_shards: bool = False
) -> None:
    """Write the index of these records, and bring the region tables of `runs` into the shared ones.

    With `all_shards` those too are written anew in which these runs have changed nothing.
    """
    ordered = sorted(records.values(), key=lambda record: (record.ref.raw_name, record.label))
    _merge_regions(storage, runs, records, all_shards=all_shards)
    write_table(storage, INDEX, table_of(ordered, INDEX_SCHEMA))
    storage.sync("tables")


def close_runs(root: Location) -> None:
    """Mark all runs as held by the index, once everything made from their records is in place.

    A mark lists the run's records with their digests, the last one the tables too, so that `verify` knows them again.
    """
    storage = open_storage(root)
    runs = open_runs(storage)
    shards = {shard for run in runs for shard in _touched(storage, run)}
    tables = [INDEX, *(name for shard in sorted(shards) if storage.exists(name := region_table_name(shard)))]
    for run in runs:
        mark_indexed(storage, run, tables if run == runs[-1] else ())
        for name in storage.names(f"runs/{run}/regions", ".parquet"):
            storage.delete(name)


def mark_indexed(storage: Storage, run: str, tables: Iterable[str] = ()) -> None:
    """Write the digests of a run's records, and of tables, as its mark."""
    names = [name for kind in ("records", "withdrawn") for name in storage.names(f"runs/{run}/{kind}", ".parquet")]
    digests = {name: hashlib.sha256(storage.read(name)).hexdigest() for name in (*names, *tables)}
    storage.write(f"runs/{run}/indexed", json.dumps(digests, indent=1).encode())


def _touched(storage: Storage, run: str) -> set[str]:
    """Return the shards that a run has changed something in."""
    return {shard_of(record.ref.id) for record in records_of_run(storage, run)} | {
        shard_of(identity) for identity, _ in withdrawn_by(storage, run)
    }


def write_table(storage: Storage, name: str, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all, with checksums; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    storage.write(name, buffer.getvalue())


def read_table(storage: Storage, name: str) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    StoreError
        It is damaged or absent; the message names it.
    """
    try:
        return pq.read_table(pa.BufferReader(storage.read(name)), page_checksum_verification=True)
    except StoreError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise StoreError(f"{storage.url}/{name}: not a readable Parquet file") from error


def table_of(records: Iterable[Record], schema: pa.Schema) -> pa.Table:
    """Lay records out as a table of the given schema."""
    rows = [{name: _COLUMNS[name](record) for name in schema.names} for record in records]
    return pa.Table.from_pylist(rows, schema=schema)


def _merge_regions(
    storage: Storage, runs: Sequence[str], records: Mapping[Subject, Record], *, all_shards: bool
) -> None:
    """Bring the rows of open runs into the shared tables; rows of anything no longer current leave them."""
    fresh: dict[str, list[pa.Table]] = {}
    touched: set[str] = set()
    for run in runs:
        touched |= _touched(storage, run)
        for name in storage.names(f"runs/{run}/regions", ".parquet"):
            table = read_table(storage, name)
            for shard in pc.unique(table["shard"]).to_pylist():
                rows = table.filter(pc.equal(table["shard"], shard))
                fresh.setdefault(shard, []).append(rows.drop_columns(["shard"]))
    current = {(*key, record.key) for key, record in records.items() if record.state is State.SEGMENTED}
    if all_shards:
        touched |= {name.rpartition("/")[2].removesuffix(".parquet") for name in storage.names("tables/regions")}
    for shard in sorted(touched):
        name = region_table_name(shard)
        old = [read_table(storage, name)] if storage.exists(name) else []
        tables = [_without_results(table, fresh.get(shard, [])) for table in old] + fresh.get(shard, [])
        if tables:
            write_table(storage, name, _current_rows(pa.concat_tables(tables), current))
    storage.sync("tables/regions")


def _without_results(table: pa.Table, fresh: Sequence[pa.Table]) -> pa.Table:
    """Drop the rows of results that have fresh ones: these replace them all, however many they are."""
    renewed = {key for rows in fresh for key in zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True)}
    keys = zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True)
    return table.filter(pa.array([key not in renewed for key in keys], pa.bool_()))


def _current_rows(table: pa.Table, current: set[tuple[str, str, str]]) -> pa.Table:
    """Keep one set of rows per current image and label, ordered; a batch that ran twice left equal rows twice."""
    columns = (table[name].to_pylist() for name in ("id", "label", "key", "region"))
    seen: dict[tuple[str, str, int], int] = {}
    for row, (identity, label, key, region) in enumerate(zip(*columns, strict=True)):
        if (identity, label, key) in current:
            seen[identity, label, region] = row
    return table.take(pa.array([seen[where] for where in sorted(seen)], pa.int64()))


def region_table_name(shard: str) -> str:
    """Return where the region tables of some images are merged."""
    return f"tables/regions/{shard}.parquet"


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


def records_in(storage: Storage, name: str) -> Iterator[Record]:
    """Yield the records of one file.

    Raises
    ------
    StoreError
        It is damaged; the message names it.
    """
    table = read_table(storage, name)
    try:
        yield from [_record(row) for row in table.to_pylist()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{storage.url}/{name}: holds no records of this version") from error


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
