"""Batches through the six tasks: as many at once as workers have memory for, each failing alone."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from distributed import Client, KilledWorker
from prefect import Task
from prefect.context import TagsContext
from prefect.futures import PrefectFuture

from segmentation.errors import ClusterError
from segmentation.planning import Batch, Record, State, Work, label_key
from tasks.batch import BatchHandle, StalledError, WorkerLostError, restart_full
from tasks.items import Job
from tasks.steps import build_graph, cluster, load, render_contours, smooth_and_rescale, store

_DIED = "its worker process died while it was computed (out of memory, or killed)"
#: What a batch is split for, kinds that libraries derive from these included, and what is said of the image at the end.
_REASONS: dict[type[BaseException], str] = {
    WorkerLostError: _DIED,
    KilledWorker: _DIED,
    MemoryError: "needs more memory than one worker has; lower scale or n_regions, or give workers more --memory",
    StalledError: "took longer than --timeout allows (a file that cannot be read to its end, or too large a task)",
}
_CHAIN: tuple[Task[..., Any], ...] = (load, smooth_and_rescale, build_graph, cluster, render_contours, store)


_POLL_S = 0.2
#: A cluster without a worker for so long gets none any more.
_WORKERLESS_S = 600
#: Batches on their way at once for each thread of a worker: one is computed, one waits.
BATCHES_PER_THREAD = 2


@dataclass(frozen=True)
class Lost:
    """An image that no worker survives, has memory or time for; in which step, and what is said of it."""

    batch: Batch
    step: str
    reason: str


class Seats:
    """Which worker takes which batch: its memory is planned for two batches a thread, or for one large image."""

    def __init__(self, client: Client) -> None:
        """Begin with nobody on any worker."""
        self.client = client
        self.taken: Counter[str] = Counter()

    def take(self, batch: Batch) -> str | None:
        """Seat a batch on the emptiest worker; return its address, or None if no worker has room."""
        seats = {address: BATCHES_PER_THREAD * n for address, n in self.client.nthreads().items()}
        if not seats:
            return None
        address: str = max(seats, key=lambda name: seats[name] - self.taken[name])
        wanted = seats[address] if batch.whole_worker else 1
        if self.taken[address] + wanted > seats[address]:
            return None
        self.taken[address] += wanted
        return address

    def wait(self, batch: Batch) -> str:
        """Seat a batch while no other is on its way, as soon as there is a worker: all may be starting anew.

        Raises
        ------
        ClusterError
            None has come for minutes.
        """
        until = time.monotonic() + _WORKERLESS_S
        while (address := self.take(batch)) is None:
            if time.monotonic() > until:
                raise ClusterError(f"there has been no worker for {_WORKERLESS_S // 60} minutes")
            time.sleep(_POLL_S)
        return address

    def leave(self, batch: Batch, address: str) -> None:
        """Make room again."""
        self.taken[address] = 0 if batch.whole_worker else self.taken[address] - 1


def drive(
    client: Client, job: Job, batches: Iterable[Batch], *, in_flight: int, limit_s: float
) -> Iterator[list[Record] | Lost]:
    """Send batches through the chain, at most `in_flight` at once; yield what each came to, as it comes.

    A batch that kills its workers, or wants more memory than one has, is split until single images are left; at once,
    if a step of it took longer than `limit_s`. Such an image may have died with a worker that another one killed, so
    it is computed once more at the end, with nothing beside it. Only one that fails then too is yielded as `Lost`.

    Raises
    ------
    Exception
        What a step raised for a whole batch: the store is full or gone, and the run cannot go on.
    """
    done: SimpleQueue[tuple[BatchHandle, list[PrefectFuture[Any]]]] = SimpleQueue()
    waiting: deque[Batch] = deque()
    suspects: deque[tuple[Batch, bool]] = deque()  # with True, its worker had no memory left
    seats = Seats(client)
    fresh = iter(batches)
    running = 0
    is_filled = False  # by the image that was last tried alone
    while True:
        while running < in_flight and (batch := waiting.popleft() if waiting else next(fresh, None)) is not None:
            worker = seats.take(batch) if running else seats.wait(batch)
            if worker is None:
                waiting.appendleft(batch)
                break
            _submit(BatchHandle(client, job, batch, worker, limit_s), done)
            running += 1
        alone = not running
        if alone:
            if not suspects:
                return
            batch, was_full = suspects.popleft()
            batch = replace(batch, whole_worker=True)
            worker = seats.wait(batch)
            if was_full or is_filled:  # what other images have left behind must not count against this one
                seats.leave(batch, worker)
                restart_full(client, worker)
                worker = seats.wait(batch)
            _submit(BatchHandle(client, job, batch, worker, limit_s), done)
            running = 1
        handle, chain = done.get()
        batch = handle.batch
        running -= 1
        seats.leave(batch, handle.worker)
        error, step = _first_error(chain)
        is_filled = alone and isinstance(error, MemoryError)
        if error is None:
            yield chain[-1].result()
        elif not (reason := _reason(error)):
            raise error
        elif batch.n_images() > 1:
            waiting.extend(batch.images() if isinstance(error, StalledError) else batch.halves())
        elif alone:
            yield Lost(batch, step, reason)
        else:
            suspects.append((batch, isinstance(error, MemoryError)))


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
        reason=lost.reason,
        attempts=work.previous.attempts + 1 if again and work.previous is not None else 1,
        run=job.run,
        batch=lost.batch.number,
    )


def _submit(handle: BatchHandle, done: "SimpleQueue[tuple[BatchHandle, list[PrefectFuture[Any]]]]") -> None:
    chain: list[PrefectFuture[Any]] = []
    latest: Any = handle
    with TagsContext(current_tags=set()):  # task runs would take over the flow run's tags, at a request for each
        for step in _CHAIN:
            latest = step.submit(latest)
            chain.append(latest)
    chain[-1].add_done_callback(lambda _: done.put((handle, chain)))


def _reason(error: BaseException) -> str:
    """Say why an image is lost to an error that costs no other; empty for one that the run cannot go on after."""
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "")


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
