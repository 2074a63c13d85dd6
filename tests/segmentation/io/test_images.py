import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segmentation.errors import ImageError, LimitError
from segmentation.io.images import decode, decode_mask, header_of

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
RGB = np.dstack([GREY, GREY[::-1], 255 - GREY])


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def png16(array):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(GREY, "PNG"), GREY),
        (encoded(RGB, "PNG"), RGB),
        (encoded(RGB, "BMP"), RGB),
        (encoded(GREY.astype(np.uint16) * 257, "PNG"), GREY.astype(np.uint16) * 257),
        (png16(RGB.astype(np.uint16) * 257), RGB.astype(np.uint16) * 257),
        (tiff(GREY), GREY),
        (tiff(RGB, photometric="rgb"), RGB),
        (tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
        (tiff(GREY, compression="lzw"), GREY),
        (tiff(GREY, compression="zstd"), GREY),
        (tiff(GREY, byteorder=">", bigtiff=True), GREY),
        (tiff(GREY.astype(np.float32) / 7), GREY.astype(np.float32) / 7),
        (tiff(255 - GREY, photometric="miniswhite"), GREY),
        (tiff(GREY > 100, photometric="minisblack"), np.where(GREY > 100, 255, 0)),
        (tiff(GREY > 100, photometric="miniswhite"), np.where(GREY > 100, 0, 255)),
        (encoded(Image.fromarray(GREY > 100), "PNG"), np.where(GREY > 100, 255, 0)),
    ],
    ids=["png", "rgb", "bmp", "png16", "rgb-png16", "tiff", "rgb-tiff", "planar", "lzw", "zstd", "big-endian", "float",
         "min-is-white", "bilevel-tiff", "bilevel-white-tiff", "bilevel-png"],
)  # fmt: skip
def test_every_depth_and_layout_decodes_to_its_values(data, expected):
    image = decode(data)
    np.testing.assert_array_equal(image, expected)
    assert image.flags["C_CONTIGUOUS"]


def test_palettes_are_looked_up():
    palette = Image.fromarray(RGB).quantize(4)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_is_dropped_and_the_colours_below_it_are_kept():
    alpha = np.full(GREY.shape, 7, np.uint8)
    np.testing.assert_array_equal(decode(encoded(np.dstack([RGB, alpha]), "PNG")), RGB)
    np.testing.assert_array_equal(decode(encoded(np.dstack([GREY, alpha]), "PNG")), GREY)
    np.testing.assert_array_equal(
        decode(tiff(np.dstack([RGB, alpha]), photometric="rgb", extrasamples=["unassalpha"])), RGB
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright_as_pillow_turns_them(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data), upright)


def test_cmyk_becomes_rgb():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert decode(encoded(cmyk, "JPEG", quality=100)).shape == RGB.shape
    from_tiff = decode(tiff(np.asarray(cmyk), photometric="separated"))
    np.testing.assert_array_equal(from_tiff, np.asarray(cmyk.convert("RGB")))


def test_the_content_decides_not_the_name(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(tiff(GREY))
    with path.open("rb") as file:
        header = header_of(file)
    assert (header.height, header.width, header.channels, header.itemsize) == (6, 8, 1, 1)


def cut(data):
    return data[: len(data) // 2]


def with_bad_checksum(data):
    at = data.index(b"IDAT")
    end = at + 4 + struct.unpack(">I", data[at - 4 : at])[0]
    return data[:end] + b"\0\0\0\0" + data[end + 4 :]


LARGE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>error 503</html>", "not an image"),
        (b"II*\0garbage and more garbage", "TIFF"),
        (cut(encoded(LARGE, "JPEG")), "JPEG cut short"),
        (cut(encoded(LARGE, "PNG")), "PNG cut short"),
        (cut(tiff(LARGE)), "cut short|damaged"),
        (with_bad_checksum(encoded(LARGE, "PNG")), "the checksum of chunk .IDAT. is wrong"),
        (tiff(np.stack([GREY] * 3), photometric="minisblack"), "pages|axes"),
        (tiff(GREY.astype(np.complex64)), "complex64"),
        (encoded(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "2 frames"),
    ],
    ids=["empty", "text", "noise", "cut-jpeg", "cut-png", "cut-tiff", "checksum", "pages", "complex", "animation"],
)  # fmt: skip
def test_what_is_not_one_whole_picture_is_refused_with_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_more_pixels_than_allowed_are_refused_by_the_header():
    data = encoded(np.zeros((1, 1), np.uint8), "PNG")
    at = data.index(b"IHDR") + 4
    header = struct.pack(">II", 10_000, 10_000) + data[at + 8 : at + 13]
    lie = data[:at] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[at + 17 :]
    with pytest.raises(ImageError, match="100,000,000 pixels; 64,000,000 are allowed"):
        decode(lie)
    with pytest.raises(LimitError, match="2 = 2 pixels; 1 are allowed"):
        decode(encoded(np.zeros((1, 2), np.uint8), "PNG"), max_pixels=1)


def test_a_mask_is_whatever_is_not_zero_in_any_channel():
    colour = np.zeros((2, 3, 3), np.uint8)
    colour[0, 1, 2] = 1
    np.testing.assert_array_equal(decode_mask(encoded(colour, "PNG")), colour.any(axis=2))


def test_a_mask_that_cannot_be_read_says_that_it_is_the_mask():
    with pytest.raises(ImageError, match=r"^mask: not an image"):
        decode_mask(b"text")
