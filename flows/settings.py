"""Where and how a run executes: never what the labels are."""

import os
from typing import Literal

from pydantic import Field

from segmentation.params import Params
from segmentation.planning import MAX_PIXELS

#: Part of the machine's memory that all workers together may take.
_MEMORY_SHARE = 0.75
#: Part of a worker's memory that one batch may take by estimate: another one is on its way beside it.
_BATCH_SHARE = 0.3


class Settings(Params):
    """How a run executes."""

    workers: int = Field(default=0, ge=0, description="Worker processes on this machine; 0 is one per core.")
    scheduler: str = Field(
        default="",
        pattern=r"^$|^(tcp|tls)://\S+:\d+$",
        description="Address of a running Dask scheduler, instead of workers here.",
    )
    memory_mb: int = Field(default=0, ge=0, description="Memory of one worker in MiB; 0 is its part of the machine's.")
    batches_in_flight: int = Field(default=0, ge=0, description="Batches on their way at once; 0 is two per worker.")
    pixels: Literal["preview", "full", "none"] = Field(
        default="preview", description="What is stored of the image itself."
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="Pixels of an image, at most; larger ones are rejected, unread."
    )
    limit: int = Field(default=0, ge=0, description="Look at the first N images only; 0 is all.")
    retry_failed: bool = Field(default=False, description="Try rejected and failed images again.")
    verify_sources: bool = Field(default=False, description="Hash every image again, even if it looks unchanged.")

    def n_workers(self) -> int:
        """Return the number of worker processes on this machine."""
        return self.workers or len(os.sched_getaffinity(0))

    def worker_bytes(self) -> int:
        """Return the memory of one worker, in bytes."""
        if self.memory_mb:
            return self.memory_mb * 2**20
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(machine * _MEMORY_SHARE / self.n_workers())

    def batch_bytes(self, worker_bytes: int) -> int:
        """Return the memory that one batch may take on a worker, in bytes."""
        return int(worker_bytes * _BATCH_SHARE)


#: What Prefect and Dask are told before they are imported, unless the user has said otherwise.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "DO_NOT_TRACK": "1",
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "PYTHONSAFEPATH": "1",  # processes started from here import nothing from the current folder
}


def configure_prefect() -> None:
    """Set `PREFECT_DEFAULTS` in the environment; for the command, before anything imports Prefect.

    While `regionflow serve` is up on this machine, runs report to its server, unless the user has named another one.
    """
    from flows.server import Home, default_home, has_prefect_server, live_server

    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not has_prefect_server():
        os.environ.update(live_server(Home(default_home())))
