"""What a run with --repair computes beside what it is asked for: damaged results, each as it was made before."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from segmentation.io.records import Subject
from segmentation.io.repair import Making, making_of, tree_for
from segmentation.io.storage import Storage
from segmentation.io.verify import Findings
from segmentation.planning import Header, ImageRef, Record, Work, same_stamp
from tasks.items import Job


@dataclass
class Repairs:
    """Damaged results of labels that the run is not asked for, and those that cannot be computed again."""

    before: list[tuple[Job, list[Work]]] = field(default_factory=list)  # what first stored an image's picture
    after: list[tuple[Job, list[Work]]] = field(default_factory=list)
    hopeless: dict[Subject, str] = field(default_factory=dict)

    def count(self) -> int:
        """Count the results to compute."""
        return sum(len(works) for _, works in (*self.before, *self.after))

    def described(self) -> list[dict[str, str]]:
        """Return what cannot be computed again as plain values."""
        return [
            {"id": identity, "label": label, "reason": reason} for (identity, label), reason in self.hopeless.items()
        ]

    def images(self) -> set[str]:
        """Return the ids of the images to compute."""
        return {work.ref.id for _, works in (*self.before, *self.after) for work in works}


def plan_repairs(
    storage: Storage, findings: Findings, refs: Iterable[ImageRef], asked: Collection[Subject], job: Job
) -> Repairs:
    """Sort damaged results by how they were made; those in `asked` the run computes anyway.

    The picture of an image is that of its oldest label: should it be stored anew, then by this label.
    """
    repairs = Repairs()
    there = {ref.id: ref for ref in refs}
    siblings: dict[str, list[Record]] = {}
    for record in findings.records.values():
        siblings.setdefault(record.ref.id, []).append(record)
    groups: dict[tuple[bool, str, str, str], tuple[Job, list[Work]]] = {}
    for key in sorted(findings.damaged - set(asked)):
        record, labels = findings.records[key], siblings[key[0]]
        found = _found(storage, findings, record, labels, there.get(key[0]))
        if isinstance(found, str):
            repairs.hopeless[key] = found
            continue
        making, work = found
        made = replace(job, label=record.label, recipe=making.recipe, pixels=making.pixels)
        is_later = record.run != min(each.run for each in labels)
        name = (is_later, record.label, making.recipe.canonical(), making.pixels)
        groups.setdefault(name, (made, []))[1].append(work)
    repairs.before = [group for (is_later, *_), group in groups.items() if not is_later]
    repairs.after = [group for (is_later, *_), group in groups.items() if is_later]
    return repairs


def _found(
    storage: Storage, findings: Findings, record: Record, labels: Iterable[Record], ref: ImageRef | None
) -> tuple[Making, Work] | str:
    """Find how to make a damaged label again, of its image or, where that is gone, of a tree; or why it cannot be."""
    making = making_of(storage, record)
    if ref is not None and not same_stamp(ref, record.ref):
        return "its image has changed since; run again with its parameters"
    if making is None:
        unknown = "how it was made is not known any more"
        return f"{unknown}; run again with its parameters" if ref else f"its image is not below SOURCE, and {unknown}"
    if ref is not None:
        return making, Work(ref)
    tree = tree_for(storage, findings, record, labels, making)
    header = Header(record.height, record.width, record.channels, 1)
    return tree if isinstance(tree, str) else (making, Work(record.ref, header=header, stored=tree))
