"""Where and how a run executes: never what the labels are."""

import os
import re
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from segmentation.io.zarr_images import MissingChunks
from segmentation.params import Params
from segmentation.planning import MAX_PIXELS
from tasks.worker_setup import ALLOCATED_SHARE

MIB = 2**20
#: Part of the machine's memory that all workers together may take.
_MEMORY_SHARE = 0.75
#: With less, a worker would have no room beside Python and its libraries.
MIN_WORKER_MB = 512
#: What is left free for one worker of those that are started by default.
_COMFORTABLE_WORKER_BYTES = 2**30
#: What Python and its libraries take of a worker before the first image, measured and rounded up.
_WORKER_BASE_BYTES = 300 * MIB


class Execution(Params):
    """Where a run executes, and on how much."""

    workers: int = Field(
        default=0, ge=0, description="Worker processes on this machine; 0 is one per core, if memory allows."
    )
    scheduler: str = Field(
        default="",
        pattern=r"^$|^(tcp|tls)://\S+:\d+$",
        description="Address of a running Dask scheduler, instead of workers here; tcp:// on this machine only.",
    )
    memory: str = Field(
        default="",
        pattern=r"^$|^\d+(\.\d+)?\s*[KMGT]i?B$",
        description="Memory of one worker, such as 2GB or 1500MiB; empty is its part of the machine's.",
    )
    timeout_minutes: float = Field(
        default=120,
        gt=0,
        allow_inf_nan=False,
        description="Minutes that a step of one batch may take: then its worker is ended, and its images tried singly.",
    )
    batches_in_flight: int = Field(
        default=0, ge=0, description="Batches on their way at once, at most; 0 is what memory is planned for."
    )

    @field_validator("scheduler")
    @classmethod
    def _encrypted(cls, scheduler: str) -> str:
        host = urlsplit(scheduler).hostname or ""
        if scheduler.startswith("tcp://") and host != "localhost" and not _is_loopback(host):
            raise ValueError(
                "whoever reaches a Dask cluster, or listens on the way, runs any code on it: off this machine use "
                "tls://… (docs/operations.md), or an SSH tunnel to 127.0.0.1"
            )
        return scheduler

    @field_validator("memory")
    @classmethod
    def _enough(cls, memory: str) -> str:
        if memory and parse_bytes(memory) < MIN_WORKER_MB * MIB:
            raise ValueError(f"a worker needs at least {MIN_WORKER_MB} MiB")
        return memory

    def n_workers(self) -> int:
        """Return the number of worker processes on this machine: one per core, if memory allows."""
        cores = len(os.sched_getaffinity(0))
        each = parse_bytes(self.memory) if self.memory else _COMFORTABLE_WORKER_BYTES
        return self.workers or max(1, min(cores, int(_machine_bytes() * _MEMORY_SHARE) // each))

    def worker_bytes(self) -> int:
        """Return the memory of one worker, in bytes."""
        if self.memory:
            return parse_bytes(self.memory)
        return max(MIN_WORKER_MB * MIB, int(_machine_bytes() * _MEMORY_SHARE / self.n_workers()))


class Settings(Execution):
    """How a run executes."""

    pixels: Literal["preview", "full", "none"] = Field(
        default="preview", description="What is stored of the image itself."
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="Pixels of an image, at most; larger ones are rejected, unread."
    )
    missing_chunks: MissingChunks = Field(
        default="fill",
        description="fill: chunks that an OME-Zarr image does not have hold its fill value, as Zarr says; refuse: such "
        "images are rejected.",
    )
    limit: int = Field(default=0, ge=0, description="Look at the first N images only; 0 is all.")
    retry_failed: bool = Field(default=False, description="Try rejected and failed images again.")
    repair: bool = Field(
        default=False, description="Verify the store first, and compute again what of it is damaged or missing."
    )
    verify_sources: bool = Field(default=False, description="Hash every image again, even if it looks unchanged.")


def image_bytes(worker_bytes: int) -> int:
    """Return the memory that images may take on a worker, in bytes.

    Examples
    --------
    >>> image_bytes(2 * 2**30) // 2**20
    1543
    """
    return int(worker_bytes * ALLOCATED_SHARE) - _WORKER_BASE_BYTES


def parse_bytes(text: str) -> int:
    """Read a number of bytes with its unit; GB and GiB are powers of 1000 and of 1024.

    Examples
    --------
    >>> parse_bytes("1.5GiB"), parse_bytes("2 GB")
    (1610612736, 2000000000)
    """
    number, prefix, binary = re.fullmatch(r"([\d.]+)\s*([KMGT])(i?)B", text).groups()  # type: ignore[union-attr]
    return int(float(number) * (1024 if binary else 1000) ** (" KMGT".index(prefix)))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _machine_bytes() -> int:
    """Return the memory of this machine, or of the container that this process is in."""
    from distributed.system import memory_limit

    return int(memory_limit())


#: What Prefect and Dask are told before they are imported, unless the user has said otherwise.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "DO_NOT_TRACK": "1",
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "PYTHONWARNINGS": "ignore:resource_tracker",  # said on the terminal when a worker has died
    "PYTHONSAFEPATH": "1",  # processes started from here import nothing from the current folder
}


def configure_prefect() -> None:
    """Prepare the machine and set `PREFECT_DEFAULTS` in the environment; before anything imports Prefect.

    While `regionflow serve` is up on this machine, runs report to its server, unless the user has named another one.
    """
    from flows.machine import prepare_machine
    from flows.server import Home, default_home, has_prefect_server, live_server

    prepare_machine()
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not has_prefect_server():
        os.environ.update(live_server(Home(default_home())))
