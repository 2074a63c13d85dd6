"""A batch on its way: Dask holds its images, Prefect's tasks hold only this handle."""

import uuid
from collections.abc import Callable
from typing import Any

from distributed import CancelledError, Client, Future, wait

from segmentation.errors import ClusterError
from segmentation.planning import Batch
from tasks.items import Job

_LOOK_EVERY_S = 2


class WorkerLostError(RuntimeError):
    """The worker that computed a batch is gone, with all that it held of it."""


class BatchHandle:
    """Names a batch and the Dask future of its latest step. Not a dataclass: Prefect must not look inside."""

    def __init__(self, client: Client, job: Job, batch: Batch, worker: str, future: Future | None = None) -> None:
        self.client = client
        self.job = job
        self.batch = batch
        self.worker = worker  # address of the worker whose memory is planned for it
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
        WorkerLostError
            The worker is.
        Exception
            Whatever the step raised for the whole batch.
        """
        upstream = self.batch.works if self.future is None else self.future
        name = f"{step.__name__}-{self.job.run}-{self.batch.number}-{uuid.uuid4().hex[:8]}"
        future = self.client.submit(step, upstream, self.job, *arguments, key=name, pure=False, workers=[self.worker])
        try:
            self._wait(future)
            error = future.exception()
        except WorkerLostError:
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
        return BatchHandle(self.client, self.job, self.batch, self.worker, future)

    def _wait(self, future: Future) -> None:
        """Wait as long as the worker is there: tasks that must run on it, Dask would keep for its return for ever."""
        while True:
            try:
                wait(future, timeout=_LOOK_EVERY_S)
            except TimeoutError:
                if self.worker not in self.client.nthreads():
                    raise WorkerLostError(f"worker {self.worker} died") from None
            else:
                return

    def collect(self) -> Any:
        """Fetch the result of the last step, which is small, and let the cluster forget the batch."""
        assert self.future is not None
        result = self.future.result()
        self.release()
        return result

    def release(self) -> None:
        """Let the cluster drop what this handle holds."""
        if self.future is not None:
            self.future.release()
            self.future = None
