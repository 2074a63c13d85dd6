"""The Dask cluster of a run: worker processes on this machine, or one that runs already."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask
from distributed import Client, LocalCluster

from flows.machine import check_open_files
from flows.settings import Settings
from segmentation.errors import ClusterError, ParameterError
from segmentation.reasons import reason_of
from tasks.environment import differences, environment

CONNECT_TIMEOUT_S = 30

#: Measured: with these a scheduler's memory stays flat.
_CONFIG = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,  # a batch stays on the worker whose memory is planned for it
    # Dask gives up a local worker for good that is not back after 15 seconds, or that has died again just then.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.admin.low-level-log-length": 50,
    "distributed.diagnostics.computations.max-history": 5,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # Arrow's own allocator sets a gigabyte of addresses aside, which would count against a worker's limit.
    "distributed.nanny.pre-spawn-environ.ARROW_DEFAULT_MEMORY_POOL": "system",
    # Dask has every worker hand each free page back at once: getting it again for the next array took a third of all
    # CPU time. These keep up to 64 MiB.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 64 * 2**20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
}


@contextmanager
def cluster_for(settings: Settings) -> Iterator[Client]:
    """Connect to `settings.scheduler`, or start workers on this machine that end with the block.

    Local workers listen on the loopback interface only. One thread each: most steps hold Python's lock, and
    labels must not depend on the number of threads.

    Raises
    ------
    ClusterError
        Workers do not start here; or the scheduler does not answer, has no worker, or has one that runs other code or
        versions than this process.
    """
    with dask.config.set(_CONFIG):
        if settings.scheduler:
            with _connected(settings.scheduler) as client:
                _check_workers(client)
                yield client
            return
        with _local_cluster(settings) as cluster, Client(cluster) as client:
            yield client


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        raise ClusterError(f"--scheduler: {scheduler} does not answer within {CONNECT_TIMEOUT_S} seconds") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
        except TimeoutError as error:
            raise ClusterError(
                f"--scheduler: {scheduler} has no worker within {CONNECT_TIMEOUT_S} seconds; start some"
            ) from error
        yield client


def _local_cluster(settings: Settings) -> LocalCluster:
    check_open_files(settings.n_workers())
    try:
        return LocalCluster(
            n_workers=settings.n_workers(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=settings.worker_bytes(),
            silence_logs=logging.CRITICAL,
            preload=["tasks.worker_setup"],
        )
    except RuntimeError as error:
        raise ClusterError(f"the workers did not start ({reason_of(error.__cause__ or error)})") from error


def check_certificates(settings: Settings) -> None:
    """Refuse an encrypted connection that could only fail.

    Raises
    ------
    ParameterError
        The scheduler wants TLS, and Dask's configuration names no certificates.
    """
    names = ("ca-file", "client.cert", "client.key")
    missing = [name for name in names if not dask.config.get(f"distributed.comm.tls.{name}", default=None)]
    if settings.scheduler.startswith("tls://") and missing:
        raise ParameterError(
            f"--scheduler: {settings.scheduler} needs certificates; set distributed.comm.tls.{missing[0]} "
            f"in Dask's configuration (docs/operations.md shows how)"
        )


def _check_workers(client: Client) -> None:
    """Refuse workers whose labels might differ from those computed here."""
    here = environment()
    for address, there in client.run(environment, on_error="return").items():
        if isinstance(there, Exception):
            raise ClusterError(
                f"worker {address} cannot run regionflow ({reason_of(there)}); install the same version there"
            )
        unlike = differences(here, there)
        if unlike:
            raise ClusterError(
                f"worker {address} differs: {', '.join(unlike)}; install the same versions on all machines"
            )


@dataclass(frozen=True)
class Capacity:
    """What the workers of a cluster can take: together, and the smallest of them."""

    n_threads: int
    threads_per_worker: int
    worker_bytes: int


def capacity(client: Client, settings: Settings) -> Capacity:
    """Ask the workers how many threads they have, and how much memory.

    Raises
    ------
    ClusterError
        `settings.scheduler` has lost its workers.
    """
    if not settings.scheduler:  # as they were started: one may be restarting just now
        return Capacity(settings.n_workers(), 1, settings.worker_bytes())
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise ClusterError(f"{settings.scheduler} has no workers left; start some and run again")
    threads = [worker["nthreads"] for worker in workers]
    limits = [worker["memory_limit"] or settings.worker_bytes() for worker in workers]  # 0 is no limit
    return Capacity(sum(threads), max(threads), min(limits))
