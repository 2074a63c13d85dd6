"""What a store holds, read from its index."""

from collections.abc import Iterator
from typing import Any

from segmentation.io.export import LabelledImage
from segmentation.io.records import read_records, read_table, region_table_name, shard_of
from segmentation.io.runs import list_runs
from segmentation.io.storage import Location, Storage, open_storage
from segmentation.io.store import read_labels
from segmentation.planning import Record, State

_LAST_RUNS = 5


def summarise(root: Location) -> dict[str, Any]:
    """Return counts per label and state, the last runs, and every image that was refused, with the reason."""
    storage = open_storage(root)
    records = list(read_records(storage).values())
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        states = counts.setdefault(record.label, {state.value: 0 for state in State})
        states[record.state.value] += 1
    refused = [record for record in records if record.state is not State.SEGMENTED]
    return {
        "output": storage.url,
        "images": len({record.ref.id for record in records}),
        "labels": dict(sorted(counts.items())),
        "runs": list_runs(storage, _LAST_RUNS),
        "refused": [_refusal(record) for record in sorted(refused, key=lambda record: record.ref.raw_name)],
    }


def labelled_images(root: Location, label: str = "") -> Iterator[LabelledImage]:
    """Yield every segmented image with its label map and region table, ordered by name."""
    storage = open_storage(root)
    records = [record for record in read_records(storage).values() if record.state is State.SEGMENTED]
    for record in sorted(records, key=lambda record: (record.ref.raw_name, record.label)):
        if not label or record.label == label:
            yield LabelledImage(
                id=record.ref.id,
                source=record.ref.display_name,
                label=record.label,
                labels=read_labels(storage, record.ref.id, record.label),
                regions=_regions(storage, record),
            )


def _regions(storage: Storage, record: Record) -> dict[str, Any]:
    import pyarrow.compute as pc

    table = read_table(storage, region_table_name(shard_of(record.ref.id)))
    rows = table.filter(pc.and_(pc.equal(table["id"], record.ref.id), pc.equal(table["label"], record.label)))
    columns = [name for name in rows.column_names if name not in ("source", "id", "label", "key")]
    return {"label" if name == "region" else name: rows[name].to_numpy() for name in columns}


def _refusal(record: Record) -> dict[str, str]:
    return {
        "source": record.ref.display_name,
        "label": record.label,
        "state": record.state.value,
        "step": record.step,
        "reason": record.reason,
    }
