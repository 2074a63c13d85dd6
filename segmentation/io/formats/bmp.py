"""BMP of any kind that is in use: palettes, runs, bit fields, rows from the top or the bottom, headers of OS/2.

Decoders at hand read some of these wrong, and fill what runs leave out of a damaged picture.
"""

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import BmpFields, bmp_fields
from segmentation.planning import Header

_PLAIN, _RUNS_8, _RUNS_4, _FIELDS, _FIELDS_WITH_ALPHA = 0, 1, 2, 3, 6
#: Compression → bits per pixel that go with it.
_BITS = {
    _PLAIN: (1, 2, 4, 8, 16, 24, 32),
    _RUNS_8: (8,),
    _RUNS_4: (4,),
    _FIELDS: (16, 32),
    _FIELDS_WITH_ALPHA: (16, 32),
}
_END_OF_ROW, _END_OF_PICTURE, _JUMP = 0, 1, 2


def decode_bmp(data: bytes, _header: Header, _frame: int) -> tuple[Image, int]:
    """Decode a BMP; return its pixels, grey if its palette is, and its orientation.

    Raises
    ------
    ImageError
        It is cut short, a colour is not in its palette, runs leave the picture, or it is of a kind that is not read.
    """
    fields = bmp_fields(data)
    if fields.bits not in _BITS.get(fields.compression, ()) or (fields.is_os2 and fields.compression >= _FIELDS):
        raise ImageError(f"BMP of {fields.bits} bits a pixel, compression {fields.compression}; such is not read")
    if fields.pixels_at < fields.palette_at:
        raise ImageError("damaged BMP: its pixels begin within its headers")
    if fields.compression in (_RUNS_8, _RUNS_4):
        pixels = _look_up(_unpack_runs(data[fields.pixels_at :], fields), data, fields)
    elif fields.bits <= 8:
        rows = np.unpackbits(_rows(data, fields), axis=1) if fields.bits < 8 else _rows(data, fields)
        pixels = _look_up(_numbers(rows, fields), data, fields)
    else:
        pixels = _separate(_rows(data, fields), fields)
    return pixels if fields.is_top_down else pixels[::-1], 1


def _rows(data: bytes, fields: BmpFields) -> Image:
    """Return the bytes of each row, without those that fill it up to a multiple of four."""
    used = (fields.width * fields.bits + 7) // 8
    stride = -(-used // 4) * 4
    needed = stride * (fields.height - 1) + used
    stored = data[fields.pixels_at : fields.pixels_at + stride * fields.height]
    if len(stored) < needed:
        raise ImageError(f"BMP cut short: its pixels end at byte {fields.pixels_at + needed:,} of {len(data):,}")
    stored = stored.ljust(stride * fields.height, b"\0")  # what fills the last row may be missing
    return np.frombuffer(stored, np.uint8).reshape(fields.height, stride)[:, :used]


def _numbers(rows: Image, fields: BmpFields) -> Image:
    if fields.bits == 8:
        return rows
    bits = rows[:, : fields.width * fields.bits].reshape(fields.height, fields.width, fields.bits)
    return np.packbits(bits, axis=2)[..., 0] >> np.uint8(8 - fields.bits)


def _look_up(numbers: Image, data: bytes, fields: BmpFields) -> Image:
    """Turn numbers into colours, or greys if all colours are."""
    begin, size, count = fields.palette_at, fields.entry_bytes, min(fields.n_colours, 256)
    stored = data[begin : begin + size * count]
    if len(stored) < size * count or begin + size * count > fields.pixels_at:
        raise ImageError("damaged BMP: its pixels begin within its palette")
    if int(numbers.max()) >= count:
        raise ImageError(f"damaged BMP: colour {int(numbers.max())} of a palette of {count}")
    colours = np.frombuffer(stored, np.uint8).reshape(count, size)[:, 2::-1]
    return colours[:, 0][numbers] if (colours == colours[:, :1]).all() else colours[numbers]


def _separate(rows: Image, fields: BmpFields) -> Image:
    if fields.bits == 24:
        return rows.reshape(fields.height, fields.width, 3)[..., ::-1]
    values = np.ascontiguousarray(rows).view(f"<u{fields.bits // 8}").astype(np.uint32)
    top = 65535 if fields.is_deep else 255
    colours = []
    for mask in fields.masks:
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        largest = mask >> shift
        if largest & (largest + 1):
            raise ImageError(f"damaged BMP: the bits of a colour are not in one piece (0x{mask:x})")
        unused = max(0, largest.bit_length() - 16)  # more than sixteen bits are not kept
        largest >>= unused
        found = (values & np.uint32(mask)) >> np.uint32(shift + unused)
        found = (found * np.uint32(top) + np.uint32(largest // 2)) // np.uint32(max(1, largest))
        colours.append(found.astype(np.uint16 if fields.is_deep else np.uint8))
    return np.stack(colours, axis=2)


def _unpack_runs(packed: bytes, fields: BmpFields) -> Image:
    """Unpack runs in the order of rows; pixels that are passed over are of colour 0."""
    numbers = bytearray(fields.width * fields.height)
    at = x = y = 0
    halves = fields.bits == 4
    try:
        while True:
            count, value = packed[at], packed[at + 1]
            at += 2
            if count:
                if (
                    x < fields.width < x + count
                    and packed[at] == 0
                    and packed[at + 1] in (_END_OF_ROW, _END_OF_PICTURE)
                ):
                    count = fields.width - x  # the last run of a row fills it up
                found = bytes([value]) * count if not halves else bytes([value >> 4, value & 15]) * ((count + 1) // 2)
            elif value == _END_OF_ROW:
                x, y = 0, y + 1
                continue
            elif value == _END_OF_PICTURE:
                break
            elif value == _JUMP:
                x, y = x + packed[at], y + packed[at + 1]
                at += 2
                continue
            else:
                count = value
                stored = packed[at : at + ((count + 1) // 2 if halves else count)]
                found = bytes(n for pair in stored for n in (pair >> 4, pair & 15)) if halves else stored
                at += len(stored) + len(stored) % 2
            _check_run(found, count, x, y, fields)
            shown = max(0, min(count, fields.width - x))
            numbers[y * fields.width + x : y * fields.width + x + shown] = found[:shown]
            x += count
    except IndexError:  # behind the last pixel the end mark may be missing
        pass
    if (y, x) < (fields.height - 1, fields.width):
        raise ImageError(f"BMP cut short: its runs end in row {y + 1} of {fields.height}")
    return np.frombuffer(numbers, np.uint8).reshape(fields.height, fields.width)


def _check_run(found: bytes, count: int, x: int, y: int, fields: BmpFields) -> None:
    if len(found) < count:
        raise IndexError
    step = 32 // fields.bits  # encoders fill rows up to a multiple of four bytes
    if x + count > -(-fields.width // step) * step or y >= fields.height:
        raise ImageError("damaged BMP: a run leaves the picture")
