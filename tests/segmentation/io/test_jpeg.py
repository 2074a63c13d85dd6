"""JPEGs as cameras, webcams and scanners write them: what concerns no pixel does not matter, what does is refused."""

import io
import struct
from itertools import pairwise

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from samples import GREY, RGB, by_pillow

from segmentation.errors import ImageError
from segmentation.io.images import decode, header_of

PLAIN = by_pillow(GREY, "JPEG", quality=90)
COLOUR = by_pillow(RGB, "JPEG", quality=90)
PROGRESSIVE = by_pillow(np.tile(RGB, (4, 4, 1)), "JPEG", progressive=True)
RESTARTS = by_pillow(np.tile(GREY, (4, 4)), "JPEG", restart_marker_blocks=4)


def segments(data):
    """Cut a JPEG at the begin of every segment, up to its first scan."""
    at, cuts = 2, []
    while data[at + 1] != 0xDA:
        cuts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return [*cuts, at]


def without(data, *markers):
    """Leave segments of these kinds out."""
    cuts = segments(data)
    kept = [data[a:b] for a, b in pairwise(cuts) if data[a + 1] not in markers]
    return data[:2] + b"".join(kept) + data[cuts[-1] :]


def before_segment(data, number, extra):
    at = segments(data)[number]
    return data[:at] + extra + data[at:]


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def by_libjpeg(data):
    """Decode by another build of libjpeg, which fills what is missing."""
    return imagecodecs.jpeg8_decode(data)


