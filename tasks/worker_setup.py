"""Loaded by worker processes on this machine when they start."""

import importlib
import os
import resource
import threading
from pathlib import Path

from segmentation.io.notes import log_worker

#: Part of a worker's memory that it may allocate; the rest is for what grows unseen (threads, the kernel's tables).
ALLOCATED_SHARE = 0.9
_STACK_BYTES = 2 * 2**20
#: What the steps import on first use: its memory is there before the limit is set.
_USED_LATER = ("tasks.items", "numba", "pyarrow.parquet", "zarr", "tifffile", "imagecodecs", "PIL.Image")


def dask_setup(worker: object) -> None:
    """Leave the process group and the terminal of the command, and bound the memory.

    A Ctrl-C in the command's terminal is the command's to handle. Above its limit a worker gets a `MemoryError`, which
    costs one batch a second try; without it, Dask would kill the process with everything on it.
    """
    os.setpgid(0, 0)
    log_worker()
    threading.stack_size(_STACK_BYTES)  # of threads to come: eight megabytes of addresses each would soon be the limit
    for name in _USED_LATER:
        importlib.import_module(name)
    limit = worker.memory_manager.memory_limit  # type: ignore[attr-defined]
    if limit:
        limit_memory(limit)


def limit_memory(limit_bytes: int) -> None:
    """Let this process grow until it takes nine tenths of `limit_bytes`; beyond, allocations fail.

    The kernel limits addresses (RLIMIT_DATA), of which a process has always more than it uses: what it may add is what
    it has now and does not use, plus what is left of the limit.
    """
    growth = int(limit_bytes * ALLOCATED_SHARE) - _status_bytes("VmRSS")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _status_bytes("VmData") + max(0, growth)
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _status_bytes(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split(f"{name}:")[1].split()[0]) * 1024
