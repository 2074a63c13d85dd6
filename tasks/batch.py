"""A batch on its way: Dask holds its images, Prefect's tasks hold only this handle."""

import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, wait

from segmentation.errors import ClusterError
from segmentation.planning import Batch
from tasks.items import Job

T = TypeVar("T")

_LOOK_EVERY_S = 2
_RESTART_S = 60


class WorkerLostError(RuntimeError):
    """The worker that computed a batch is gone, with all that it held of it."""


class StalledError(RuntimeError):
    """A step took longer than it may: its worker was ended."""


class BatchHandle:
    """Names a batch and the Dask future of its latest step. Not a dataclass: Prefect must not look inside."""

    def __init__(
        self, client: Client, job: Job, batch: Batch, worker: str, limit_s: float, future: Future | None = None
    ) -> None:
        self.client = client
        self.job = job
        self.batch = batch
        self.worker = worker  # address of the worker whose memory is planned for it
        self.limit_s = limit_s  # how long a step may take, its wait behind another batch included
        self.future = future

    @property
    def number(self) -> str:
        """The batch's number, for names of task runs."""
        return self.batch.number

    def then(self, step: Callable[..., Any], *arguments: object) -> "BatchHandle":
        """Run the next step on the cluster and wait for it; the pixels stay there.

        The step before is released when this one is done.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        WorkerLostError, StalledError
            The worker is; or it was ended, because it took too long.
        Exception
            Whatever the step raised for the whole batch.
        """
        upstream = self.batch.works if self.future is None else self.future
        name = f"{step.__name__}-{self.job.run}-{self.batch.number}-{uuid.uuid4().hex[:8]}"
        future = self.client.submit(step, upstream, self.job, *arguments, key=name, pure=False, workers=[self.worker])
        try:
            self._watched(lambda: wait(future, timeout=_LOOK_EVERY_S))
            error = future.exception()
        except (WorkerLostError, StalledError):
            future.release()
            raise
        except CancelledError as lost:  # Dask cancels what it cannot hear of any more
            raise ClusterError(
                f"lost the connection to the Dask scheduler {self.client.scheduler_info()['address']}"
            ) from lost
        if error is not None:
            future.release()  # so that nothing of a batch that failed stays on the cluster
            raise error
        self.release()
        return BatchHandle(self.client, self.job, self.batch, self.worker, self.limit_s, future)

    def _watched(self, look: Callable[[], T]) -> T:
        """Look until there is an answer, as long as the worker is there: Dask would wait for its return for ever."""
        until = time.monotonic() + self.limit_s
        while True:
            try:
                return look()
            except TimeoutError:
                if self.worker not in self.client.nthreads():
                    raise WorkerLostError(f"worker {self.worker} died") from None
            if time.monotonic() > until:
                restart_worker(self.client, self.worker)
                raise StalledError(f"no answer within {self.limit_s / 60:.0f} minutes")

    def collect(self) -> Any:
        """Fetch the result of the last step, which is small, and let the cluster forget the batch.

        Raises
        ------
        WorkerLostError
            The worker died with it.
        """
        future = self.future
        assert future is not None
        try:
            result = self._watched(lambda: future.result(timeout=_LOOK_EVERY_S))
        except (CancelledError, UnboundLocalError) as lost:  # the second: Dask's client returns what was cancelled
            raise WorkerLostError(f"worker {self.worker} died before its result was fetched") from lost
        self.release()
        return result

    def release(self) -> None:
        """Let the cluster drop what this handle holds."""
        if self.future is not None:
            self.future.release()
            self.future = None


def restart_worker(client: Client, worker: str) -> None:
    """Have a worker killed, which may hang in a read that nothing interrupts, and started anew.

    Raises
    ------
    ClusterError
        It has no nanny: nobody can.
    """
    _restart(client, [worker])


def restart_full(client: Client, worker: str) -> None:
    """Start a worker anew whose memory other images have filled; of a cluster of our own all, for any may be next.

    Raises
    ------
    ClusterError
        It has no nanny.
    """
    _restart(client, [worker] if client.cluster is None else list(client.nthreads()))


def _restart(client: Client, workers: list[str]) -> None:
    try:
        client.restart_workers(workers, timeout=_RESTART_S, raise_for_error=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"worker {', '.join(workers)} does not answer, and cannot be restarted") from error
