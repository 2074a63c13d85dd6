"""Read a store again and say what is not as recorded."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from segmentation.errors import StoreError
from segmentation.io.gallery import PAGE
from segmentation.io.records import (
    INDEX,
    Subject,
    after_run,
    open_runs,
    read_table,
    records_in,
    region_table_name,
    shard_of,
    subject,
)
from segmentation.io.runs import check_format, read_run, run_names
from segmentation.io.storage import Location, Storage, open_storage
from segmentation.io.store import image_name, read_labels
from segmentation.planning import Output, Record, State
from segmentation.reasons import reason_of

#: (id, label, key): one result.
ResultKey = tuple[str, str, str]
#: Region number and area, of every row.
_Rows = dict[ResultKey, list[tuple[int, float]]]


@dataclass(frozen=True)
class Fault:
    """Something that is not as recorded, and in which file."""

    path: str
    problem: str


@dataclass
class Findings:
    """What a look at a whole store found."""

    checked: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)  # nothing that a record answers for
    records: dict[Subject, Record] = field(default_factory=dict)  # what the store is meant to hold
    damaged: set[Subject] = field(default_factory=set)  # of these, what must be computed again
    without_record: set[Subject] = field(default_factory=set)  # of these, what only the index tells of
    damaged_images: set[str] = field(default_factory=set)  # ids of images whose own files, not only a label's, are
    bad_records: set[str] = field(default_factory=set)  # files of records that cannot be trusted
    bad_runs: set[str] = field(default_factory=set)  # runs whose description or mark is damaged
    unreadable_tables: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)  # of tables, as the last run to write them left them
    interrupted: bool = False

    def add(self, path: str, problem: str) -> None:
        """Take in a fault."""
        self.faults.append(Fault(path, problem))


def verify_store(root: Location) -> tuple[int, list[Fault]]:
    """Check every recorded file against its size and SHA-256, and everything else against the records.

    Returns
    -------
    checked, faults : int, list of Fault
        Number of files read, and what was found. Nothing is changed.

    See Also
    --------
    examine : the same with what a repair needs to know.
    """
    findings = examine(root)
    return findings.checked, findings.faults


def examine(root: Location) -> Findings:
    """Check a whole store: records against their digests, index, tables, label maps and pictures against the records.

    Notes
    -----
    What an interrupted run leaves is no fault: region tables that are not merged yet, new results whose record was not
    written any more, a gallery of before. The next run takes care of it. An image or label that no record knows is a
    note: nobody takes it for a result.

    One label map is in memory at a time. On a bucket every object is read once, label maps twice.
    """
    storage = open_storage(root)
    found = Findings()
    _descriptions(storage, found)
    runs = _runs(storage, found)
    outputs = {
        (*subject(record), record.key): record.outputs for run in runs for record in run.records if record.outputs
    }
    _index(storage, found, runs)
    segmented = {key: record for key, record in found.records.items() if record.state is State.SEGMENTED}
    merged, unmerged = _region_tables(storage, found, segmented)
    for key, record in segmented.items():
        files = outputs.get((*key, record.key), ())
        _result(storage, found, record, files, merged, unmerged)
    _left_over_rows(found, segmented, merged)
    if not open_runs(storage):
        _tables(storage, found, segmented)
    _images(storage, found, segmented, outputs)
    _gallery(storage, found)
    found.faults = sorted(set(found.faults), key=lambda fault: (fault.path, fault.problem))
    found.notes.sort(key=lambda note: note.path)
    return found


def _descriptions(storage: Storage, found: Findings) -> None:
    """Read what all runs say of themselves; whether the newest has ended decides what is left over for the next."""
    description: dict[str, object] = {}
    for run in run_names(storage):
        try:
            description = read_run(storage, run)
            found.checked += 1
        except StoreError as error:
            found.add(f"runs/{run}/run.json", _without(storage, error))
            found.bad_runs.add(run)
            description = {"finished": "unknown"}
    if not found.bad_runs:
        check_format(storage)
    found.interrupted = bool(description) and "finished" not in description


@dataclass
class _Run:
    """What a run committed, as far as its files can be trusted."""

    name: str
    records: list[Record] = field(default_factory=list)
    withdrawn: set[Subject] = field(default_factory=set)


def _runs(storage: Storage, found: Findings) -> list[_Run]:
    """Read all commit records, run by run."""
    runs = [_Run(name) for name in run_names(storage)]
    for run in runs:
        for name in _sound_files(storage, found, run.name):
            try:
                if name.startswith(f"runs/{run.name}/records/"):
                    run.records += records_in(storage, name)
                else:
                    run.withdrawn.update((row["id"], row["label"]) for row in read_table(storage, name).to_pylist())
            except (StoreError, KeyError, ValueError) as error:
                found.add(name, _without(storage, error))
                found.bad_records.add(name)
    return runs


def _replay(runs: Iterable[_Run], start: dict[Subject, Record]) -> dict[Subject, Record]:
    latest = start
    for run in runs:
        latest = after_run(latest, run.records, run.withdrawn)
    return latest


def _sound_files(storage: Storage, found: Findings, run: str) -> list[str]:
    """List a run's files of records, without those that are not what they were when the run was closed."""
    names = [name for kind in ("records", "withdrawn") for name in storage.names(f"runs/{run}/{kind}", ".parquet")]
    found.checked += len(names)
    mark = f"runs/{run}/indexed"
    if not storage.exists(mark):
        return names
    try:
        digests = json.loads(storage.read(mark) or b"null")
        if digests is None:  # closed before marks held digests
            return names
        known = {str(name): str(digest) for name, digest in digests.items()}
        found.digests.update((name, known.pop(name)) for name in list(known) if name.startswith("tables/"))
    except (ValueError, AttributeError) as error:
        found.add(mark, f"damaged ({reason_of(error)})" if isinstance(error, ValueError) else "damaged (no digests)")
        found.bad_runs.add(run)
        return names
    bad = set()
    for name in names:
        if name not in known:
            found.add(name, "not recorded when its run was closed")
            bad.add(name)
        elif hashlib.sha256(storage.read(name)).hexdigest() != known[name]:
            found.add(name, "its bytes are not those recorded when its run was closed")
            bad.add(name)
    for name in sorted(known.keys() - set(names)):
        found.add(name, "is missing")
        bad.add(name)
    found.bad_records |= bad
    return [name for name in names if name not in bad]


