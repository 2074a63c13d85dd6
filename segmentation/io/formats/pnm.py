"""PNM (PBM, PGM, PPM, PFM) at full depth: the values are those that are stored."""

from typing import TypeVar

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import declared_header, pnm_fields

Values = TypeVar("Values", bytes, Image)


def decode_pnm(data: bytes) -> Image:
    """Decode a PNM file that holds one picture.

    Raises
    ------
    ImageError
        There are fewer or more pixels than declared, or larger ones.

    Examples
    --------
    >>> decode_pnm(b"P2 2 1 4095 0 4095 ")
    array([[   0, 4095]], dtype=uint16)
    >>> decode_pnm(b"P4 9 1 " + bytes([0b01111111, 0]))
    array([[255,   0,   0,   0,   0,   0,   0,   0, 255]], dtype=uint8)
    """
    header = declared_header("PNM", data)
    kind, fields, at = pnm_fields(data)
    shape = (header.height, header.width) if header.channels == 1 else (header.height, header.width, 3)
    count = header.pixels * header.channels
    if kind in (b"P1", b"P4"):
        bits = _text_bits(data[at:]) if kind == b"P1" else _packed_bits(data[at:], header.height, header.width)
        return np.where(_exactly(bits, count), np.uint8(0), np.uint8(255)).reshape(shape)  # 1 is black
    if kind in (b"Pf", b"PF"):
        values = np.frombuffer(_exactly(data[at:], 4 * count), "<f4" if fields[2].startswith(b"-") else ">f4")
        return values.astype(np.float32).reshape(shape)[::-1]  # rows go from bottom to top
    largest = int(fields[2])
    dtype = np.dtype(np.uint8 if largest < 256 else ">u2")
    if kind in (b"P2", b"P3"):
        numbers = _exactly(_numbers(data[at:], count), count)
    else:
        numbers = np.frombuffer(_exactly(data[at:], count * dtype.itemsize), dtype)
    if count and int(numbers.max()) > largest:
        raise ImageError(f"damaged PNM: a value of {int(numbers.max())}, {largest} is the largest allowed")
    return numbers.astype(dtype.newbyteorder("=")).reshape(shape)


def _exactly(values: Values, count: int) -> Values:
    if len(values) < count:
        raise ImageError(f"PNM cut short: it holds {len(values):,} of {count:,} values")
    rest = values[count:]
    if len(rest) and (not isinstance(rest, bytes) or rest.strip()):
        raise ImageError(f"PNM with {len(rest):,} values more than declared; one picture is expected")
    return values[:count]


def _packed_bits(data: bytes, height: int, width: int) -> Image:
    row = (width + 7) // 8
    packed = np.frombuffer(_exactly(data, height * row), np.uint8).reshape(height, row)
    return np.unpackbits(packed, axis=1)[:, :width].reshape(-1)


def _text_bits(data: bytes) -> Image:
    bits = np.frombuffer(b"".join(data.split()), np.uint8) - np.uint8(ord("0"))
    if bits.size and bits.max() > 1:
        raise ImageError("damaged PNM: its pixels are 0 and 1 only")
    return bits


def _numbers(data: bytes, count: int) -> Image:
    if len(data) > 8 * count + 4096:  # five digits and a space each
        raise ImageError(f"PNM with {len(data):,} bytes for {count:,} values; one picture is expected")
    if not data[-1:].isspace():
        raise ImageError("PNM cut short: it ends within a number, or before the end of its line")
    try:
        numbers = np.array(data.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise ImageError("damaged PNM: a value is no number") from error
    if numbers.size and (numbers.min() < 0 or numbers.max() >= 2**16):
        raise ImageError("damaged PNM: a value is not within 0 to 65,535")
    return numbers
