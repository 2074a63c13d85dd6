"""Processes that must not outlive the one that started them (Linux).

``python -m flows.processes PARENT COMMAND …`` becomes COMMAND, which the kernel ends when its parent dies.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def tied(command: list[str]) -> list[str]:
    """Return the command line that runs `command` and ends it when the process that starts it dies."""
    return [sys.executable, "-m", "flows.processes", str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it died before it was asked about
    os.execv(command[0], command)  # noqa: S606 - the command line is ours


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none is lost."""
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1)


def reap_orphans(known: set[int]) -> None:
    """Collect adopted processes that have ended; those in `known` are waited for elsewhere."""
    for pid in children_of(os.getpid()) - known:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end_children(spared: Collection[int] = ()) -> None:
    """Kill every child but some, and their children as they are adopted, until none is left."""
    while children := children_of(os.getpid()).difference(spared):
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children_of(parent_pid: int) -> set[int]:
    """Return the children of a process, ended ones included that nobody has collected."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name may hold spaces and brackets: state and parent follow its last closing one.
            _, parent = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if int(parent) == parent_pid:
                found.add(int(stat.parent.name))
    return found


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