def _index(storage: Storage, found: Findings, runs: list[_Run]) -> None:
    """Hold the index, with the runs it does not hold yet, against the commit records; settle what is meant to be there.

    Where records are lost, what the index says of them is all that is known: it is to be computed again.
    """
    found.records = _replay(runs, {})
    unindexed = set(open_runs(storage))
    if not storage.exists(INDEX):
        if any(run.records and run.name not in unindexed for run in runs):
            found.add(INDEX, "is missing")
        return
    try:
        rows = list(records_in(storage, INDEX))
        found.checked += 1
    except (StoreError, KeyError, ValueError) as error:
        found.add(INDEX, _without(storage, error))
        found.unreadable_tables.add(INDEX)
        return
    for key, count in Counter(subject(row) for row in rows).items():
        if count > 1:
            found.add(INDEX, f"{_named(key)}: {count} rows, one is expected")
    indexed = _replay((run for run in runs if run.name in unindexed), {subject(row): row for row in rows})
    for key in sorted(indexed.keys() | found.records.keys()):
        row, record = indexed.get(key), found.records.get(key)
        if row is None:
            found.add(INDEX, f"{_named(key)}: no row, yet a commit record")
            continue
        if record is None:
            found.add(INDEX, f"{_named(key)}: a row without a commit record")
        elif replace(row, outputs=()) != replace(record, outputs=()):
            found.add(INDEX, f"{_named(key)}: not as its commit record says")
        if found.bad_records and (record is None or record.run < row.run):
            found.records[key] = row
            found.damaged.add(key)
            found.without_record.add(key)


def _result(
    storage: Storage,
    found: Findings,
    record: Record,
    outputs: Iterable[Output],
    merged: _Rows,
    unmerged: _Rows,
) -> None:
    """Check one result: its files, the label map in them, its rows in the region tables."""
    key = subject(record)
    before = len(found.faults)
    own = f"{image_name(record.ref.id)}/"
    if not outputs and key not in found.without_record:
        found.add(f"runs/{record.run}/records", f"{_named(key)}: no list of files")
    for output in outputs:
        found.checked += 1
        problem = _problem(storage, output)
        if problem:
            found.add(output.path, problem)
            if output.path.startswith(own) and not output.path.startswith(f"{own}labels/"):
                found.damaged_images.add(record.ref.id)
    areas = None
    if len(found.faults) == before and outputs:
        try:
            labels = read_labels(storage, record.ref.id, record.label)
            areas = np.bincount(labels.reshape(-1).astype(np.intp))
            if labels.shape != (record.height, record.width):
                found.add(f"{own}labels/{record.label}", f"has the shape {labels.shape}, the image another")
        except StoreError as error:
            found.add(f"{own}labels/{record.label}", _without(storage, error))
    result = (*key, record.key)
    rows = merged.pop(result, None) or sorted(set(unmerged.get(result, ())))  # a batch that ran twice left them twice
    if [region for region, _ in rows] != list(range(1, record.n_regions + 1)):
        name = region_table_name(shard_of(record.ref.id))
        found.add(name, f"{_named(key)}: {len(rows)} rows, {record.n_regions} regions recorded")
    elif areas is not None and any(areas[region] != area for region, area in rows if region < len(areas)):
        found.add(region_table_name(shard_of(record.ref.id)), f"{_named(key)}: areas are not those of the labels")
    if len(found.faults) > before:
        found.damaged.add(key)


def _problem(storage: Storage, output: Output) -> str:
    try:
        data = storage.read(output.path)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({reason_of(error)})"
    if len(data) != output.size:
        return f"has {len(data):,} bytes, {output.size:,} were recorded"
    if hashlib.sha256(data).hexdigest() != output.sha256:
        return "its bytes are not those recorded"
    return ""


