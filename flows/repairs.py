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
        making = making_of(storage, record)
        work = _work(storage, findings, record, labels, making, there.get(key[0]))
        if isinstance(work, str) or making is None:
            repairs.hopeless[key] = str(work)
            continue
        made = replace(job, label=record.label, recipe=making.recipe, pixels=making.pixels)
        is_later = record.run != min(each.run for each in labels)
        name = (is_later, record.label, making.recipe.canonical(), making.pixels)
        groups.setdefault(name, (made, []))[1].append(work)
    repairs.before = [group for (is_later, *_), group in groups.items() if not is_later]
    repairs.after = [group for (is_later, *_), group in groups.items() if is_later]
    return repairs


def _work(
    storage: Storage,
    findings: Findings,
    record: Record,
    labels: Iterable[Record],
    making: Making | None,
    ref: ImageRef | None,
) -> Work | str:
    """Compute a damaged label from its image or, where that is gone, from a stored tree; or say why neither works."""
    if ref is None:
        tree = tree_for(storage, findings, record, labels, making)
        header = Header(record.height, record.width, record.channels, 1)
        return tree if isinstance(tree, str) else Work(record.ref, header=header, stored=tree)
    if not same_stamp(ref, record.ref):
        return "its image has changed since; run again with its parameters"
    if making is None:
        return "how it was made is not known any more; run again with its parameters"
    return Work(ref)
