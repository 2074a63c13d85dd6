"""One run a store: in a folder by a lock that the kernel drops when its holder dies, in a bucket by a lease."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segmentation.errors import SegmentationError


class StoreLockedError(SegmentationError, RuntimeError):
    """Another run holds the store."""


@contextmanager
def store_lock(root: Path) -> Iterator[str]:
    """Hold the store in the folder `root` for one run.

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
        yield ""
    finally:
        os.close(handle)


def describe_holder(holder: Mapping[str, Any]) -> str:
    """Say who holds a store.

    Examples
    --------
    >>> describe_holder({"host": "night", "pid": 7}), describe_holder({})
    ('another run (process 7 on night)', 'another run')
    """
    known = {"pid", "host"} <= set(holder)
    return f"another run (process {holder['pid']} on {holder['host']})" if known else "another run"


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return describe_holder(holder if isinstance(holder, dict) else {})
    except ValueError:
        return "another run"
