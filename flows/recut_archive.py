"""The flow that cuts stored trees elsewhere: new label maps for a whole store, without its images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect import flow

from flows.archive import run_works
from flows.artifacts import shown_in_ui
from flows.fields import Cuts, Threshold, TreeLabel, TreeStore, check_full_paths
from flows.interrupts import listen
from flows.progress import observer
from flows.segment_archive import final_state
from flows.settings import Execution, Settings
from segmentation.errors import ParameterError
from segmentation.io.records import Subject, read_records
from segmentation.io.repair import Making, making_of
from segmentation.io.runs import read_run
from segmentation.io.storage import Storage, open_storage
from segmentation.params import Hierarchy, Recipe, RegionCount, parse
from segmentation.planning import Header, ImageRef, Record, State, StoredTree, Work, has_tree, label_key

DEFAULT_SETTINGS = Execution()
_LABEL = "hierarchy"


@flow(name="recut-archive", persist_result=False)
def recut_archive(
    output: TreeStore,
    regions: Cuts = (),
    threshold: Threshold = None,
    label: TreeLabel = "",
    settings: Execution = DEFAULT_SETTINGS,
) -> Any:
    """Cut the trees in `output` for other numbers of regions, or at a threshold.

    Parameters
    ----------
    output : str
        The store.
    regions : tuple of int or "auto"
        Numbers of regions: each gets label maps of its own, LABEL-NUMBER.
    threshold : float, optional
        How credible a border must be to stay, instead of numbers: LABEL-tTHRESHOLD.
    label : str
        The label maps whose trees are cut; "hierarchy" if empty.
    settings : Execution
        Where the run executes.

    Returns
    -------
    Completed
        With the `RunReport`; an image without a tree counts as rejected, with the reason.

    Raises
    ------
    ParameterError
        Wrong parameters, or no image has a tree under `label`; nothing was written.
    """
    listen()
    check_full_paths(output=output)
    if bool(regions) == (threshold is not None):
        raise ParameterError("give either --regions or --threshold: how many regions, or how credible their borders")
    observer().phase("looking for trees")
    storage = open_storage(output)
    storage.check()
    records = read_records(storage)
    label = label or _LABEL
    trees = [record for record in records.values() if record.label == label and has_tree(record)]
    if not trees:
        raise ParameterError(_no_trees(output, label, records.values()))
    makings = _makings(storage, trees, threshold)
    if not makings:
        raise ParameterError(f"--label: how the trees of {label!r} were grown is not known any more; segment again")
    numbers: Sequence[RegionCount] = tuple(dict.fromkeys(regions)) or (0,)
    works = [
        Work(ref, None, header, number, stored)
        for ref, header, stored in _cuttable(records, label, makings)
        for number in numbers
    ]
    making = next(iter(makings.values()))
    name = label if threshold is None else threshold_label(label, threshold)
    source = str(read_run(storage, trees[-1].run).get("source", ""))
    with shown_in_ui():
        complete = Settings(**{**dict(settings), "pixels": making.pixels})
        return final_state(run_works(works, source, output, making.recipe, name, complete))


def threshold_label(label: str, threshold: float) -> str:
    """Name the label maps of a threshold.

    Examples
    --------
    >>> threshold_label("hierarchy", 0.35), threshold_label("hierarchy", 1)
    ('hierarchy-t0_35', 'hierarchy-t1')
    """
    return f"{label}-t{threshold:g}".replace(".", "_").replace("+", "")


def _makings(storage: Storage, trees: Iterable[Record], threshold: float | None) -> dict[str, Making]:
    """Find out how each tree was grown, by the id of its image; the recipe is that of the cut to make."""
    known: dict[str, tuple[Making, Making]] = {}
    found = {}
    for record in trees:
        for grown, cut in known.values():
            if label_key(record.digest, record.mask_digest, grown.recipe) == record.key:
                found[record.ref.id] = cut
                break
        else:
            making = making_of(storage, record)
            if making is not None:
                cut = replace(making, recipe=_recut_recipe(making.recipe, threshold))
                known[making.recipe.canonical()] = making, cut
                found[record.ref.id] = cut
    return found


def _recut_recipe(recipe: Recipe, threshold: float | None) -> Recipe:
    assert isinstance(recipe.method, Hierarchy)
    method = {**recipe.method.model_dump(), "n_regions": "auto", "threshold": threshold}
    return parse(Recipe, {**dict(recipe), "method": method})


def _cuttable(
    records: Mapping[Subject, Record], label: str, makings: Mapping[str, Making]
) -> Iterable[tuple[ImageRef, Header | None, StoredTree | None]]:
    """Yield every image of the store with its tree; without one it has a problem, which says why."""
    for identity, any_record in {identity: record for (identity, _), record in records.items()}.items():
        record = records.get((identity, label))
        if record is not None and has_tree(record) and identity in makings:
            header = Header(record.height, record.width, record.channels, 1)
            making = makings[identity]
            yield record.ref, header, StoredTree(label, record.digest, record.mask_digest, making.recipe)
        else:
            yield replace(any_record.ref, problem=_why_no_tree(label, record)), None, None


def _why_no_tree(label: str, record: Record | None) -> str:
    if record is None:
        return f"has no tree to cut: it was not segmented as {label!r}"
    if record.state is not State.SEGMENTED:
        return f"has no tree to cut: as {label!r} it was {record.state.value} ({record.reason})"
    if has_tree(record):
        return f"has a tree as {label!r}, but how it was grown is not known any more; segment it again"
    return f"has no tree to cut: {label!r} was made with another method"


def _no_trees(output: str, label: str, records: Iterable[Record]) -> str:
    labels = sorted({record.label for record in records if has_tree(record)})
    others = f"there are some as {', '.join(labels)}" if labels else "make some: regionflow run … --method hierarchy"
    return f"--label: {output} holds no trees as {label!r}; {others}"
