import io
import struct
import zlib

import numpy as np
import pytest
import samples
from PIL import Image
from samples import BITS, GREY, RGB, by_pillow, by_tifffile, png, png_chunk, tiff, tiff_tags

from segmentation.errors import ImageError, LimitError
from segmentation.io.images import count_frames, decode, header_of

SAMPLES = samples.samples()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_kind_decodes_to_the_pixels_that_went_in(sample):
    image = decode(sample.data)
    assert image.shape == sample.pixels.shape
    if sample.tolerance:
        assert np.abs(image.astype(int) - sample.pixels).max() <= sample.tolerance
    else:
        assert image.dtype == sample.pixels.dtype or sample.pixels.dtype == np.int64
        np.testing.assert_array_equal(image, sample.pixels)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_header_tells_size_and_depth_before_anything_is_decoded(sample):
    header = header_of(io.BytesIO(sample.data))
    image = decode(sample.data)
    assert {header.height, header.width} == set(image.shape[:2])
    assert header.itemsize == image.dtype.itemsize
    assert header.channels >= (image.shape[2] if image.ndim == 3 else 1)
    with pytest.raises(LimitError, match="are allowed"):
        decode(sample.data, max_pixels=header.pixels - 1)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_no_file_that_is_cut_short_is_filled(sample, kept):
    whole = decode(sample.data)
    try:
        image = decode(sample.data[: int(len(sample.data) * kept)])
    except ImageError:
        return
    np.testing.assert_array_equal(image, whole)  # only what follows the picture was missing


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_any_size_is_counted_right(interlaced):
    for height, width in ((1, 1), (1, 9), (9, 1), (3, 5), (8, 8), (17, 23)):
        picture = Image.fromarray(GREY).resize((width, height))
        data = by_pillow(picture, "PNG")
        if interlaced:  # Pillow writes none: pixels of all passes are one value, so that their order does not count
            passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
            rows = b""
            for left, top, across, down in passes:
                n = len(range(left, width, across))
                rows += (b"\0" + b"\7" * n) * len(range(top, height, down)) if n else b""
            header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
            chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
            data = b"\x89PNG\r\n\x1a\n" + chunks
            picture = np.full((height, width), 7)
        np.testing.assert_array_equal(decode(data), np.asarray(picture))


def stored_png(stream, width=16, height=12):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(name, body) for name, body in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    )


ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)


def stripless(array):
    return tiff([(256, 4, (array.shape[1],)), (257, 4, (array.shape[0],))], b"")


def circle():
    data = bytearray(by_tifffile(GREY))
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


def closed(data):
    """Cut a JPEG in its middle and put the end mark behind: what libjpeg fills in silence."""
    return data[: int(len(data) * 0.6)] + b"\xff\xd9"


