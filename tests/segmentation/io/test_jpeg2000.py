"""JPEG 2000: channels are what the boxes around the codestream say, or the picture is refused."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import samples
from PIL import Image
from samples import DEEP, DEEP_RGB, GREY, RGB, box, jp2

from segmentation.errors import ImageError
from segmentation.io.images import decode, header_of

SRGB, GREYS, SYCC, CMYK, LAB, ESYCC = 16, 17, 18, 12, 14, 24
OPACITY, UNKNOWN = 1, 65535


def cdef(*channels):
    return box(b"cdef", struct.pack(f">H{3 * len(channels)}H", len(channels), *(n for c in channels for n in c)))


def palette(colours, depth=8, mapping=None):
    table = struct.pack(">HB", len(colours), colours.shape[1]) + bytes([depth - 1] * colours.shape[1])
    stored = colours.astype(">u2" if depth > 8 else "u1").tobytes()
    mapping = mapping or [(0, 1, n) for n in range(colours.shape[1])]
    return box(b"pclr", table + stored) + box(b"cmap", b"".join(struct.pack(">HBB", *entry) for entry in mapping))


def profile(space):
    return box(b"colr", b"\2\0\0" + bytes(16) + space + bytes(108))


ALPHA = np.full_like(GREY, 9)
COLOURS = np.array([[200, 60, 40], [30, 160, 60], [7, 8, 9], [250, 251, 252]], np.uint8)
INDICES = GREY % 4


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (jp2(RGB[..., ::-1], SRGB, cdef((0, 0, 3), (1, 0, 2), (2, 0, 1))), RGB),
        (jp2(RGB[..., [1, 0, 2]], SRGB, cdef((1, 0, 1), (0, 0, 2), (2, 0, 3))), RGB),
        (jp2(np.dstack([ALPHA, RGB]), SRGB, cdef((0, OPACITY, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3))), RGB),
        (jp2(np.dstack([RGB, ALPHA]), SRGB, cdef((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 2, 0))), RGB),
        (jp2(np.dstack([ALPHA, GREY]), GREYS, cdef((0, OPACITY, 0), (1, 0, 1))), GREY),
        (jp2(np.dstack([GREY, ALPHA]), GREYS, cdef((0, 0, 0), (1, OPACITY, 0))), GREY),
        (jp2(DEEP_RGB[..., ::-1], SRGB, cdef((0, 0, 3), (1, 0, 2), (2, 0, 1))), DEEP_RGB),
        (jp2(GREY, SRGB), GREY),
        (jp2(RGB, None), RGB),
        (jp2(RGB, None, profile(b"RGB ")), RGB),
        (jp2(GREY, None, profile(b"GRAY")), GREY),
        (jp2(INDICES, SRGB, palette(COLOURS)), COLOURS[INDICES]),
        (jp2(INDICES, SRGB, palette(COLOURS, mapping=[(0, 1, 2), (0, 1, 1), (0, 1, 0)])), COLOURS[INDICES][..., ::-1]),
        (
            jp2(INDICES, SRGB, palette(COLOURS) + cdef((0, 0, 2), (1, 0, 1), (2, 0, 3))),
            COLOURS[INDICES][..., [1, 0, 2]],
        ),
        (jp2(INDICES, SRGB, palette(COLOURS * np.uint16(257), 16)), COLOURS[INDICES] * np.uint16(257)),
        (jp2(INDICES, GREYS, palette(COLOURS[:, :1])), COLOURS[INDICES][..., 0]),
        (jp2(INDICES, GREYS, palette(COLOURS[:, :1] % 16, 4)), COLOURS[INDICES][..., 0] % 16 * 17),
        (jp2(RGB, SRGB) + bytes(3), RGB),
    ],
)
def test_channels_are_what_the_boxes_say(data, pixels):
    image = decode(data)
    np.testing.assert_array_equal(image, pixels)
    header = header_of(io.BytesIO(data))
    assert (header.height, header.width, header.itemsize) == (*image.shape[:2], image.dtype.itemsize)
    assert header.channels >= (3 if image.ndim == 3 else 1)


def test_brightness_and_differences_of_colour_become_colours():
    converted = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    assert np.abs(decode(jp2(converted, SYCC)).astype(int) - RGB).max() <= 2


def test_inks_become_colours():
    inks = np.dstack([255 - RGB, np.zeros_like(GREY)])
    np.testing.assert_array_equal(decode(jp2(inks, CMYK)), RGB)


def subsampled(channels, steps, size, depth=8):
    """Join codestreams of one channel each: of one layer and resolution, their packets follow each other."""
    parts = [
        imagecodecs.jpeg2k_encode(c, level=0, codecformat="j2k", resolutions=1, bitspersample=depth) for c in channels
    ]
    bodies = [part[part.index(b"\xff\x93") + 2 : -2] for part in parts]
    first = parts[0]
    coding = first[first.index(b"\xff\x52") : first.index(b"\xff\x90")]
    sampling = b"".join(bytes([depth - 1, across, down]) for across, down in steps)
    head = struct.pack(">HIIIIIIIIH", 0, size[1], size[0], 0, 0, size[1], size[0], 0, 0, len(channels)) + sampling
    packets = b"\xff\x93" + b"".join(bodies)
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 12 + len(packets), 0, 1) + packets
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(head)) + head + coding + tile + b"\xff\xd9"


def around(stream, space, shape):
    """Put the boxes of a JP2 file around a codestream."""
    whole = jp2(np.zeros(shape, np.uint8), space)
    return whole[: whole.index(b"jp2c") - 4] + box(b"jp2c", stream)


@pytest.mark.parametrize("size", [(12, 16), (9, 13), (9, 12), (10, 13), (1, 1), (2, 3)])
@pytest.mark.parametrize("steps", [(2, 2), (2, 1)])
def test_differences_of_colour_may_be_sampled_every_second_pixel(size, steps):
    rng = np.random.default_rng(3)
    half = -(-size[0] // steps[1]), -(-size[1] // steps[0])
    y, blue, red = rng.integers(90, 160, size), rng.integers(100, 150, half), rng.integers(100, 150, half)
    stream = subsampled([c.astype(np.uint8) for c in (y, blue, red)], [(1, 1), steps, steps], size)
    blue, red = (c.repeat(steps[1], 0).repeat(steps[0], 1)[: size[0], : size[1]] - 128 for c in (blue, red))
    mixed = np.dstack([y + 1.402 * red, y - 0.344 * blue - 0.714 * red, y + 1.772 * blue])
    for data in (stream, around(stream, SYCC, (*size, 3))):
        assert np.abs(decode(data) - mixed).max() <= 2
    with pytest.raises(ImageError, match="or YCC 4:2:x is read"):
        decode(around(stream, SRGB, (*size, 3)))


def test_channels_that_are_all_subsampled_are_refused():
    data = subsampled([GREY], [(2, 2)], (24, 32))
    with pytest.raises(ImageError, match="sampled every 2×2 pixels"):
        decode(data)


def test_subsampled_channels_that_are_no_differences_of_colour_are_refused():
    half = GREY[::2, ::2].copy()
    data = subsampled([GREY, half, half, GREY], [(1, 1), (2, 2), (2, 2), (1, 1)], GREY.shape)
    with pytest.raises(ImageError, match="sampled every 1×1, 2×2, 2×2, 1×1 pixels"):
        decode(data)


def test_signed_samples_begin_at_zero():
    for array, offset in ((GREY, 128), (DEEP, 32768), (RGB, 128)):
        signed = (array.astype(np.int64) - offset).astype(f"i{array.itemsize}")
        image = decode(imagecodecs.jpeg2k_encode(signed, level=0, codecformat="j2k"))
        assert image.dtype == array.dtype
        np.testing.assert_array_equal(image, array)


def test_few_bits_are_spread_over_eight():
    data = imagecodecs.jpeg2k_encode(GREY % 16, level=0, codecformat="j2k", bitspersample=4)
    np.testing.assert_array_equal(decode(data), GREY % 16 * 17)


BANDS = np.dstack([RGB, ALPHA])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jp2(BANDS, SRGB), "4 channels, of which nothing says"),
        (imagecodecs.jpeg2k_encode(BANDS, level=0, codecformat="j2k"), "4 channels, of which nothing says"),
        (jp2(BANDS, SRGB, cdef((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, UNKNOWN, 65535))), "4 channels, of which"),
        (jp2(np.dstack([GREY, ALPHA]), GREYS), "2 channels, of which nothing says"),
        (jp2(RGB, GREYS), "3 channels, of which nothing says"),
        (jp2(RGB, SRGB, cdef((0, 0, 1), (1, 0, 2))), "2 of 3 channels are described"),
        (jp2(RGB, SRGB, cdef((0, 0, 1), (1, 0, 2), (7, 0, 3))), "3 of 3 channels are described"),
        (jp2(RGB, SRGB, cdef((0, 0, 1), (1, 0, 1), (2, 0, 3))), r"stand for colours \[1, 1, 3\]"),
        (jp2(RGB, SRGB, box(b"cdef", b"\0\3\0\0")), "described|cut short"),
        (jp2(RGB, LAB), "colour space number 14"),
        (jp2(RGB, ESYCC), "colour space number 24"),
        (jp2(RGB, None, profile(b"Lab ")), "colour space of another profile"),
        (jp2(INDICES, SRGB, palette(COLOURS[:3])), "colour 3 of a palette of 3"),
        (jp2(INDICES, SRGB, palette(COLOURS)[:-8]), "nothing says which channel|cut short"),
        (jp2(INDICES, SRGB, palette(COLOURS, mapping=[(0, 1, 0), (0, 1, 1), (1, 1, 2)])), "that is not there"),
        (jp2(INDICES, SRGB, palette(COLOURS, 4)), "larger than its depth"),
        (jp2(RGB, SRGB) + box(b"jp2c", imagecodecs.jpeg2k_encode(RGB, codecformat="j2k")), "2 pictures"),
        (jp2(RGB, SRGB, size=(13, 16, 3)), "13×16 pixels of 3 channels, its codestream says 12×16 pixels of 3"),
    ],
)
def test_what_is_not_understood_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_what_pillow_writes_is_read():
    for mode in ("L", "LA", "RGB", "RGBA"):
        picture = Image.fromarray(RGB).convert(mode)
        expected = np.asarray(picture.convert("L" if mode in ("L", "LA") else "RGB"))
        np.testing.assert_array_equal(decode(samples.by_pillow(picture, "JPEG2000", irreversible=False)), expected)
