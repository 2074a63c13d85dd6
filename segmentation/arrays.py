"""Names of the array types that signatures share, and the form in which compiled loops take arrays.

M rows, N columns, C channels; P = number of pixels that are segmented (M·N without a mask).
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

#: Any real image: shape (M, N) or (M, N, C), bool, integer or float.
Image = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
#: Integers of whatever size saves memory.
Integers = NDArray[np.integer[Any]]
#: Label map, shape (M, N): 1..K, 0 where masked.
Labels = NDArray[np.integer[Any]]
#: One label per graph node or pixel, shape (P,), any integers from 0.
NodeLabels = NDArray[np.integer[Any]]
Bytes8 = NDArray[np.uint8]


def read_only(array: NDArray[T]) -> NDArray[T]:
    """Return an array as compiled loops take what they only read: C order, native byte order, not writable.

    Numba compiles once more for every order and for writable and read-only arrays; of one kind there is one version.
    A copy is made only if an order is another.
    """
    view = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).view()
    view.flags.writeable = False
    return view
