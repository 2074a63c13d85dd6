"""What each step does to the images of a batch, on a worker.

Pure functions from a list of items to a list of items; Dask carries them from step to step. Workers import this
module and the library, never Prefect. An image that cannot go on becomes a record with step and reason; the others
do not notice.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from segmentation.arrays import Bools, Image, Labels
from segmentation.cluster import build_graph, cluster, grow_tree
from segmentation.contours import encode_picture, render_contours
from segmentation.cuts import MeasuredTree, cut_table, cut_tree, measure_tree
from segmentation.errors import ImageError, LimitError, ParameterError
from segmentation.hierarchy import RegionTree
from segmentation.io.notes import noted_of
from segmentation.io.pictures import PIXELS, Grid, Picture
from segmentation.io.reading import decode_image, decode_mask_of, read_image, read_mask
from segmentation.io.records import commit_batch, shard_of, withdraw
from segmentation.io.slider import slider_script
from segmentation.io.storage import Storage, open_storage
from segmentation.io.store import Entry, Pixels, make_preview, replaced_by, write_entry
from segmentation.io.trees import picture_of, read_tree
from segmentation.io.zarr_images import MissingChunks
from segmentation.params import Recipe
from segmentation.pipeline import Working, finish, prepare
from segmentation.planning import MAX_PIXELS, PLAN_STEP, Record, State, Work, display, label_for, label_key
from segmentation.prepare import check_image, without_no_data
from segmentation.reasons import reason_of
from segmentation.regions import region_table

_REASON_CHARACTERS = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What all images of a run share: where results go, under which label, made how."""

    root: str
    run: str
    label: str
    recipe: Recipe
    pixels: Pixels = "preview"
    max_pixels: int = MAX_PIXELS
    missing_chunks: MissingChunks = "fill"
    lock: str = ""  # the token of the run's hold on the store

    def label_of(self, work: Work) -> str:
        """Name the label maps of a work."""
        return label_for(self.label, work.regions)

    def recipe_of(self, work: Work) -> Recipe:
        """Say how a work is computed."""
        recipe = self.recipe if work.stored is None else work.stored.recipe
        return recipe.with_regions(work.regions) if work.regions else recipe


@dataclass(frozen=True)
class Item:
    """An image on its way through the steps; what a later step no longer needs is dropped."""

    work: Work
    data: bytes | Picture = b""
    mask_data: bytes = b""
    digest: str = ""
    mask_digest: str = ""
    key: str = ""
    image: Image | None = None
    mask: Bools | None = None
    grid: Grid = PIXELS
    working: Working | None = None
    graph: Any = None
    tree: Any = None
    labels: Labels | None = None
    scores: dict[str, float] = field(default_factory=dict)
    picture: bytes = b""
    picture_suffix: str = ""
    slider: bytes = b""
    table: dict[str, Any] = field(default_factory=dict)
    entry: Entry | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    seconds: dict[str, float] = field(default_factory=dict)
    state: State | None = None  # None: still on its way
    step: str = ""
    reason: str = ""


def load_items(works: Sequence[Work], job: Job) -> list[Item]:
    """Read the bytes once, hash them, decode them; of a work that cuts a stored tree, read that."""
    items = [Item(work, key=label_key("", "", job.recipe_of(work))) for work in works]
    found: tuple[str, ...] = ("data", "mask_data", "digest", "mask_digest")
    items = _once_an_image("load", items, lambda item: _read(item, job), found)
    items = _each("load", items, lambda item: _recognise(item, job.recipe_of(item.work)))
    found = ("image", "mask", "grid", "shape", "data", "mask_data", "tree")
    return _once_an_image("load", items, lambda item: _decode(item, job), found)


def prepare_items(items: Sequence[Item], job: Job) -> list[Item]:
    """Smooth and rescale."""
    return _once_an_image("smooth_and_rescale", items, lambda item: _prepare(item, job.recipe), ("working",))


