"""How loops are compiled: to machine code, kept on disk, without Python's lock."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call, once a machine.

    The machine code is kept beside the source, or where that is read-only in the user's cache folder
    (``NUMBA_CACHE_DIR`` names another); with neither writable, every process compiles for itself, which takes seconds.

    Floating-point operations are done as written, in that order: the same bytes on every machine.
    """
    try:
        made: F = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it may write to
        made = njit(nogil=True, error_model="numpy")(function)
    return made
