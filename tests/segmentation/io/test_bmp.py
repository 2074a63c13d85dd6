"""BMPs of every kind that is in use, written here by hand."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from samples import BITS, DEEP, GREY, RGB

from segmentation.errors import ImageError
from segmentation.io.images import decode, header_of

HEIGHT, WIDTH = GREY.shape
COLOURS = np.random.default_rng(4).integers(0, 256, (256, 3), np.uint8)
COLOURS[0] = 0, 0, 0  # colour 0 is what runs leave out


def bmp(stored, bits, *, height=HEIGHT, width=WIDTH, compression=0, header=40, colours=None, used=None, masks=b"",
        gap=0, entry=None):  # fmt: skip
    """Put headers, masks and a palette before pixels, which are given as they are stored."""
    entry = entry or (3 if header == 12 else 4)
    palette = b"" if colours is None else b"".join(bytes([*c[::-1], 0])[:entry] for c in colours.tolist())
    if header == 12:
        fields = struct.pack("<HHHH", width, height, 1, bits)
    else:
        count = 0 if used is None else used
        fields = struct.pack("<iiHHIIiiII", width, height, 1, bits, compression, len(stored), 0, 0, count, 0)[
            : header - 4
        ]
    fields = struct.pack("<I", header) + fields
    if header > 40:
        fields = (fields + masks).ljust(header, b"\0")
        masks = b""
    at = 14 + len(fields) + len(masks) + len(palette) + gap
    return (
        struct.pack("<2sIHHI", b"BM", at + len(stored), 0, 0, at)
        + fields
        + masks
        + palette
        + bytes(max(0, gap))
        + stored
    )


def rows(array, bits=8):
    """Store rows from the bottom, each filled up to four bytes."""
    stored = b""
    for row in array[::-1]:
        packed = np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]) if bits < 8 else row
        data = packed.tobytes()
        stored += data + bytes(-len(data) % 4)
    return stored


def words(*fields):
    """Mix numbers into words, each shifted to its place."""
    return sum(field.astype(np.uint32) << shift for field, shift in fields)


def masks(*values):
    return struct.pack(f"<{len(values)}I", *values)


R, G, B = (RGB[..., n] for n in range(3))
ODD = GREY[:, :13]
FIVE = np.rint((RGB >> 3) * (255 / 31)).astype(np.uint8)
SIX = np.rint((RGB >> 2) * (255 / 63)).astype(np.uint8)
WORD_555 = words((R >> 3, 10), (G >> 3, 5), (B >> 3, 0)).astype("<u2")
WORD_565 = words((R >> 3, 11), (G >> 2, 5), (B >> 3, 0)).astype("<u2")
WORD_444 = words((R >> 4, 8), (G >> 4, 4), (B >> 4, 0), (GREY >> 4, 12)).astype("<u2")
WORD_32 = words((R, 24), (G, 8), (B, 16)).astype("<u4")
WORD_DEEP = words((R.astype(np.uint32) * 4, 20), (G.astype(np.uint32) * 4, 10), (B.astype(np.uint32) * 4, 0)).astype(
    "<u4"
)
WORD_LONG = words((DEEP, 16), (GREY % 16, 12), (G >> 2, 6), (B >> 2, 0)).astype("<u4")
BGRX = np.dstack([RGB[..., ::-1], GREY])
TEN = np.rint(RGB.astype(float) * 4 * 65535 / 1023).astype(np.uint16)

GOOD = {
    "one bit": (bmp(rows(BITS, 1), 1, colours=COLOURS[[3, 9]]), COLOURS[[3, 9]][BITS * 1]),
    "one bit, white first": (bmp(rows(BITS, 1), 1, colours=np.array([[255] * 3, [0] * 3])), ~BITS * 255),
    "one bit of one colour": (bmp(rows(BITS & False, 1), 1, colours=COLOURS[[7]], used=1), COLOURS[[7]][BITS * 0]),
    "two bits": (bmp(rows(GREY % 4, 2), 2, colours=COLOURS[:4]), COLOURS[GREY % 4]),
    "four bits": (bmp(rows(GREY % 16, 4), 4, colours=COLOURS[:16]), COLOURS[GREY % 16]),
    "four bits, twelve colours": (bmp(rows(GREY % 12, 4), 4, colours=COLOURS[:12], used=12), COLOURS[GREY % 12]),
    "four bits of grey": (
        bmp(rows(GREY % 16, 4), 4, colours=np.arange(16, dtype=np.uint8)[:, None].repeat(3, 1)),
        GREY % 16,
    ),
    "eight bits": (bmp(rows(GREY), 8, colours=COLOURS), COLOURS[GREY]),
    "eight bits of odd width": (bmp(rows(ODD), 8, width=13, colours=COLOURS), COLOURS[ODD]),
    "eight bits, a hundred colours": (bmp(rows(GREY % 100), 8, colours=COLOURS[:100], used=100), COLOURS[GREY % 100]),
    "eight bits, more colours than bits": (
        bmp(rows(GREY), 8, colours=np.vstack([COLOURS, COLOURS[:44]]), used=300),
        COLOURS[GREY],
    ),
    "from the top": (bmp(rows(GREY[::-1]), 8, height=-HEIGHT, colours=COLOURS), COLOURS[GREY]),
    "a gap before the pixels": (bmp(rows(GREY), 8, colours=COLOURS, gap=100), COLOURS[GREY]),
    "without what fills the last row": (bmp(rows(ODD)[:-3], 8, width=13, colours=COLOURS), COLOURS[ODD]),
    "OS/2": (bmp(rows(GREY), 8, header=12, colours=COLOURS), COLOURS[GREY]),
    "OS/2 with a short palette": (bmp(rows(GREY % 100), 8, header=12, colours=COLOURS[:100]), COLOURS[GREY % 100]),
    "OS/2, version 2": (bmp(rows(GREY), 8, header=64, colours=COLOURS), COLOURS[GREY]),
    "OS/2, version 2, shortest header": (bmp(rows(GREY), 8, header=16, colours=COLOURS), COLOURS[GREY]),
    "OS/2 of 24 bits": (bmp(rows(RGB[..., ::-1].reshape(HEIGHT, -1)), 24, header=12), RGB),
    "version 4": (bmp(rows(GREY), 8, header=108, colours=COLOURS), COLOURS[GREY]),
    "version 5": (bmp(rows(RGB[..., ::-1].reshape(HEIGHT, -1)), 24, header=124), RGB),
    "24 bits": (bmp(rows(RGB[..., ::-1].reshape(HEIGHT, -1)), 24), RGB),
    "24 bits with a palette": (bmp(rows(RGB[..., ::-1].reshape(HEIGHT, -1)), 24, colours=COLOURS, used=256), RGB),
    "24 bits of odd width": (bmp(rows(RGB[:, :13, ::-1].reshape(HEIGHT, -1)), 24, width=13), RGB[:, :13]),
    "16 bits": (bmp(rows(WORD_555), 16), FIVE),
    "16 bits, six of green": (
        bmp(rows(WORD_565), 16, compression=3, masks=masks(0xF800, 0x7E0, 0x1F)),
        np.dstack([FIVE[..., 0], SIX[..., 1], FIVE[..., 2]]),
    ),
    "16 bits, four of each and of alpha": (
        bmp(rows(WORD_444), 16, compression=3, header=56, masks=masks(0xF00, 0xF0, 0xF, 0xF000)),
        (RGB >> 4) * 17,
    ),
    "32 bits": (bmp(rows(BGRX.reshape(HEIGHT, -1)), 32), RGB),
    "32 bits in fields": (bmp(rows(WORD_32), 32, compression=3, masks=masks(0xFF000000, 0xFF00, 0xFF0000)), RGB),
    "32 bits in fields, header with masks": (
        bmp(rows(WORD_32), 32, compression=3, header=108, masks=masks(0xFF000000, 0xFF00, 0xFF0000, 0)),
        RGB,
    ),
    "32 bits in fields with alpha": (
        bmp(rows(WORD_32), 32, compression=6, masks=masks(0xFF000000, 0xFF00, 0xFF0000, 0xFF)),
        RGB,
    ),
    "ten bits a colour": (bmp(rows(WORD_DEEP), 32, compression=3, masks=masks(0x3FF00000, 0xFFC00, 0x3FF)), TEN),
    "twenty bits of red, six of the others": (
        bmp(rows(WORD_LONG), 32, compression=3, masks=masks(0xFFFFF000, 0xFC0, 0x3F)),
        np.dstack([DEEP, *(np.rint((RGB[..., n] >> 2) * (65535 / 63)) for n in (1, 2))]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_is_read(name):
    data, expected = GOOD[name]
    image = decode(data)
    np.testing.assert_array_equal(image, expected)
    header = header_of(io.BytesIO(data))
    assert (header.height, header.width, header.itemsize) == (*image.shape[:2], image.dtype.itemsize)


@pytest.mark.parametrize("name", GOOD)
def test_no_end_that_is_missing_is_filled(name):
    data, expected = GOOD[name]
    with pytest.raises(ImageError, match=r"cut short|begin within its palette"):
        decode(data[: -4 - WIDTH // 8])
    with pytest.raises(ImageError, match=r"cut short|begin within its palette"):
        decode(data[:-5] if expected.shape[1] == WIDTH else data[:-8])


def runs(*parts, bits=8, colours=COLOURS, **options):
    return bmp(
        b"".join(bytes(part) for part in parts), bits, compression=1 if bits == 8 else 2, colours=colours, **options
    )


def full(value):
    """Return runs that fill all rows but the lowest."""
    return [(WIDTH, value, 0, 0)] * (HEIGHT - 1)


def expected(first, others=5):
    numbers = np.full((HEIGHT, WIDTH), others)
    numbers[-1] = first
    return COLOURS[numbers]


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (runs((16, 7, 0, 0), *full(5), (0, 1)), expected(7)),
        (runs((16, 7, 0, 0), *full(5)), expected(7)),
        (runs((0, 5, 1, 2, 3, 4, 5, 0), (11, 9, 0, 0), *full(5), (0, 1)), expected([1, 2, 3, 4, 5] + [9] * 11)),
        (runs((19, 7, 0, 0), *full(5), (0, 1)), expected(7)),
        (runs((13, 7), (3, 9, 0, 0), *[(13, 5), (3, 9, 0, 0)] * 11, (0, 1), width=13), expected(7)[:, :13]),
        (
            runs((13, 0x77), (3, 0, 0, 0), *[(13, 0x55, 0, 0)] * 11, (0, 1), width=13, bits=4, colours=COLOURS[:16]),
            expected(7)[:, :13],
        ),
        (runs((3, 7), (0, 2, 4, 0), (9, 8, 0, 0), *full(5), (0, 1)), expected([7] * 3 + [0] * 4 + [8] * 9)),
        (runs((3, 7, 0, 0), *full(5), (0, 1)), expected([7] * 3 + [0] * 13)),
        (runs((16, 7, 0, 0), *full(5), (0, 1), height=-HEIGHT), expected(7)[::-1]),
        (runs((16, 0x78, 0, 0), *full(0x55), (0, 1), bits=4, colours=COLOURS[:16]), expected([7, 8] * 8)),
        (
            runs((0, 5, 0x12, 0x34, 0x50, 0), (11, 0x99, 0, 0), *full(0x55), (0, 1), bits=4, colours=COLOURS[:16]),
            expected([1, 2, 3, 4, 5] + [9] * 11),
        ),
    ],
)
def test_runs_are_unpacked(data, pixels):
    np.testing.assert_array_equal(decode(data), pixels)


def test_runs_agree_with_another_decoder():
    data = runs((5, 7), (0, 3, 1, 2, 3, 0), (8, 200, 0, 0), *full(5), (0, 1))
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (runs((16, 7, 0, 0), *full(5)[:-1]), "its runs end in row 12 of 12"),
        (runs((16, 7, 0, 0), *full(5)[:-1], (0, 16, 1, 2, 3)), "its runs end in row 12 of 12"),
        (runs((16, 7), (5, 7, 0, 0), *full(5), (0, 1)), "a run leaves the picture"),
        (runs((13, 7), (4, 9, 0, 0), *[(13, 5, 0, 0)] * 11, (0, 1), width=13), "a run leaves the picture"),
        (runs((10, 7), (0, 8, *range(8), 0, 0), *full(5), (0, 1)), "a run leaves the picture"),
        (runs((16, 7, 0, 0), *full(5), (3, 3, 0, 1)), "a run leaves the picture"),
        (runs((0, 2, 0, 200), (3, 3, 0, 1)), "a run leaves the picture"),
        (runs((16, 7, 0, 1)), "its runs end in row 1 of 12"),
        (runs((16, 7, 0, 0), *full(5)[:-1], (15, 5), (0, 1)), "its runs end in row 12 of 12"),
        (bmp(rows(GREY), 8, colours=COLOURS[:100], used=100), r"colour \d+ of a palette of 100"),
        (bmp(rows(GREY), 8, colours=COLOURS, gap=-400), "pixels begin within its palette"),
        (bmp(rows(BGRX.reshape(HEIGHT, -1)), 32, gap=-54), "pixels begin within its headers"),
        (bmp(rows(GREY), 8, colours=COLOURS, header=66), "a header of 66 bytes"),
        (bmp(rows(WORD_565), 16, compression=3, masks=masks(0xF800, 0x7E0, 0x1B)), "not in one piece"),
        (bmp(b"\xff\xd8\xff", 0, compression=4), "0 bits a pixel, compression 4"),
        (bmp(rows(GREY), 24, compression=4, header=64), "24 bits a pixel, compression 4"),
        (bmp(rows(BITS, 1), 1, compression=3, header=64, colours=COLOURS[:2]), "1 bits a pixel, compression 3"),
        (bmp(rows(GREY), 8, colours=COLOURS, width=-16), "its width is -16"),
    ],
)
def test_what_is_damaged_or_not_known_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)