def graph_items(items: Sequence[Item], job: Job) -> list[Item]:
    """Build the graph that the method works on, if it works on one."""
    return _once_an_image("build_graph", items, lambda item: _graph(item, job.recipe), ("graph",))


def cluster_items(items: Sequence[Item], job: Job) -> list[Item]:
    """Cluster on the working grid and bring the labels to the original resolution."""
    items = _once_an_image("cluster", items, lambda item: _grow(item, job.recipe), ("tree",))
    return _each("cluster", items, lambda item: _cluster(item, job.recipe_of(item.work)))


def contour_items(items: Sequence[Item], job: Job) -> list[Item]:
    """Draw every region's outline over the original image."""
    return _each("render_contours", items, lambda item: _contours(item, job))


def store_items(items: Sequence[Item], job: Job, batch: str) -> list[Record]:
    """Store what was segmented, then commit the batch's records; return them without their lists of files.

    Earlier results that are replaced are withdrawn before the first of their files changes.

    Raises
    ------
    OSError
        The store cannot take it (no space, read-only): no record of this batch is then written.
    StoreLockedError
        Another run has taken the store over from this one.
    """
    storage = open_storage(job.root)
    storage.confirm_lock(job.lock)
    done = [item for item in items if item.labels is not None]
    subjects = [(item.work.ref.id, job.label_of(item.work), item.digest) for item in done]
    replaced = {found for subject in subjects if (found := replaced_by(storage, *subject)) is not None}
    if replaced:
        withdraw(storage, job.run, batch, replaced)
    stored = [_store(storage, item, job, batch) for item in items]
    storage.sync()
    storage.confirm_lock(job.lock)
    tables = [table for _, table in stored if table is not None]
    records = [record for record, _ in stored]
    commit_batch(storage, job.run, batch, records, pa.concat_tables(tables) if tables else None)
    return [replace(record, outputs=()) for record in records]


def _each(step: str, items: Sequence[Item], do: Callable[[Item], Item]) -> list[Item]:
    return [item if item.state is not None else _attempt(step, item, do) for item in items]


def _once_an_image(step: str, items: Sequence[Item], do: Callable[[Item], Item], found: Sequence[str]) -> list[Item]:
    """Do a step to the first of the items that are about one image, and hand what it found on to the others."""
    done: list[Item] = []
    first: Item | None = None
    for item in items:
        if item.state is not None:
            done.append(item)
        elif first is not None and first.work.ref == item.work.ref:
            done.append(_like(item, first, step, found))
        else:
            first = _attempt(step, item, do)
            done.append(first)
    return done


def _like(item: Item, first: Item, step: str, found: Sequence[str]) -> Item:
    item = replace(item, **{name: getattr(first, name) for name in found})
    item = replace(item, seconds={**item.seconds, step: item.seconds.get(step, 0.0)})
    return item if first.state is None else _ended(item, first.state, first.step, first.reason)


def _attempt(step: str, item: Item, do: Callable[[Item], Item]) -> Item:
    """Do a step to one image; whatever goes wrong ends this image only."""
    started = time.perf_counter()
    try:
        with noted_of(item.work.ref.display_name):
            item = do(item)
    except LimitError as error:
        item = _ended(item, State.REJECTED, PLAN_STEP, str(error))
    except (ImageError, ParameterError) as error:
        if error.__cause__ is not None:
            log.info("%s of %s: %s, after %r", step, item.work.ref.display_name, error, error.__cause__)
        item = _ended(item, State.REJECTED, step, str(error))
    except Exception as error:  # one image's trouble, foreseen or not, is a record
        _raise_if_out_of_memory(error)
        log.warning("%s of %s failed", step, item.work.ref.display_name, exc_info=True)
        item = _ended(item, State.FAILED, step, reason_of(error))
    spent = item.seconds.get(step, 0.0) + time.perf_counter() - started
    return replace(item, seconds={**item.seconds, step: spent})


