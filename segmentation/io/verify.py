"""Read a store again and say what is not as recorded."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segmentation.errors import StoreError
from segmentation.io.records import Subject, after_run, open_runs, read_records, read_table, records_of_run, subject
from segmentation.io.runs import was_interrupted
from segmentation.io.store import image_path
from segmentation.planning import Output, Record, State

#: (id, label, key): one result.
ResultKey = tuple[str, str, str]


@dataclass(frozen=True)
class Fault:
    """Something that is not as recorded."""

    path: str
    problem: str


def verify_store(root: Path) -> tuple[int, list[Fault]]:
    """Check every recorded file against its size and SHA-256, and everything else against the records.

    Returns
    -------
    checked, faults : int, list of Fault
        Number of files read, and what was found. Nothing is changed.

    Notes
    -----
    What an interrupted run leaves is no fault: region tables that are not merged yet, new results whose record was not
    written any more. Only where it was replacing results, those whose record is still the old one are not as recorded.
    The next run takes care of all of it.
    """
    try:
        records, interrupted = read_records(root), was_interrupted(root)
    except StoreError as error:
        return 0, [Fault("tables/index.parquet" if "index.parquet" in str(error) else "runs", str(error))]
    segmented = {key: record for key, record in records.items() if record.state is State.SEGMENTED}
    faults: list[Fault] = []
    committed, outputs = _committed(root, faults)
    outputs = {key: files for key, files in outputs.items() if key in {(*s, r.key) for s, r in segmented.items()}}
    faults += [
        *_index_rows(records, committed),
        *_unlisted(segmented, outputs),
        *_image_groups(root, segmented),
        *_region_rows(root, segmented, interrupted=interrupted),
        *([] if interrupted else _unrecorded_images(root, segmented)),
    ]
    checked: dict[str, Output] = {}
    for files in outputs.values():
        checked.update((output.path, output) for output in files)
    faults += [fault for output in checked.values() if (fault := _check(root, output)) is not None]
    return len(checked), sorted(faults, key=lambda fault: (fault.path, fault.problem))


def _committed(root: Path, faults: list[Fault]) -> tuple[dict[Subject, Record], dict[ResultKey, tuple[Output, ...]]]:
    """Read all commit records: the latest of every image and label, and the files of every result."""
    latest: dict[Subject, Record] = {}
    outputs: dict[ResultKey, tuple[Output, ...]] = {}
    for folder in sorted((root / "runs").glob("[0-9]*-*")):
        try:
            records = list(records_of_run(folder))
        except StoreError as error:
            faults.append(Fault(f"runs/{folder.name}", str(error)))
            continue
        latest = after_run(latest, records)
        outputs.update({(*subject(record), record.key): record.outputs for record in records if record.outputs})
    return latest, outputs


def _index_rows(records: dict[Subject, Record], committed: dict[Subject, Record]) -> Iterator[Fault]:
    for key in records.keys() | committed.keys():
        indexed, recorded = records.get(key), committed.get(key)
        name = f"{key[0]} ({key[1]})"
        if indexed is None:
            yield Fault("tables/index.parquet", f"{name}: no row, yet a commit record")
        elif recorded is None:
            yield Fault("tables/index.parquet", f"{name}: a row without a commit record")
        elif (indexed.key, indexed.state) != (recorded.key, recorded.state):
            yield Fault("tables/index.parquet", f"{name}: not as its commit record says")


def _unlisted(segmented: dict[Subject, Record], outputs: dict[ResultKey, tuple[Output, ...]]) -> Iterator[Fault]:
    for key, record in segmented.items():
        if (*key, record.key) not in outputs:
            yield Fault(f"runs/{record.run}", f"no commit record for {record.ref.display_name} ({record.label})")


def _image_groups(root: Path, segmented: dict[Subject, Record]) -> Iterator[Fault]:
    """Compare the label maps that are there, and those the images list, with the records."""
    labels: dict[str, set[str]] = {}
    for identity, label in segmented:
        labels.setdefault(identity, set()).add(label)
    for identity, expected in labels.items():
        path = image_path(root, identity) / "labels" / "zarr.json"
        try:
            listed = set(json.loads(path.read_bytes())["attributes"]["ome"]["labels"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Fault(path.relative_to(root).as_posix(), f"cannot be read ({error})")
            continue
        if not expected <= listed:
            yield Fault(path.relative_to(root).as_posix(), f"does not list {', '.join(sorted(expected - listed))}")


def _unrecorded_images(root: Path, segmented: dict[Subject, Record]) -> Iterator[Fault]:
    known = {identity for identity, _ in segmented}
    for path in sorted((root / "images").glob("??/*.ome.zarr")):
        if path.name.removesuffix(".ome.zarr") not in known:
            yield Fault(path.relative_to(root).as_posix(), "an image without a record")


def _region_rows(root: Path, segmented: dict[Subject, Record], *, interrupted: bool) -> Iterator[Fault]:
    """Hold the region tables, and those that are not merged yet, against the number of regions recorded."""
    faults: list[Fault] = []
    merged = _regions_in(root, sorted((root / "tables" / "regions").glob("*.parquet")), faults)
    own = _regions_in(root, [path for run in open_runs(root) for path in (run / "regions").glob("*.parquet")], faults)
    yield from faults
    for (identity, label), record in segmented.items():
        key = (identity, label, record.key)
        found = len(merged.pop(key, ())) or len(set(own.get(key, ())))  # a batch that ran twice left its rows twice
        if found != record.n_regions:
            yield Fault("tables/regions", f"{identity} ({label}): {found} rows, {record.n_regions} regions recorded")
    if not interrupted:
        for identity, label, _ in merged:
            yield Fault("tables/regions", f"{identity} ({label}): rows without a record")


def _regions_in(root: Path, paths: list[Path], faults: list[Fault]) -> dict[ResultKey, list[int]]:
    """Collect the numbers of the regions that tables have rows for."""
    regions: dict[ResultKey, list[int]] = {}
    for path in paths:
        try:
            table = read_table(path).select(["id", "label", "key", "region"])
        except StoreError as error:
            faults.append(Fault(path.relative_to(root).as_posix(), str(error)))
            continue
        for *key, region in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            regions.setdefault(tuple(key), []).append(region)
    return regions


def _check(root: Path, output: Output) -> Fault | None:
    try:
        data = (root / output.path).read_bytes()
    except FileNotFoundError:
        return Fault(output.path, "is missing")
    except OSError as error:
        return Fault(output.path, f"cannot be read ({error})")
    if len(data) != output.size:
        return Fault(output.path, f"has {len(data):,} bytes, {output.size:,} were recorded")
    if hashlib.sha256(data).hexdigest() != output.sha256:
        return Fault(output.path, "its bytes are not those recorded")
    return None
