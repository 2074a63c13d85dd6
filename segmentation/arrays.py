"""Names of the array types that signatures share.

M rows, N columns, C channels; P = number of pixels that are segmented (M·N without a mask).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
