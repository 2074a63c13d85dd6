"""What GDAL's tag declares to be no data."""

import math
from contextlib import suppress
from typing import Any

import numpy as np

from segmentation.arrays import Bools, Image
from segmentation.errors import ImageError

_TAG = 42113
#: How far a number that was written with few digits may be off, in units of its last place.
_ROUNDED = 8
#: A declared value so near to the largest number of its type means that, whatever digits it was written with.
_NEAR_LARGEST = 1e-3
#: Whole numbers below this are written with all of their digits; no number is off by more than that part of it.
_WRITTEN_WHOLE, _MOST_ROUNDED = 1e6, 1e-6
#: What some C libraries write for NaN.
_NANS = frozenset({"1.#qnan", "1.#ind", "1.#snan", "nan(ind)", "nan(snan)", "qnan"})


def declared_no_data(page: Any) -> int | float | None:
    """Return the value that a page declares to be no data; None if it declares none.

    Raises
    ------
    ImageError
        What it declares is no number, or several.
    """
    value = page.tags.valueof(_TAG)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, int | float):
        return value
    text = value.replace("\0", " ").strip() if isinstance(value, str) else "" if value is None else str(value)
    found = {_number(word, text) for word in text.split()}
    if len(found) > 1:
        raise ImageError(f"TIFF that declares {text[:40]!a} to be no data; one number is expected")
    return found.pop() if found else None


def _number(word: str, text: str) -> int | float:
    if word.lower().lstrip("+-") in _NANS:
        return math.nan
    try:
        value = float(word.replace(",", ".").replace("_", "?"))  # Python's own digits may be grouped
    except ValueError as error:
        raise ImageError(f"TIFF that declares {text[:40]!a} to be no data; a number is expected") from error
    if math.isnan(value):
        return math.nan  # one object, so that a set holds it once
    with suppress(ValueError):
        return int(word) if abs(value) < 2**65 else value  # 64 bits are more than a float holds
    return value


def has_data(samples: Image, no_data: int | float | None) -> Bools | None:
    """Return which pixels are data: any of their channels is something else than `no_data`. None: all of them.

    A value that the samples cannot take, as -9999 in bytes, is that of none.

    Examples
    --------
    >>> has_data(np.array([[7, 0, 255]], dtype=np.uint8), 255)
    array([[ True,  True, False]])
    >>> has_data(np.array([[7, 0, 255]], dtype=np.uint8), -9999) is None
    True
    >>> has_data(np.array([[7, -9999, np.nan]], dtype=np.float32), -9999.0)
    array([[ True, False,  True]])
    """
    if no_data is None:
        return None
    equal = _equal(samples, no_data)
    empty = np.asarray(equal.all(axis=2) if equal.ndim == 3 else equal)
    return ~empty if empty.any() else None


def _equal(samples: Image, no_data: int | float) -> Bools:
    if samples.dtype.kind != "f":
        value = as_stored(no_data, samples.dtype)
        return np.zeros(samples.shape, np.bool_) if value is None else np.asarray(samples == value)
    if math.isnan(no_data):
        return np.isnan(samples)
    largest = float(np.finfo(samples.dtype).max)
    if abs(no_data) >= largest * (1 - _NEAR_LARGEST):
        edge = samples.dtype.type(math.copysign(largest * (1 - _NEAR_LARGEST), no_data))
        return np.asarray(samples >= edge if no_data > 0 else samples <= edge)
    value = samples.dtype.type(no_data)
    if abs(no_data) < _WRITTEN_WHOLE and no_data == int(no_data):
        return np.asarray(samples == value)
    reach = samples.dtype.type(min(_ROUNDED * float(np.spacing(np.abs(value))), _MOST_ROUNDED * abs(float(no_data))))
    return np.asarray((samples >= value - reach) & (samples <= value + reach))


def as_stored(no_data: int | float | None, dtype: np.dtype[Any]) -> Any:
    """Return a declared value as a sample, None if no sample can take it."""
    if no_data is None:
        return None
    if dtype.kind == "f":
        largest = float(np.finfo(dtype).max)
        return dtype.type(no_data if math.isnan(no_data) else min(max(float(no_data), -largest), largest))
    lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not math.isfinite(no_data) or no_data != int(no_data) or not lowest <= no_data <= highest:
        return None
    return dtype.type(int(no_data))
