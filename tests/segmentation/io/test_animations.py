"""Animations frame by frame as a player shows them, at full depth, and stills of the same formats."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from samples import DEEP, DEEP_RGB, GREY, RGB, by_pillow, png_chunk

from segmentation.errors import ImageError, LimitError
from segmentation.io.images import count_frames, decode, header_of

KEEP, CLEAR, RESTORE = 0, 1, 2
SOURCE, OVER = 0, 1


def packed(array):
    """Pack the rows of a picture as PNG has them."""
    return zlib.compress(b"".join(b"\0" + row.astype(f">u{row.itemsize}").tobytes() for row in array))


def apng(frames, still=None, *, color=None, declared=None, shuffled=False):
    """Write an APNG of (array, left, top, disposal, blending); with a still, that is no part of the animation."""
    first = frames[0][0] if still is None else still
    channels = 1 if first.ndim == 2 else first.shape[2]
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if color is None else color
    head = struct.pack(">IIBBBBB", first.shape[1], first.shape[0], 8 * first.itemsize, color, 0, 0, 0)
    parts = [(b"IHDR", head), (b"acTL", struct.pack(">II", len(frames) if declared is None else declared, 0))]
    if still is not None:
        parts.append((b"IDAT", packed(still)))
    number = 0
    for at, (array, left, top, disposal, blending) in enumerate(frames):
        place = struct.pack(">4IHHBB", array.shape[1], array.shape[0], left, top, 1, 10, disposal, blending)
        parts.append((b"fcTL", struct.pack(">I", number) + place))
        number += 1
        if at == 0 and still is None:
            parts.append((b"IDAT", packed(array)))
        else:
            for piece in (packed(array)[:9], packed(array)[9:]):
                parts.append((b"fdAT", struct.pack(">I", number + shuffled) + piece))
                number += 1
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in [*parts, (b"IEND", b"")])


def rgba(colour, alpha, height=12, width=16, dtype=np.uint8):
    return np.full((height, width, 4), (*colour, alpha), dtype)


RED, GREEN, BLUE = (200, 10, 20), (10, 180, 30), (0, 40, 220)


def test_a_still_for_old_viewers_is_no_frame():
    data = apng([(RGB, 0, 0, KEEP, SOURCE), (RGB[::-1], 0, 0, KEEP, SOURCE)], still=255 - RGB)
    assert count_frames(data) == 2
    np.testing.assert_array_equal(decode(data, frame=1), RGB)
    np.testing.assert_array_equal(decode(data, frame=2), RGB[::-1])


def test_of_an_animation_of_one_frame_that_frame_is_shown():
    data = apng([(GREY, 0, 0, KEEP, SOURCE)], still=255 - GREY)
    assert count_frames(data) == 1
    np.testing.assert_array_equal(decode(data), GREY)


@pytest.mark.parametrize("array", [DEEP, DEEP_RGB, np.dstack([DEEP_RGB, DEEP | 1]), np.dstack([DEEP, DEEP])])
def test_frames_keep_sixteen_bits(array):
    data = apng([(array, 0, 0, KEEP, SOURCE), (array[::-1], 0, 0, KEEP, SOURCE)])
    colours = array if array.ndim == 2 else array[..., 0] if array.shape[2] == 2 else array[..., :3]
    assert header_of(io.BytesIO(data), frame=1).itemsize == 2
    for frame, expected in ((1, colours), (2, colours[::-1]), (1, colours)):
        image = decode(data, frame=frame)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image, expected)


def test_frames_are_drawn_where_they_belong_and_taken_away_as_told():
    patch = rgba(GREEN, 255, 4, 5)
    data = apng(
        [
            (rgba(RED, 255), 0, 0, KEEP, SOURCE),
            (patch, 3, 2, RESTORE, SOURCE),
            (patch, 8, 6, CLEAR, SOURCE),
            (rgba(BLUE, 255, 1, 1), 0, 0, KEEP, OVER),
        ]
    )
    first = np.full((12, 16, 3), RED, np.uint8)
    second, third, fourth = first.copy(), first.copy(), first.copy()
    second[2:6, 3:8] = GREEN
    third[6:10, 8:13] = GREEN
    fourth[6:10, 8:13] = 0
    fourth[0, 0] = BLUE
    for frame, expected in enumerate((first, second, third, fourth), 1):
        np.testing.assert_array_equal(decode(data, frame=frame), expected)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_what_is_half_transparent_is_mixed(dtype, top):
    data = apng(
        [
            (rgba((top, 0, 0), top, dtype=dtype), 0, 0, KEEP, SOURCE),
            (rgba((0, top, 0), top // 5, dtype=dtype), 0, 0, KEEP, OVER),
            (rgba((0, 0, 7), 0, dtype=dtype), 0, 0, KEEP, OVER),
        ]
    )
    mixed = np.array([top * 4 // 5, top // 5, 0])
    np.testing.assert_array_equal(decode(data, frame=2)[0, 0], mixed)
    np.testing.assert_array_equal(decode(data, frame=3)[0, 0], mixed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (apng([(GREY, 0, 0, KEEP, SOURCE)] * 2, declared=3), "2 of 3 frames"),
        (apng([(GREY, 0, 0, KEEP, SOURCE)] * 3, declared=2), "3 of 2 frames"),
        (apng([(GREY, 0, 0, KEEP, SOURCE)] * 2, shuffled=True), "not in order"),
        (apng([(GREY, 0, 0, KEEP, SOURCE), (GREY, 1, 0, KEEP, SOURCE)]), "frame 2 of 12×16 on a 12×16 canvas"),
        (apng([(GREY, 0, 0, KEEP, SOURCE), (GREY, 0, 0, 3, SOURCE)]), "frame 2 of"),
        (apng([(GREY, 0, 0, KEEP, SOURCE)] * 20_000), "20,000 frames; 10,000 are allowed"),
    ],
)
def test_an_animation_that_no_player_shows_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data, frame=2)


def test_pixels_of_every_frame_are_counted():
    whole = apng([(GREY, 0, 0, KEEP, SOURCE), (GREY[:6], 0, 0, KEEP, SOURCE)])
    head = struct.pack(">4IHHBB", 16, 6, 0, 0, 1, 10, KEEP, SOURCE)
    larger = struct.pack(">4IHHBB", 16, 7, 0, 0, 1, 10, KEEP, SOURCE)
    data = whole.replace(
        png_chunk(b"fcTL", struct.pack(">I", 1) + head), png_chunk(b"fcTL", struct.pack(">I", 1) + larger)
    )
    np.testing.assert_array_equal(decode(data, frame=1), GREY)
    for _ in range(2):  # the same reason again
        with pytest.raises(ImageError, match="unpack to 102 of 119 bytes"):
            decode(data, frame=2)


# --- GIF ------------------------------------------------------------------------------------------------------------

PALETTE = bytes([*RED, *GREEN, *BLUE, 255, 255, 255])
R, G, B, W = range(4)


def lzw(numbers):
    """Pack numbers below 4 as GIF does, without ever using a longer code: cleared before one is needed."""
    codes = []
    for number in numbers.ravel():
        codes += [4, int(number)]
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    return b"\2" + blocks + b"\0"


def gif(frames, canvas=(12, 16), *, end=b";", palette=PALETTE, background=W):
    """Write a GIF of (numbers, left, top, disposal, transparent number or None)."""
    data = b"GIF89a" + struct.pack("<HHBBB", canvas[1], canvas[0], 0x81 if palette else 0, background, 0) + palette
    for numbers, left, top, disposal, transparent in frames:
        data += b"!\xf9\4" + struct.pack("<BHBB", disposal << 2 | (transparent is not None), 5, transparent or 0, 0)
        data += b"," + struct.pack("<HHHHB", left, top, numbers.shape[1], numbers.shape[0], 0) + lzw(numbers)
    return data + end


def coloured(numbers):
    return np.frombuffer(PALETTE, np.uint8).reshape(4, 3)[numbers]


WHOLE = GREY % 4
SMALL = np.full((4, 5), G)
KEPT, CLEARED, RESTORED = 1, 2, 3


def test_disposal_is_a_matter_of_each_frame():
    data = gif(
        [
            (WHOLE, 0, 0, KEPT, None),
            (SMALL, 3, 2, CLEARED, None),
            (SMALL + 1, 9, 7, 0, None),
            (SMALL[:1, :1] + 1, 0, 0, RESTORED, None),
            (SMALL[:1, :1] + 2, 1, 0, KEPT, None),
        ]
    )
    shown = [coloured(WHOLE)]
    for top, left, height, width, colour in ((2, 3, 4, 5, G), (7, 9, 4, 5, B), (0, 0, 1, 1, B), (0, 1, 1, 1, W)):
        shown.append(shown[-1].copy())
        shown[-1][top : top + height, left : left + width] = coloured(colour)
        if colour == B and height == 4:
            shown[-1][2:6, 3:8] = coloured(W)  # cleared: the background
        if colour == W:
            shown[-1][0, 0] = shown[0][0, 0]
    for frame in (1, 2, 3, 4, 5, 3):
        np.testing.assert_array_equal(decode(data, frame=frame), shown[frame - 1])


def test_transparent_pixels_let_the_frame_before_through():
    above = np.where(GREY > 100, R, B)
    data = gif([(WHOLE, 0, 0, KEPT, None), (above, 0, 0, KEPT, R)])
    np.testing.assert_array_equal(decode(data, frame=2), coloured(np.where(above == R, WHOLE, B)))


def test_the_canvas_grows_with_the_first_frame_and_cuts_the_others():
    data = gif([(WHOLE, 0, 0, KEPT, None), (SMALL, 14, 10, KEPT, None)], canvas=(6, 4))
    assert (
        header_of(io.BytesIO(data), frame=1).shape_text
        == header_of(io.BytesIO(gif([(WHOLE, 0, 0, 0, None)]))).shape_text
    )
    second = coloured(WHOLE).copy()
    second[10:, 14:] = coloured(G)
    np.testing.assert_array_equal(decode(data, frame=1), coloured(WHOLE))
    np.testing.assert_array_equal(decode(data, frame=2), second)


def test_a_frame_beyond_the_canvas_changes_nothing():
    data = gif([(WHOLE, 0, 0, KEPT, None), (SMALL, 900, 2, KEPT, None)])
    np.testing.assert_array_equal(decode(data, frame=2), coloured(WHOLE))


def test_what_no_frame_covers_is_background():
    expected = coloured(np.full((12, 16), W)).copy()
    expected[2:6, 3:8] = coloured(G)
    np.testing.assert_array_equal(decode(gif([(SMALL, 3, 2, KEPT, None)])), expected)


@pytest.mark.parametrize("end", [b"", b"\0", b"\0\0;", b"\0" * 99, b"!\xfe\4note\0", b";trailing"])
def test_the_end_mark_may_be_missing_behind_whole_frames(end):
    frames = [(WHOLE, 0, 0, KEPT, None), (SMALL, 3, 2, KEPT, None)]
    assert count_frames(gif(frames, end=end)) == 2
    np.testing.assert_array_equal(decode(gif(frames, end=end), frame=2), decode(gif(frames), frame=2))
    np.testing.assert_array_equal(decode(gif(frames[:1], end=end)), coloured(WHOLE))


def test_without_a_palette_numbers_are_greys():
    np.testing.assert_array_equal(decode(gif([(WHOLE, 0, 0, KEPT, None)], palette=b"")), np.dstack([WHOLE] * 3))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gif([(WHOLE, 0, 0, KEPT, None)], end=b"")[:-1], "GIF cut short"),
        (gif([(WHOLE, 0, 0, KEPT, None)], end=b"")[:-30], "GIF cut short"),
        (gif([(WHOLE, 0, 0, KEPT, None)], end=b"!\xf9\4\0"), "GIF cut short"),
        (gif([], end=b""), "GIF cut short"),
        (gif([]), "GIF without a frame"),
        (gif([(WHOLE, 0, 0, KEPT, None)], end=b"?;"), "a block of kind 63"),
        (gif([(np.zeros((0, 5), int), 0, 0, KEPT, None)]), "frame 1 has 0×5 pixels"),
    ],
)
def test_a_gif_that_is_not_whole_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_a_frame_with_fewer_pixels_than_its_size_is_refused():
    data = gif([(WHOLE, 0, 0, KEPT, None)])
    short = data.replace(struct.pack("<HHHHB", 0, 0, 16, 12, 0), struct.pack("<HHHHB", 0, 0, 16, 13, 0))
    with pytest.raises(ImageError, match=r"damaged GIF|unsupported GIF"):
        decode(short)


@pytest.mark.parametrize("number", [1, 2])
def test_a_frame_larger_than_any_picture_is_refused_before_room_is_made(number):
    data = bytearray(gif([(WHOLE, 0, 0, KEPT, None)] * 2))
    at = [n for n in range(len(data)) if data[n : n + 9] == b",\0\0\0\0\x10\0\x0c\0"][number - 1]
    struct.pack_into("<HH", data, at + 5, 60_000, 60_000)
    with pytest.raises((LimitError, ImageError), match=r"3,600,000,000 pixels|60000×60000 pixels"):
        decode(bytes(data), frame=2)


def test_frames_of_a_webp_are_mixed_as_its_player_does():
    below, above = Image.new("RGBA", (16, 12), (*RED, 255)), Image.new("RGBA", (16, 12), (0, 0, 0, 0))
    above.paste(Image.new("RGBA", (5, 4), (*GREEN, 255)), (3, 2))
    data = by_pillow(below, "WEBP", save_all=True, append_images=[above], lossless=True)
    expected = np.full((12, 16, 3), RED, np.uint8)
    expected[2:6, 3:8] = GREEN
    assert count_frames(data) == 2
    np.testing.assert_array_equal(decode(data, frame=1), np.full((12, 16, 3), RED))
    np.testing.assert_array_equal(decode(data, frame=2)[2:6, 3:8], expected[2:6, 3:8])