def huge_webp():
    data = bytearray(by_pillow(RGB, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff\xff\xff\xff\xff\xff"
    return bytes(data)


def j2k(tile=(16, 12), size=(16, 12), layers=1):
    siz = struct.pack(">HIIIIIIIIH", 0, *size, 0, 0, *tile, 0, 0, 1) + b"\x07\x01\x01"
    cod = struct.pack(">BBHBBBBBB", 0, 0, layers, 0, 1, 2, 2, 0, 1)
    parts = [(0xFF51, siz), (0xFF52, cod)]
    return b"\xff\x4f" + b"".join(struct.pack(">HH", m, len(b) + 2) + b for m, b in parts) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (stored_png(zlib.compress(ROWS)[:-4]), "unpack to 204 of 204"),
        (stored_png(zlib.compress(ROWS)[:-1] + b"?"), "cannot be unpacked"),
        (stored_png(zlib.compress(ROWS[:-17])), "unpack to 187 of 204"),
        (stored_png(zlib.compress(ROWS + ROWS)), "more pixels than its header declares"),
        (stored_png(zlib.compress(bytes(2**28), 9)), "more pixels than its header declares"),
        (png(GREY, 8, 0)[:-12], "without an end mark"),
        (by_pillow(GREY, "PNG") .replace(b"IHDR", b"IHDX"), "does not begin with its header"),
        (by_pillow(GREY, "JPEG")[:-2], "JPEG cut short"),
        (by_pillow(GREY, "GIF")[:-2], "GIF cut short"),
        (by_pillow(RGB, "WEBP")[:-9], "WebP cut short"),
        (b"P5 16 12 255\n" + GREY.tobytes() * 2, "192 values more than declared"),
        (b"P5 16 12 99\n" + GREY.tobytes(), "99 is the largest allowed"),
        (b"P2 2 1 9 4 a\n", "no number"),
        (b"P2 2 1 99 4 98", "ends within a number"),
        (b"P5 99999999999999999999999999999999999999 1 9 ", "too long"),
        (tiff(tiff_tags(GREY, 8, 1), GREY.tobytes()[:-1]), "do not unpack to the pixels"),
        (tiff(tiff_tags(GREY, 8, 1, 8), zlib.compress(GREY.tobytes()[:-1])), "do not unpack to the pixels"),
        (tiff(tiff_tags(GREY, 8, 10, samples=3), RGB.tobytes()), "colour model 10"),
        (tiff(tiff_tags(GREY, 8, 6, samples=3), RGB.tobytes()), "576 bytes of subsampled colours; 288 are"),
        (tiff(tiff_tags(GREY, 8, 1, 50001), GREY.tobytes()), "compression 50001"),
        (tiff(tiff_tags(GREY, 8, 3), GREY.tobytes()), "palette is missing"),
        (tiff([*tiff_tags(GREY, 4, 3), (320, 3, (1, 2, 3))], b"\x77" * 96), "a palette of 1"),
        (tiff([*tiff_tags(GREY, 8, 1), (305, 2, (65,))], GREY.tobytes()).replace(struct.pack("<HHI", 305, 2, 1),
            struct.pack("<HHI", 305, 2, 2**31)), "tag 305 with 2,147,483,648 values"),
        (tiff([*tiff_tags(GREY, 8, 1), *((tag, 4, (2**20,)) for tag in (322, 323, 324, 325))], GREY.tobytes()),
            "tiles of 1,048,576×1,048,576"),
        (tiff([*tiff_tags(GREY, 8, 1, samples=200)], bytes(200 * 192)), "200 channels"),
        (circle(), "runs in a circle"),
        (tiff([*tiff_tags(GREY, 8, 1), (254, 4, (1,)), (330, 4, (8,))], GREY.tobytes()), "previews only"),
        (by_tifffile(np.stack([GREY] * 3), imagej=True, metadata={}), "3 images|3 pages"),
        (closed(by_pillow(np.tile(RGB, (20, 20, 1)), "JPEG")), "JPEG"),
        (closed(by_pillow(np.tile(RGB, (20, 20, 1)), "JPEG", progressive=True)), "JPEG"),
        (by_pillow(GREY, "JPEG")[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 300 + b"\xff\xd9", "comes twice"),
        (j2k(tile=(1, 1), size=(500, 500)), "250,000 tiles"),
        (j2k(layers=65535), "65,535 layers"),
        (j2k()[:-2], "JPEG 2000 cut short"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_hostile_is_refused_with_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


@pytest.mark.parametrize("data", [huge_webp(), j2k(size=(2**31 - 1, 2**31 - 1), tile=(2**31 - 1, 2**31 - 1))])
def test_sizes_are_checked_before_a_decoder_makes_room(data):
    with pytest.raises(LimitError, match="64,000,000 are allowed"):
        decode(data)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_every_frame_of_an_animation_is_a_picture_of_its_own(kind):
    data, frames = samples.animation(kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert count_frames(data) == 3
    with pytest.raises(ImageError, match="3 frames; --frames each"):
        decode(data)
    for number in (1, 3, 2):  # also backwards
        image = decode(data, frame=number)
        np.testing.assert_array_equal(image if image.ndim == 2 else image[..., 0], frames[number - 1])
    with pytest.raises(ImageError, match="there is no number 4"):
        decode(data, frame=4)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}, {"compression": "deflate"}])
def test_every_page_of_a_tiff_is_a_picture_of_its_own(options):
    data, stack = samples.pages(4, **options)
    assert count_frames(data) == 4
    for number, page in enumerate(stack, 1):
        np.testing.assert_array_equal(decode(data, frame=number), page)


def test_a_picture_with_its_preview_is_one_picture():
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY[::4, ::4], subfiletype=1)
        writer.write(GREY)
        writer.write(GREY[::2, ::2], subfiletype=1)
    assert count_frames(buffer.getvalue()) == 1
    np.testing.assert_array_equal(decode(buffer.getvalue()), GREY)


def test_a_photograph_with_damaged_notes_is_a_photograph():
    data = by_pillow(RGB, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\0\0")
    assert decode(data).shape == RGB.shape


def test_a_png_of_sixteen_bits_of_colour_comes_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 3
    extra = png_chunk(b"eXIf", exif.tobytes()[6:])
    np.testing.assert_array_equal(decode(png(samples.DEEP_RGB, 16, 2, extra)), samples.DEEP_RGB[::-1, ::-1])


def test_bits_are_black_and_white_whatever_holds_them():
    for data in (by_pillow(Image.fromarray(BITS), "PNG"), by_pillow(Image.fromarray(BITS), "BMP")):
        np.testing.assert_array_equal(decode(data)[..., 0] if decode(data).ndim == 3 else decode(data), BITS * 255)