ODD = {
    "stray bytes between segments": before_segment(PLAIN, 1, b"\x00camera\x12"),
    "stray bytes behind every segment": PLAIN[:2]
    + b"".join(PLAIN[a:b] + b"\x0b\0\0" for a, b in pairwise(segments(PLAIN)))
    + PLAIN[segments(PLAIN)[-1] :],
    "an escaped 0xFF between segments": before_segment(COLOUR, 2, b"\xff\x00\x17"),
    "0xFF before a marker": before_segment(PLAIN, 3, b"\xff" * 9),
    "a restart mark behind the last interval": RESTARTS[:-2] + b"\xff\xd3" + RESTARTS[-2:],
    "a restart mark without intervals": PLAIN[:-2] + b"\xff\xd0" + PLAIN[-2:],
    "two restart marks and padding": RESTARTS[:-2] + b"\xff\xd3\0\0\0\xff\xd4" + RESTARTS[-2:],
    "a restart mark in a progressive one": PROGRESSIVE[:-2] + b"\xff\xd0" + PROGRESSIVE[-2:],
    "zeros behind the scan": PLAIN[:-2] + bytes(64) + PLAIN[-2:],
    "one stray byte behind the scan": PLAIN[:-2] + b"\x20" + PLAIN[-2:],
    "0xFF behind the scan": COLOUR[:-2] + b"\xff" * 33 + COLOUR[-2:],
    "padding of a colour picture": COLOUR[:-2] + b"\x20" * 5000 + COLOUR[-2:],
    "padding behind every interval": RESTARTS.replace(b"\xff\xd0", b"\0\0\xff\xd0").replace(b"\xff\xd1", b"\0\xff\xd1"),
    "padding of a progressive one": PROGRESSIVE[:-2] + bytes(7) + PROGRESSIVE[-2:],
    "no tables of codes (motion JPEG)": without(PLAIN, 0xC4),
    "no tables of codes, in colour": without(COLOUR, 0xC4),
    "AVI1 notes and no tables": before_segment(without(COLOUR, 0xC4), 1, segment(0xE0, b"AVI1\0" + bytes(9))),
    "a short JFIF segment": PLAIN[:2] + segment(0xE0, b"JFIF\0") + PLAIN[2 + 18 :],
    "no JFIF segment": without(PLAIN, 0xE0),
    "two JFIF segments": before_segment(PLAIN, 1, PLAIN[2:20]),
    "notes of an impossible length": before_segment(PLAIN, 1, b"\xff\xe5\0\0"),
    "a comment of length 1": before_segment(COLOUR, 1, b"\xff\xfe\0\1"),
    "damaged Photoshop notes": before_segment(PLAIN, 1, segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed")),
    "a damaged profile": before_segment(PLAIN, 1, segment(0xE2, b"ICC_PROFILE\0")),
    "damaged pointers to other pictures": before_segment(PLAIN, 1, segment(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f")),
    "a short note of Adobe's": before_segment(PLAIN, 1, segment(0xEE, b"Adobe\0")),
    "its height again behind the scan": PLAIN[:-2] + segment(0xDC, struct.pack(">H", 12)) + PLAIN[-2:],
    "a second picture for the other eye": by_pillow(
        Image.fromarray(GREY), "MPO", save_all=True, append_images=[Image.fromarray(GREY[::-1])], quality=90
    ),
    "something behind the end": PLAIN + b"\xff\xd8\xff" + bytes(999),
    "a baseline scan that names other coefficients": PLAIN.replace(b"\x01\x01\0\0\x3f\0", b"\x01\x01\0\0\0\0"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_concerns_no_pixel_does_not_matter(name):
    data = ODD[name]
    np.testing.assert_array_equal(decode(data), by_libjpeg(data))
    plain = {12 * 16: PLAIN, 12 * 16 * 3: COLOUR, 12 * 16 * 16: RESTARTS, 12 * 16 * 48: PROGRESSIVE}[decode(data).size]
    np.testing.assert_array_equal(decode(data), decode(plain))
    assert header_of(io.BytesIO(data)).shape_text == header_of(io.BytesIO(plain)).shape_text


def test_the_orientation_of_a_picture_with_other_notes_damaged_is_kept():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = by_pillow(np.tile(GREY, (1, 2)), "JPEG", exif=exif)
    odd = before_segment(data, 1, b"\0\0" + segment(0xED, b"Photoshop 3.0\x008BIM"))
    np.testing.assert_array_equal(decode(odd), np.rot90(by_libjpeg(data), -1))


def test_twelve_bits_come_upright_too():
    deep = (GREY[:8, :8].astype(np.uint16)) * 16
    data = imagecodecs.jpeg8_encode(deep, level=98, bitspersample=12)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = data[:2] + segment(0xE1, exif.tobytes()) + data[2:]
    np.testing.assert_array_equal(decode(turned), decode(data)[::-1, ::-1])


def cut(data, kept):
    """Leave the end of a scan away, and put the end mark behind it."""
    return data[: int(len(data) * kept)] + b"\xff\xd9"


BIG = by_pillow(np.tile(RGB, (8, 8, 1)), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (PLAIN[:-2], "without an end mark"),
        (cut(BIG, 0.8), "ends before its last block"),
        (cut(BIG, 0.8)[:-2] + bytes(5000) + b"\xff\xd9", "goes on behind its last block"),
        (cut(BIG, 0.8)[:-2] + b"\x55" * 5000 + b"\xff\xd9", "goes on behind its last block|a code that is none"),
        (cut(PROGRESSIVE, 0.7), "JPEG"),
        (RESTARTS.replace(b"\xff\xd1", b"", 1), "restart intervals, or not in order"),
        (PLAIN[:-2] + BIG[-60:-2] + PLAIN[-2:], "goes on behind its last block"),
        (without(PROGRESSIVE, 0xC4), "a table of codes is missing"),
        (without(PLAIN, 0xDB), "a table of steps is missing"),
        (PLAIN[:2] + PLAIN, "a second start mark"),
        (before_segment(PLAIN, 1, segment(0xF7, b"")), "a marker of kind 0xF7"),
        (before_segment(without(COLOUR, 0xE0), 0, segment(0xEE, b"Adobe\0\x64\0\0\0\0\7")), "transform 7; 0 and 1"),
        (COLOUR.replace(b"\xff\xc0", b"\xff\xc9"), "JPEG of kind 9"),
        (COLOUR.replace(b"\xff\xc0", b"\xff\xc3"), "JPEG of kind 3"),
    ],
)
def test_what_concerns_pixels_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


@pytest.mark.parametrize("transform", [0, 1])
def test_colours_are_coded_as_adobes_note_says(transform):
    data = before_segment(without(COLOUR, 0xE0), 0, segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])))
    np.testing.assert_array_equal(decode(data), by_libjpeg(data))
    assert np.array_equal(decode(data), decode(COLOUR)) == bool(transform)


@pytest.mark.parametrize("transform", [0, 1, 2, 255])
def test_a_jfif_segment_goes_before_adobes_note(transform):
    data = before_segment(COLOUR, 1, segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])))
    np.testing.assert_array_equal(decode(data), decode(COLOUR))


def test_four_inks_are_stored_inverted():
    smooth = np.dstack([np.tile(np.arange(16, dtype=np.uint8) * 16, (16, 1))] * 3)
    picture = Image.fromarray(smooth).convert("CMYK")
    data = by_pillow(picture, "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(decode(data), smooth, atol=4)