def _region_tables(storage: Storage, found: Findings, segmented: dict[Subject, Record]) -> tuple[_Rows, _Rows]:
    """Collect the rows of the merged tables, and of those that are not merged yet."""
    unmerged = [name for run in open_runs(storage) for name in storage.names(f"runs/{run}/regions", ".parquet")]
    merged = storage.names("tables/regions", ".parquet")
    shards = {region_table_name(shard_of(identity)) for identity, _ in segmented}
    if not found.interrupted and not open_runs(storage):
        for name in sorted(shards - set(merged)):
            found.add(name, "is missing")
    return _rows_in(storage, merged, found), _rows_in(storage, unmerged, found)


def _rows_in(storage: Storage, names: Iterable[str], found: Findings) -> _Rows:
    rows: _Rows = {}
    for name in names:
        try:
            table = read_table(storage, name).select(["id", "label", "key", "region", "area"])
            found.checked += 1
        except (StoreError, KeyError) as error:
            found.add(name, _without(storage, error))
            found.unreadable_tables.add(name)
            continue
        for *key, region, area in zip(*(table[column].to_pylist() for column in table.column_names), strict=True):
            rows.setdefault((key[0], key[1], key[2]), []).append((region, area))
    return rows


def _left_over_rows(found: Findings, segmented: dict[Subject, Record], merged: _Rows) -> None:
    """Rows that no current result has taken; an interrupted run leaves those of what it was replacing."""
    if found.interrupted:
        return
    for identity, label, _ in merged:
        found.add(region_table_name(shard_of(identity)), f"{_named((identity, label))}: rows without a record")
        if (identity, label) in segmented:
            found.damaged.add((identity, label))


def _tables(storage: Storage, found: Findings, segmented: dict[Subject, Record]) -> None:
    """Compare tables, whose rows showed no fault, with their digests: any other value in them is found so."""
    faulty = {fault.path for fault in found.faults}
    for name in sorted(found.digests.keys() - faulty):
        if hashlib.sha256(storage.read(name)).hexdigest() != found.digests[name]:
            found.add(name, "its bytes are not those recorded")
            found.damaged |= {key for key in segmented if region_table_name(shard_of(key[0])) == name}


def _images(
    storage: Storage,
    found: Findings,
    segmented: dict[Subject, Record],
    outputs: dict[ResultKey, tuple[Output, ...]],
) -> None:
    """Compare the files of images, and the label maps that these list, with the records."""
    files = {output.path for key, record in segmented.items() for output in outputs.get((*key, record.key), ())}
    labels: dict[str, set[str]] = {}
    for identity, label in segmented:
        labels.setdefault(image_name(identity), set()).add(label)
    present: dict[str, set[str]] = {}
    for name in storage.files("images"):
        parts = re.fullmatch(r"(?P<image>images/../[^/]+\.ome\.zarr)/(?:labels/(?P<label>[^/]+)/)?.*", name)
        image = str(parts["image"]) if parts else name
        label = str(parts["label"] or "") if parts else ""
        if label and name.endswith(f"/labels/{label}/zarr.json"):
            present.setdefault(image, set()).add(label)
        if found.interrupted or name in files or name == f"{image}/labels/zarr.json":
            continue
        if image not in labels:
            found.notes.append(Fault(image, "not recorded"))
        else:
            unknown = label and label not in labels[image]
            found.notes.append(Fault(f"{image}/labels/{label}" if unknown else name, "not recorded"))
    found.notes = list(dict.fromkeys(found.notes))
    for image, expected in labels.items():
        problem = _list_problem(storage, image, expected, present.get(image, set()))
        if problem:
            found.add(f"{image}/labels/zarr.json", problem)
            found.damaged |= {key for key in segmented if image_name(key[0]) == image}


def _list_problem(storage: Storage, image: str, expected: set[str], present: set[str]) -> str:
    try:
        listed = set(json.loads(storage.read(f"{image}/labels/zarr.json"))["attributes"]["ome"]["labels"])
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({reason_of(error)})"
    if expected - listed:
        return f"does not list {', '.join(sorted(expected - listed))}"
    if listed - present - expected:
        return f"lists {', '.join(sorted(listed - present))}, which is not there"
    return ""


def _gallery(storage: Storage, found: Findings) -> None:
    """Check that the page is there with the data it names; a run that was interrupted has not written it yet."""
    if found.interrupted or not found.records:
        return
    try:
        page = storage.read(PAGE).decode("utf-8", "replace")
        found.checked += 1
    except FileNotFoundError:
        found.add(PAGE, "is missing")
        return
    named = re.search(r"data-([0-9a-f]{16})\.js", page)
    if not named:
        found.add(PAGE, "names no data")
        return
    name = f"gallery/{named[0]}"
    if not storage.exists(name):
        found.add(name, "is missing")
    elif hashlib.sha256(storage.read(name)).hexdigest()[:16] != named[1]:
        found.add(name, "its bytes are not those its name says")


def _named(key: Subject) -> str:
    return f"{key[0]} ({key[1]})"


def _without(storage: Storage, error: Exception) -> str:
    """Say an error without the place that its fault names already."""
    return re.sub(rf"^{re.escape(storage.url)}/[^:]*: ", "", reason_of(error))
