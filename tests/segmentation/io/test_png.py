"""PNGs with notes of any size, interlaced ones of any depth, and chunks that must not be ignored."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from samples import DEEP, DEEP_RGB, GREY, RGB, png, png_chunk

from segmentation.errors import ImageError
from segmentation.io.images import decode, header_of

NOISE = np.random.default_rng(1).integers(0, 16, 1_500_000, np.uint8).tobytes()
BOMB = zlib.compress(bytes(2**28), 9)
NOTES = {
    "a profile": png_chunk(b"iCCP", b"scanner\0\0" + zlib.compress(NOISE)),
    "a packed text": png_chunk(b"zTXt", b"history\0\0" + zlib.compress(NOISE)),
    "an international text": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(NOISE)),
    "a text": png_chunk(b"tEXt", b"history\0" + NOISE * 50),
    "a profile that is a bomb": png_chunk(b"iCCP", b"scanner\0\0" + BOMB),
    "a text that is a bomb": png_chunk(b"zTXt", b"history\0\0" + BOMB),
    "a profile that cannot be unpacked": png_chunk(b"iCCP", b"scanner\0\0" + NOISE[:99]),
    "many texts": png_chunk(b"zTXt", b"history\0\0" + zlib.compress(NOISE)) * 70,
    "notes of a length that is none": png_chunk(b"pHYs", b"\0") + png_chunk(b"gAMA", b"") + png_chunk(b"cHRM", b"1"),
}


@pytest.mark.parametrize("name", NOTES)
def test_notes_may_be_of_any_size_and_are_never_unpacked(name):
    data = png(GREY, 8, 0, NOTES[name])
    deep = png(DEEP_RGB, 16, 2, NOTES[name])
    tracemalloc.start()
    np.testing.assert_array_equal(decode(data), GREY)
    np.testing.assert_array_equal(decode(deep), DEEP_RGB)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
    assert header_of(io.BytesIO(data)).shape_text == "12×16"


def test_notes_behind_the_pixels_may_be_large_too():
    data = png(RGB, 8, 2)
    np.testing.assert_array_equal(decode(data[:-12] + NOTES["a packed text"] + data[-12:]), RGB)


def test_the_orientation_is_kept_beside_a_large_profile():
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = NOTES["a profile"] + png_chunk(b"eXIf", exif.tobytes()[6:])
    np.testing.assert_array_equal(decode(png(GREY, 8, 0, extra)), np.rot90(GREY, -1))


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def interlaced(array, color, extra=b""):
    """Write a PNG in the seven passes of Adam7."""
    rows = b""
    for left, top, across, down in PASSES:
        for row in array[top::down, left::across]:
            rows += b"\0" + row.astype(f">u{array.itemsize}").tobytes() if row.size else b""
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8 * array.itemsize, color, 0, 0, 1)
    chunks = png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(12, 16), (1, 1), (3, 5), (1, 9), (9, 1)])
def test_interlaced_ones_of_any_depth_are_read_without_a_word(size, capfd):
    grey, deep, colours = (array[: size[0], : size[1]] for array in (GREY, DEEP, DEEP_RGB))
    for data, expected in (
        (interlaced(grey, 0), grey),
        (interlaced(deep, 0), deep),
        (interlaced(colours, 2), colours),
        (interlaced(np.dstack([colours, deep]), 6), colours),
        (interlaced(np.dstack([deep, 65535 - deep]), 4), deep),
    ):
        np.testing.assert_array_equal(decode(data), expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a profile that cannot be unpacked", "notes of a length that is none"])
def test_libraries_say_nothing_on_the_terminal(name, capfd):
    decode(png(DEEP_RGB, 16, 2, NOTES[name]))
    decode(interlaced(DEEP_RGB, 2, NOTES[name]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(GREY, 8, 0, png_chunk(b"CgBI", b"\0\0\0\0")), "chunk 'CgBI', which is not known"),
        (png(GREY, 8, 3), "palette is missing"),
        (png(GREY, 8, 0, NOTES["a profile"][:-1] + b"?"), "checksum of chunk 'iCCP' is wrong"),
    ],
)
def test_what_decides_on_pixels_must_be_known_and_whole(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)
