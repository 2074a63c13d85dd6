"""Mend a store after `examine`: what of it must go before damaged results are computed again, and what comes after."""

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from segmentation.errors import ParameterError, StoreError
from segmentation.io.records import (
    Subject,
    close_runs,
    mark_indexed,
    open_runs,
    replay_records,
    withdraw,
    write_tables,
)
from segmentation.io.runs import FORMAT, read_run, write_run
from segmentation.io.storage import Storage
from segmentation.io.store import Pixels, image_name
from segmentation.io.trees import read_tree
from segmentation.io.verify import Findings
from segmentation.params import Hierarchy, Recipe, parse, parse_recipe
from segmentation.planning import Record, StoredTree, has_tree, recipe_of


@dataclass(frozen=True)
class Making:
    """How a stored result was made."""

    recipe: Recipe
    pixels: Pixels


def making_of(storage: Storage, record: Record) -> Making | None:
    """Find out how a result was made: from its run's description, or from what stands beside its labels.

    Returns
    -------
    making : Making or None
        None if neither is left, or neither gives the recorded key.
    """
    description: dict[str, object] = {}
    with suppress(StoreError):
        description = read_run(storage, record.run)
    settings = description.get("settings")
    found = str(settings.get("pixels", "")) if isinstance(settings, dict) else ""
    pixels: Pixels = "full" if found == "full" else "none" if found == "none" else "preview"
    candidates = [description.get("recipe"), _beside(storage, record)]
    for candidate in candidates:
        with suppress(ParameterError):
            recipe = recipe_of(record, parse_recipe(candidate)) if isinstance(candidate, dict) else None
            if recipe is not None:
                return Making(recipe, pixels)
    return None


def _beside(storage: Storage, record: Record) -> object:
    try:
        attributes = json.loads(storage.read(f"{image_name(record.ref.id)}/labels/{record.label}/zarr.json"))
        return attributes["attributes"]["regionflow"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def tree_for(
    storage: Storage, findings: Findings, record: Record, siblings: Iterable[Record], making: Making
) -> StoredTree | str:
    """Find a tree that a damaged label can be cut from again, without its image.

    Parameters
    ----------
    record : Record
        Of the damaged label.
    siblings : iterable of Record
        Of all labels of its image, `record` among them.
    making : Making
        How the label was made, see `making_of`.

    Returns
    -------
    tree : StoredTree or str
        Or why there is none that can serve.

    Notes
    -----
    The tree of another label is taken before the label's own, which is replaced together with the label: where a
    crash may leave less than that (a bucket), the other is still there.
    """
    gone = "its image is not below SOURCE"
    if not has_tree(record):
        return gone
    if record.ref.id in findings.damaged_images:
        return f"{gone}, and what the store holds of it is damaged too"
    alike = [each for each in siblings if each is record or _grown_alike(storage, each, record, making)]
    for donor in sorted(alike, key=lambda each: (each is record, each.label)):
        if _is_whole(storage, donor):
            return StoredTree(donor.label, record.digest, record.mask_digest, making.recipe)
    labels = sorted(each.label for each in alike)
    trees = f"the tree of {labels[0]} is" if len(labels) == 1 else f"the trees of {', '.join(labels)} are"
    return f"{gone}, and {trees} damaged too"


def _grown_alike(storage: Storage, other: Record, record: Record, making: Making) -> bool:
    if not has_tree(other) or (other.digest, other.mask_digest) != (record.digest, record.mask_digest):
        return False
    made = making_of(storage, other)
    return made is not None and _growth(made.recipe) == _growth(making.recipe)


def _growth(recipe: Recipe) -> Recipe:
    """Return a recipe without what counts only when its tree is cut."""
    method = {**recipe.method.model_dump(), **Hierarchy().model_dump(include={"n_regions", "threshold"})}
    return parse(Recipe, {**dict(recipe), "min_region_size": 0, "method": method})


def _is_whole(storage: Storage, record: Record) -> bool:
    try:
        read_tree(storage, record.ref.id, record.label)
    except StoreError:
        return False
    return True


def make_way(storage: Storage, findings: Findings, images: Collection[str]) -> None:
    """Prepare for computing the images with these ids again, and give damaged descriptions of runs a readable end.

    An image whose own files are damaged loses its root metadata, so that it is replaced whole.
    """
    for run in sorted(findings.bad_runs):
        try:
            read_run(storage, run)
        except StoreError:
            write_run(
                storage, run, {"run": run, "format": FORMAT, "reason": "its description was damaged, and is lost"}
            )
    for identity in sorted(findings.damaged_images & set(images)):
        storage.delete(f"{image_name(identity)}/zarr.json")


def restore(storage: Storage, findings: Findings, run: str, lost: Collection[Subject]) -> dict[Subject, Record]:
    """Make index and region tables anew from the commit records, without the files that cannot be trusted.

    Results in `lost`, of which no record is left and which could not be computed again, are withdrawn. Safe to repeat
    after a crash at any point: the faults are found again. `close` ends it.
    """
    withdraw(storage, run, "repair", lost)
    for name in sorted(findings.bad_records):
        storage.delete(name)
    for marked in sorted({name.split("/")[1] for name in findings.bad_records} | findings.bad_runs):
        if storage.exists(f"runs/{marked}/indexed"):
            mark_indexed(storage, marked)
    for name in sorted(findings.unreadable_tables):
        storage.delete(name)
    records = replay_records(storage)
    write_tables(storage, records, open_runs(storage), all_shards=True)
    return records


def close(storage: Storage, run: str) -> None:
    """Mark all runs as held by the index; the mark of the repairing run knows every table."""
    close_runs(storage)
    mark_indexed(storage, run, [name for name in storage.files("tables") if name.endswith(".parquet")])
