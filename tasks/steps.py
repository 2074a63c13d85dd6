"""The six Prefect tasks. Each runs in a thread of the flow's process and drives one step of one batch on Dask."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State as TaskState
from prefect.client.schemas.objects import TaskRun

from segmentation.errors import SegmentationError
from segmentation.planning import Record
from tasks import items
from tasks.batch import BatchHandle

_RETRIES = 2
_RETRY_DELAYS_S = [1.0, 5.0]


def is_transient(task: Any, run: TaskRun, state: TaskState[Any]) -> bool:
    """Retry trouble with files and stores; a wrong argument or image stays wrong."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, SegmentationError)


@task(name="load", task_run_name="load {batch.number}", cache_policy=NO_CACHE, persist_result=False)
def load(batch: BatchHandle) -> BatchHandle:
    """Read and decode the images of a batch; what cannot be read leaves as a record."""
    return batch.then(items.load_items)


@task(
    name="smooth_and_rescale",
    task_run_name="smooth and rescale {batch.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def smooth_and_rescale(batch: BatchHandle) -> BatchHandle:
    """Smooth the images and bring them to the grid that is clustered."""
    return batch.then(items.prepare_items)


@task(name="build_graph", task_run_name="build graph {batch.number}", cache_policy=NO_CACHE, persist_result=False)
def build_graph(batch: BatchHandle) -> BatchHandle:
    """Connect neighbouring pixels, weighted by how alike they are."""
    return batch.then(items.graph_items)


@task(name="cluster", task_run_name="cluster {batch.number}", cache_policy=NO_CACHE, persist_result=False)
def cluster(batch: BatchHandle) -> BatchHandle:
    """Label every image; what cannot be labelled leaves as a record."""
    return batch.then(items.cluster_items)


@task(
    name="render_contours", task_run_name="render contours {batch.number}", cache_policy=NO_CACHE, persist_result=False
)
def render_contours(batch: BatchHandle) -> BatchHandle:
    """Outline every region over its image."""
    return batch.then(items.contour_items)


@task(
    name="store",
    task_run_name="store {batch.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=is_transient,
)
def store(batch: BatchHandle) -> list[Record]:
    """Write labels, pictures and tables; the batch counts once its records are in place."""
    stored = batch.then(items.store_items, batch.number)
    records: list[Record] = stored.collect()
    return records
