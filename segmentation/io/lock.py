"""One run a store: a lock that the kernel drops when its holder dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmentation.errors import SegmentationError


class StoreLockedError(SegmentationError, RuntimeError):
    """Another run holds the store."""


@contextmanager
def store_lock(root: Path) -> Iterator[None]:
    """Hold the store `root` for one run.

    Raises
    ------
    StoreLockedError
        Another run holds it; the message says which process, on which machine. Nothing was written.
    """
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreLockedError(f"{root}: held by {_holder(handle)}; wait for it to end") from error
        os.ftruncate(handle, 0)
        holder = {"host": socket.gethostname(), "pid": os.getpid()}
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"another run (process {holder['pid']} on {holder['host']})"
    except (ValueError, KeyError, TypeError):
        return "another run"
