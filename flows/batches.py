"""Batches through the six tasks: a bounded number at once, each failing alone."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from distributed import Client, KilledWorker
from prefect import Task
from prefect.context import TagsContext
from prefect.futures import PrefectFuture

from segmentation.planning import Batch, Record, State, Work, label_key
from tasks.batch import BatchHandle
from tasks.items import Job
from tasks.steps import build_graph, cluster, load, render_contours, smooth_and_rescale, store

_CHAIN: tuple[Task[..., Any], ...] = (load, smooth_and_rescale, build_graph, cluster, render_contours, store)


@dataclass(frozen=True)
class Lost:
    """An image that no worker survives, and in which step."""

    batch: Batch
    step: str


def drive(client: Client, job: Job, batches: Iterable[Batch], *, in_flight: int) -> Iterator[list[Record] | Lost]:
    """Send batches through the chain, at most `in_flight` at once; yield what each came to, as it comes.

    A batch that kills its workers is split until single images are left. Such an image may have died with a
    worker that another one killed, so it is computed once more at the end, with nothing beside it. Only one that
    kills its worker then too is yielded as `Lost`.

    Raises
    ------
    Exception
        What a step raised for a whole batch: the store is full or gone, and the run cannot go on.
    """
    done: SimpleQueue[tuple[Batch, list[PrefectFuture[Any]]]] = SimpleQueue()
    again: deque[Batch] = deque()
    suspects: deque[Batch] = deque()
    fresh = iter(batches)
    running = 0
    while True:
        while running < in_flight and (batch := again.popleft() if again else next(fresh, None)) is not None:
            _submit(BatchHandle(client, job, batch), done)
            running += 1
        alone = not running
        if alone:
            if not suspects:
                return
            _submit(BatchHandle(client, job, suspects.popleft()), done)
            running = 1
        batch, chain = done.get()
        running -= 1
        error, step = _first_error(chain)
        if error is None:
            yield chain[-1].result()
        elif not isinstance(error, KilledWorker):
            raise error
        elif batch.n_images() > 1:
            again.extend(batch.halves())
        elif alone:
            yield Lost(batch, step)
        else:
            suspects.append(batch)


def lost_records(lost: Lost, job: Job) -> list[Record]:
    """Record an image that no worker survived, under each of its labels."""
    return [_lost_record(work, lost, job) for work in lost.batch.works]


def _lost_record(work: Work, lost: Lost, job: Job) -> Record:
    key = label_key("", "", job.recipe_of(work))
    again = work.previous is not None and work.previous.key == key
    return Record(
        ref=work.ref,
        label=job.label_of(work),
        state=State.FAILED,
        key=key,
        step=lost.step,
        reason="its worker process died while it was computed (out of memory, or killed)",
        attempts=work.previous.attempts + 1 if again and work.previous is not None else 1,
        run=job.run,
        batch=lost.batch.number,
    )


def _submit(handle: BatchHandle, done: "SimpleQueue[tuple[Batch, list[PrefectFuture[Any]]]]") -> None:
    batch = handle.batch
    chain: list[PrefectFuture[Any]] = []
    latest: Any = handle
    with TagsContext(current_tags=set()):  # task runs would take over the flow run's tags, at a request for each
        for step in _CHAIN:
            latest = step.submit(latest)
            chain.append(latest)
    chain[-1].add_done_callback(lambda _: done.put((batch, chain)))


def _first_error(chain: list[PrefectFuture[Any]]) -> tuple[BaseException | None, str]:
    """Find the step that broke a batch; the steps after it only say that they were not run."""
    for step, future in zip(_CHAIN, chain, strict=True):
        future.wait()  # it is done; only this makes Prefect look at the result instead of asking its API
        state = future.state
        if not state.is_completed():
            error = state.result(raise_on_failure=False)
            if not isinstance(error, BaseException):
                error = RuntimeError(f"{step.name}: {state.message}")
            return error, step.name
    return None, ""
