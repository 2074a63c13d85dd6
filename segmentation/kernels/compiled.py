"""How loops are compiled: to machine code, kept on disk, without Python's lock."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=np.generic)


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


def read_only(array: NDArray[T]) -> NDArray[T]:
    """Return an array as compiled loops take what they only read: C order, native byte order, not writable.

    Numba compiles once more for every order and for writable and read-only arrays; of one kind there is one version.
    A copy is made only if an order is another.
    """
    view = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).view()
    view.flags.writeable = False
    return view
