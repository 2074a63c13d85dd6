"""Loaded by worker processes on this machine when they start."""

import os


def dask_setup(worker: object) -> None:
    """Leave the process group of the command: a Ctrl-C in its terminal is the command's to handle."""
    os.setpgid(0, 0)