def _raise_if_out_of_memory(error: Exception) -> None:
    """Let the batch be split where a worker's memory is at its limit, which other images fill too."""
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        raise MemoryError(str(error)) from error


def _ended(item: Item, state: State, step: str, reason: str) -> Item:
    light = Item(item.work, digest=item.digest, mask_digest=item.mask_digest, key=item.key, shape=item.shape)
    # A reason may quote the file, or its name, in any bytes.
    reason = display(" ".join(reason.split()))[:_REASON_CHARACTERS]
    return replace(light, seconds=item.seconds, state=state, step=step, reason=reason)


def _read(item: Item, job: Job) -> Item:
    ref, stored = item.work.ref, item.work.stored
    if stored is not None:
        return replace(item, digest=stored.digest, mask_digest=stored.mask_digest)
    if ref.problem:
        raise ImageError(ref.problem)
    data, digest = read_image(ref, max_pixels=job.max_pixels, missing_chunks=job.missing_chunks)
    mask_data, mask_digest = read_mask(ref, max_pixels=job.max_pixels)
    return replace(item, data=data, mask_data=mask_data, digest=digest, mask_digest=mask_digest)


def _recognise(item: Item, recipe: Recipe) -> Item:
    item = replace(item, key=label_key(item.digest, item.mask_digest, recipe))
    previous = item.work.previous
    if previous is not None and previous.state is State.SEGMENTED and previous.key == item.key:
        return _ended(item, State.SEGMENTED, "load", "")  # touched, not changed
    return item


def _decode(item: Item, job: Job) -> Item:
    ref = item.work.ref
    if item.work.stored is not None:
        tree = read_tree(job.root, ref.id, item.work.stored.label)
        shape = (*tree.tree.base.shape, tree.sums.shape[1])
        return replace(item, tree=tree, image=picture_of(job.root, ref.id, tree), shape=shape)
    picture = decode_image(ref, item.data, max_pixels=job.max_pixels)
    image, mask = picture.pixels, decode_mask_of(ref, item.mask_data, max_pixels=job.max_pixels)
    if picture.valid is not None:
        image, mask = without_no_data(image, picture.valid, mask)
    image, mask = check_image(image, mask)
    shape = (image.shape[0], image.shape[1], image.shape[2] if image.ndim == 3 else 1)
    return replace(item, data=b"", mask_data=b"", image=image, mask=mask, grid=picture.grid, shape=shape)


def _prepare(item: Item, recipe: Recipe) -> Item:
    if isinstance(item.tree, MeasuredTree):
        return item
    assert item.image is not None
    return replace(item, working=prepare(item.image, recipe, item.mask))


def _graph(item: Item, recipe: Recipe) -> Item:
    if isinstance(item.tree, MeasuredTree):
        return item
    assert item.working is not None
    return replace(item, graph=build_graph(item.working.image, item.working.mask, recipe.method))


def _grow(item: Item, recipe: Recipe) -> Item:
    if isinstance(item.tree, MeasuredTree):
        return item
    assert item.working is not None
    assert item.image is not None
    tree = grow_tree(item.working.image, item.working.mask, item.graph, recipe.method)
    if isinstance(tree, RegionTree):
        return replace(item, tree=measure_tree(tree, item.image, recipe, item.mask))
    return replace(item, tree=tree)


def _cluster(item: Item, recipe: Recipe) -> Item:
    if isinstance(item.tree, MeasuredTree):
        labels, scores = cut_tree(item.tree, recipe)
        return replace(item, labels=labels, scores=scores)
    assert item.working is not None
    assert item.image is not None
    working = item.working
    labels, scores = cluster(working.image, working.mask, item.graph, recipe.method, recipe.seed, tree=item.tree)
    labels = finish(labels, item.image, recipe, item.mask)
    return replace(item, graph=None, tree=None, labels=labels, scores=scores)


