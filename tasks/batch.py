"""A batch on its way: Dask holds its images, Prefect's tasks hold only this handle."""

import uuid
from collections.abc import Callable
from typing import Any

from distributed import CancelledError, Client, Future, wait

from segmentation.errors import ClusterError
from segmentation.planning import Batch
from tasks.items import Job


class BatchHandle:
    """Names a batch and the Dask future of its latest step. Not a dataclass: Prefect must not look inside."""

    def __init__(self, client: Client, job: Job, batch: Batch, future: Future | None = None) -> None:
        self.client = client
        self.job = job
        self.batch = batch
        self.future = future

    @property
    def number(self) -> str:
        """The batch's number, for names of task runs."""
        return self.batch.number

    def then(self, step: Callable[..., Any], *arguments: object) -> "BatchHandle":
        """Run the next step on the cluster and wait for it; the pixels stay there.

        The step before is released when this one is done: Dask keeps its recipe, and computes it again should
        a worker die with the results.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        Exception
            Whatever the step raised for the whole batch, or `distributed.KilledWorker`.
        """
        upstream = self.batch.works if self.future is None else self.future
        name = f"{step.__name__}-{self.job.run}-{self.batch.number}-{uuid.uuid4().hex[:8]}"
        future = self.client.submit(step, upstream, self.job, *arguments, key=name, pure=False)
        try:
            wait(future)
            error = future.exception()
        except CancelledError as lost:  # Dask cancels what it cannot hear of any more
            raise ClusterError(
                f"lost the connection to the Dask scheduler {self.client.scheduler_info()['address']}"
            ) from lost
        if error is not None:
            future.release()  # so that nothing of a batch that failed stays on the cluster
            raise error
        self.release()
        return BatchHandle(self.client, self.job, self.batch, future)

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