def _contours(item: Item, job: Job) -> Item:
    assert item.image is not None
    assert item.labels is not None
    picture, suffix = encode_picture(render_contours(item.image, item.labels))
    slider = b""
    if isinstance(item.tree, MeasuredTree):
        name = f"{item.work.ref.id}/{job.label_of(item.work)}"
        slider = slider_script(name, item.image, item.tree.tree, int(item.scores["n_regions"]))
    return replace(item, picture=picture, picture_suffix=suffix, slider=slider)


def _store(storage: Storage, item: Item, job: Job, batch: str) -> tuple[Record, pa.Table | None]:
    if item.labels is not None:
        item = _attempt("store", item, lambda item: _measure(item, job))
    if item.entry is None:
        return _record_without_labels(item, job, batch), None
    started = time.perf_counter()
    try:
        outputs, contour = write_entry(storage, item.entry)
    except RuntimeError as error:
        _raise_if_out_of_memory(error)
        raise
    seconds = {**item.seconds, "store": item.seconds["store"] + time.perf_counter() - started}
    record = replace(_record(item, job, batch), outputs=tuple(outputs), contour=contour, seconds=seconds)
    return replace(record, n_regions=len(item.table["label"]), scores=item.scores), _region_rows(item, job)


def _measure(item: Item, job: Job) -> Item:
    """Measure the regions and gather what is stored: all that can go wrong with one image only."""
    assert item.image is not None
    assert item.labels is not None
    tree = item.tree if isinstance(item.tree, MeasuredTree) else None
    table = region_table(item.labels, item.image) if tree is None else cut_table(tree, item.labels)
    areas = dict(zip(table["label"].tolist(), table["area"].tolist(), strict=True))
    return replace(item, table=table, entry=_entry(item, job, areas))


def _entry(item: Item, job: Job, areas: dict[int, int]) -> Entry:
    assert item.image is not None
    assert item.labels is not None
    ref = item.work.ref
    return Entry(
        id=ref.id,
        source=ref.display_name,
        digest=item.digest,
        source_bytes=ref.size,
        label=job.label_of(item.work),
        key=item.key,
        recipe=job.recipe_of(item.work),
        labels=item.labels,
        grid=item.grid,
        areas=areas,
        scores=item.scores,
        preview=None if item.working is None else make_preview(item.image, item.working.image, job.pixels),
        picture=item.picture,
        picture_suffix=item.picture_suffix,
        tree=item.tree if isinstance(item.tree, MeasuredTree) else None,
        slider=item.slider,
    )


def _record(item: Item, job: Job, batch: str) -> Record:
    previous = item.work.previous
    again = previous is not None and previous.key == item.key and previous.state is State.FAILED
    height, width, channels = item.shape
    return Record(
        ref=item.work.ref,
        label=job.label_of(item.work),
        state=item.state or State.SEGMENTED,
        key=item.key,
        digest=item.digest,
        mask_digest=item.mask_digest,
        step=item.step,
        reason=item.reason,
        height=height,
        width=width,
        channels=channels,
        seconds=item.seconds,
        attempts=previous.attempts + 1 if again and previous is not None else 1,
        run=job.run,
        batch=batch,
    )


def _record_without_labels(item: Item, job: Job, batch: str) -> Record:
    previous = item.work.previous
    if item.state is State.SEGMENTED and previous is not None:  # as it was, seen at its new time
        return replace(previous, ref=item.work.ref)
    return _record(item, job, batch)


def _region_rows(item: Item, job: Job) -> pa.Table:
    ref = item.work.ref
    label = job.label_of(item.work)
    names = {"shard": shard_of(ref.id), "source": ref.display_name, "id": ref.id, "label": label, "key": item.key}
    columns = {"region" if name == "label" else name: values for name, values in item.table.items()}
    repeated = {name: pa.array([value] * len(item.table["label"]), pa.string()) for name, value in names.items()}
    return pa.table({**repeated, **{name: pa.array(values) for name, values in columns.items()}})
