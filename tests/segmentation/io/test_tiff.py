import io
import struct
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from samples import BITS, DEEP, GREY, REAL, RGB, SMOOTH, by_pillow, by_tifffile, sparse, tiff, tiff_tags

from segmentation.errors import ImageError, LimitError
from segmentation.io.images import count_frames, decode, decode_mask, decode_picture

PREDICTED = ("lzw", "deflate", "zstd", "lzma")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("packing", [None, "packbits", *PREDICTED])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_are_undone_where_they_were_taken_and_nowhere_else(dtype, packing, order):
    pixels = (DEEP / 3 if dtype[0] == "f" else DEEP % 100).astype(dtype)
    colours = np.dstack([pixels, pixels[::-1], pixels[:, ::-1]])
    predictor = packing in PREDICTED
    for options in ({}, {"tile": (16, 16)}, {"rowsperstrip": 5}):
        data = by_tifffile(pixels, compression=packing, predictor=predictor, byteorder=order, **options)
        if not predictor:  # the tag alone, which means nothing then
            data = with_predictor(data, 3 if dtype[0] == "f" else 2)
        np.testing.assert_array_equal(decode(data), pixels)
        for planar in ("contig", "separate"):
            array = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
            more = {"photometric": "rgb", "planarconfig": planar, **options}
            data = by_tifffile(array, compression=packing, predictor=predictor, byteorder=order, **more)
            np.testing.assert_array_equal(decode(data), colours)


def with_predictor(data, value):
    """Give a TIFF a predictor's tag in the place of that of its software."""
    order = "<" if data[:2] == b"II" else ">"
    data = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        at = file.pages[0].tags["Software"].offset
    return with_tag(data, at, struct.pack(order + "HHIHH", 317, 3, 1, value, 0))


def with_tag(data, at, tag):
    """Replace a tag, and bring tags in order again."""
    order = "<" if data[:2] == b"II" else ">"
    data[at : at + 12] = tag
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags = [bytes(data[start + 2 + 12 * n : start + 14 + 12 * n]) for n in range(count)]
    data[start + 2 : start + 2 + 12 * count] = b"".join(
        sorted(tags, key=lambda tag: struct.unpack_from(order + "H", tag))
    )
    return bytes(data)


@pytest.mark.parametrize(
    ("array", "predictor", "reason"),
    [(GREY, 3, "predictor 3 for uint8"), (GREY, 5, "predictor 5; "), (GREY, 34892, "predictor 34892; ")],
)
def test_differences_of_another_kind_are_refused(array, predictor, reason):
    data = tiff([*tiff_tags(array, 8, 1, 5), (317, 3, (predictor,))], imagecodecs.lzw_encode(array.tobytes()))
    with pytest.raises(ImageError, match=reason):
        decode(data)


def bands(count, model=1, extra=None):
    tags = tiff_tags(GREY, 8, model, samples=count)
    return tiff([*tags, *([(338, 3, extra)] if extra else [])], bytes(range(192)) * count)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bands(2), "with 2 channels; grey or RGB"),
        (bands(4), "with 4 channels; grey or RGB"),
        (bands(5), "with 5 channels; grey or RGB"),
        (bands(2, extra=(0,)), "with 2 channels; grey or RGB"),
        (bands(2, extra=(999,)), "with 2 channels; grey or RGB"),
        (bands(4, extra=(0, 0, 0)), "with 4 channels; grey or RGB"),
        (bands(3, extra=(0, 2)), "with 3 channels; grey or RGB"),
        (bands(4, extra=(2, 0, 0)), "with 4 channels; grey or RGB"),
        (bands(2, model=0), "with 2 channels; grey or RGB"),
        (bands(2, model=2), "with 2 channels; grey or RGB"),
        (bands(3, model=5), "with 3 channels; grey or RGB"),
        (bands(2, extra=(2, 2)), "2 channels that names 2 beyond its colours; 1 are expected"),
        (bands(4, extra=(2,)), "4 channels that names 1 beyond its colours; 3 are expected"),
        (bands(4, model=2, extra=(2, 0)), "4 channels that names 2 beyond its colours; 1 are expected"),
        (bands(3, model=2, extra=(2,)), "3 channels that names 1 beyond its colours; 0 are expected"),
        (bands(20, model=2), "with 20 channels"),
        (by_tifffile(np.stack([GREY] * 2), planarconfig="separate", photometric="minisblack"), "with 2 channels"),
        (by_tifffile(np.stack([GREY] * 4), planarconfig="separate", photometric="minisblack"), "with 4 channels"),
        (by_tifffile(np.dstack([GREY] * 4), planarconfig="contig", photometric="minisblack", tile=(16, 16)),
            "with 4 channels"),
        (tiff([*tiff_tags(GREY, 8, 5, samples=4), (332, 3, (2,))], bytes(192 * 4)), "inks other than cyan"),
    ],
)  # fmt: skip
def test_channels_that_would_be_lost_are_refused_with_their_number(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def declared(array, text, **options):
    return by_tifffile(array, extratags=[(42113, "s", 0, text, True)], **options)


TOP32 = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("u1", 255, "255"), ("u1", 0, "0"), ("u1", 255, "255.0"), ("u1", 7, " 7 "), ("u1", 7, "7\0\0"),
        ("u2", 65535, "65535"), ("i2", -32768, "-32768"), ("i2", -9999, "-9999.000"), ("i4", -(2**31), "-2147483648"),
        ("u8", 2**64 - 1, str(2**64 - 1)), ("i8", 2**62 + 1, str(2**62 + 1)),
        ("f4", -9999, "-9999"), ("f4", -9999, "-9999,0"), ("f4", np.nan, "nan"), ("f4", np.nan, "-NaN"),
        ("f4", np.inf, "inf"), ("f4", -np.inf, "-inf"), ("f4", 1e20, "1e20"), ("f4", 0.1, "0.1"),
        ("f4", -TOP32, "-3.4028234663852886e+38"), ("f4", -TOP32, "-3.40282346639e+38"), ("f4", -TOP32, "-3.4e+38"),
        ("f4", -TOP32, "-1.7976931348623157e+308"), ("f8", -1.7976931348623157e308, "-1.79769313486e+308"),
        ("f8", -9999, "-9999 -9999 -9999"), ("f2", -32768, "-32768"),
        ("f4", np.nan, "-nan(ind)"), ("f4", np.nan, "1.#QNAN"), ("f8", np.nan, "-1.#IND"),
        ("f4", 1.70141e38, "1.70141003513336182e+38"), ("f4", 3.4e-5, "3.4e-05"),
    ],
)  # fmt: skip
def test_what_is_declared_to_be_no_data_is_none(dtype, value, text):
    pixels = (GREY % 50 + 20).astype(dtype)
    pixels[2:4, 3:9] = value
    valid = np.ones(GREY.shape, bool)
    valid[2:4, 3:9] = False
    for options in ({}, {"compression": "deflate", "rowsperstrip": 5}, {"tile": (16, 16), "byteorder": ">"}):
        picture = decode_picture(declared(pixels, text, **options))
        np.testing.assert_array_equal(picture.valid, valid)
        np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("text", ["-9999", "256", "0.5", "nan", "1e20", "-1", "-3.4028234663852886e+38", "9" * 400, ""])
def test_a_value_that_no_sample_can_take_is_that_of_none(text):
    picture = decode_picture(declared(GREY, text))
    assert picture.valid is None
    np.testing.assert_array_equal(picture.pixels, GREY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("none", "'none' to be no data; a number"),
        ("1_0", "'1_0' to be no data; a number"),
        ("1 2", "'1 2' .* one number"),
    ],
)
def test_what_is_no_number_is_refused(text, reason):
    with pytest.raises(ImageError, match=reason):
        decode(declared(GREY, text))


@pytest.mark.parametrize(
    ("dtype", "near", "text"), [("f2", [254, 254.5, 255.5, 256], "255"), ("f4", [0.9999997, 1.0000005], "1")]
)
def test_values_near_a_whole_number_are_data(dtype, near, text):
    pixels = (GREY % 50 + 20).astype(dtype)
    pixels[0, : len(near)] = near
    pixels[1, 5] = float(text)
    assert np.argwhere(~decode_picture(declared(pixels, text)).valid).tolist() == [[1, 5]]


def test_no_data_is_told_before_colours_are_turned_looked_up_or_drawn():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for options in ({"photometric": "miniswhite"}, {"photometric": "palette", "colormap": np.zeros((3, 256), "u2")}):
        assert np.argwhere(~decode_picture(declared(pixels, "3", **options)).valid).tolist() == [[0, 3]]
    bits = decode_picture(declared(BITS, "1", photometric="minisblack"))
    np.testing.assert_array_equal(bits.valid, ~BITS)


def test_a_pixel_of_colours_is_no_data_if_all_of_them_are():
    colours = RGB.copy()
    colours[0, :5] = 9
    colours[1, 2, 0] = 9
    picture = decode_picture(declared(colours, "9", photometric="rgb"))
    assert np.argwhere(~picture.valid).tolist() == [[0, column] for column in range(5)]
    with_alpha = np.dstack([colours, GREY])
    picture = decode_picture(declared(with_alpha, "9", photometric="rgb", extrasamples=["unassalpha"]))
    assert (~picture.valid).sum() == 5


def test_no_data_is_turned_with_the_picture():
    data = tiff([*tiff_tags(GREY, 8, 1), (274, 3, (6,)), (42113, 2, tuple(b"29\0"))], GREY.tobytes())
    picture = decode_picture(data)
    np.testing.assert_array_equal(picture.pixels, np.rot90(GREY, -1))
    np.testing.assert_array_equal(picture.valid, np.rot90(GREY, -1) != 29)


def test_an_empty_piece_holds_the_declared_no_data():
    picture = decode_picture(sparse(declared(REAL, "-9999", rowsperstrip=4), [1]))
    np.testing.assert_array_equal(picture.valid, np.repeat([True, False, True], 4)[:, None].repeat(16, axis=1))
    assert (picture.pixels[4:8] == -9999).all()
    picture = decode_picture(sparse(declared(GREY, "-9999", rowsperstrip=4), [1]))
    assert picture.valid is None
    assert not picture.pixels[4:8].any()
    planes = by_tifffile(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", rowsperstrip=6)
    expected = RGB.copy()
    expected[6:, :, 1] = 0
    np.testing.assert_array_equal(decode(sparse(planes, [3])), expected)


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 4}, {"tile": (16, 16)}])
def test_a_picture_of_empty_pieces_alone_is_refused(options):
    data = by_tifffile(GREY, **options)
    with pytest.raises(ImageError, match=r"all empty \([13]\): nothing of the picture"):
        decode(sparse(data, range(3 if "rowsperstrip" in options else 1)) + bytes(2**10))


@pytest.mark.parametrize("codes", [(324,), (325,)])
def test_a_piece_with_an_offset_or_a_length_alone_is_lost_not_empty(codes):
    data = bytearray(by_tifffile(np.tile(GREY, (3, 2)), tile=(16, 16)))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        for code in codes:
            tag = file.pages[0].tags[code]
            size = {3: 2, 4: 4}[int(tag.dtype)]
            data[tag.valueoffset : tag.valueoffset + size] = bytes(size)
    with pytest.raises(ImageError, match="5 of 6 pieces are there"):
        decode(bytes(data))


def with_mask(mask, **options):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY, metadata=None)
        writer.write(mask, subfiletype=2, photometric="minisblack", metadata=None, **options)
        writer.write(GREY[::2, ::2], subfiletype=1, metadata=None)
        writer.write(BITS[::2, ::2], subfiletype=5, metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:  # tifffile writes masks of one bit only
        data[file.pages[1].tags[254].valueoffset] = 4
    return bytes(data)


def test_a_page_that_masks_the_one_before_says_what_is_data():
    assert count_frames(with_mask(BITS)) == 1
    for mask in (BITS, BITS.astype(np.uint8) * 255):
        picture = decode_picture(with_mask(mask, compression="deflate"))
        np.testing.assert_array_equal(picture.pixels, GREY)
        np.testing.assert_array_equal(picture.valid, BITS)
    with pytest.raises(ImageError, match="a mask of 4×16 pixels for a picture of 12×16"):
        decode(with_mask(BITS[:4]))
    with pytest.raises(ImageError, match="a mask of 16 bits"):
        decode(with_mask(DEEP))


def test_a_mask_file_without_data_selects_nothing_there():
    np.testing.assert_array_equal(decode_mask(declared(GREY, "255")), (GREY != 0) & (GREY != 255))


def test_a_mask_that_follows_no_picture_is_refused():
    data = tiff([*tiff_tags(GREY, 8, 1), (254, 4, (4,))], GREY.tobytes())
    with pytest.raises(ImageError, match="a mask before any picture"):
        decode(data)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}])
@pytest.mark.parametrize("n_below", [1, 2])
def test_a_preview_that_is_not_marked_as_one_is_not_taken_for_the_picture_below_it(n_below, options):
    def pages(*arrays):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, **options) as writer:
            writer.write(arrays[0], subifds=n_below, metadata=None)
            for array in arrays[1:]:
                writer.write(array, metadata=None)
        return buffer.getvalue()

    below = [GREY[::4, ::4]] * (n_below - 1)
    with pytest.raises(ImageError, match="picture stands below a smaller one"):
        decode(pages(GREY[::2, ::2], *below, GREY))
    np.testing.assert_array_equal(decode(pages(GREY, *below, GREY[::2, ::2])), GREY)


@pytest.mark.parametrize("field", [(330, 3, (8,)), (330, 4, (2**30, 8))])
def test_pages_below_that_cannot_be_found_are_refused(field):
    with pytest.raises(ImageError, match=r"pages below another|a page begins at byte"):
        decode(tiff([*tiff_tags(GREY, 8, 1), field], GREY.tobytes()))


@pytest.mark.parametrize("count", [20, 767])
def test_a_palette_that_is_no_three_columns_is_refused(count):
    with pytest.raises(ImageError, match="a palette is missing, or of no use"):
        decode(tiff([*tiff_tags(GREY, 8, 3), (320, 3, tuple(range(count)))], GREY.tobytes()))


def test_a_palette_is_not_looked_up_by_fractions():
    data = tiff([*tiff_tags(REAL, 32, 3), (339, 3, (3,)), (320, 3, tuple(range(768)))], REAL.astype("<f4").tobytes())
    with pytest.raises(ImageError, match="a palette is missing, or of no use"):
        decode(data)


def test_one_page_that_is_marked_as_reduced_is_read_among_several_it_is_not():
    data = by_tifffile(np.stack([GREY, GREY]), photometric="minisblack", subfiletype=1)
    with pytest.raises(ImageError, match="previews only"):
        decode(data)


@pytest.mark.parametrize(
    ("lab", "srgb"),
    # L*a*b* under D50 of the primaries, as published by B. Lindbloom
    [((54.29, 80.81, 69.89), (255, 0, 0)), ((87.82, -79.29, 80.99), (0, 255, 0)),
     ((29.57, 68.30, -112.03), (0, 0, 255)), ((100, 0, 0), (255, 255, 255)), ((0, 0, 0), (0, 0, 0))],
)  # fmt: skip
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("model", [8, 9])
def test_lab_becomes_rgb(lab, srgb, bits, model):
    step = 2 ** (bits - 8)
    top = (2**bits - 1) if model == 8 else 255 * step
    values = [lab[0] / 100 * top, *((part + (128 if model == 9 else 0)) * step for part in lab[1:])]
    pixels = np.full((12, 16, 3), np.rint(values), np.int64).astype(f"<u{bits // 8}")
    expected = np.array(srgb) * (1 if bits == 8 else 257)
    for predictor in (1, 2):
        tags = [*tiff_tags(GREY, bits, model, 8, samples=3), (317, 3, (predictor,))]
        packed = pixels if predictor == 1 else np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
        found = decode(tiff(tags, imagecodecs.zlib_encode(np.ascontiguousarray(packed).tobytes())))
        assert found.dtype == pixels.dtype
        assert np.abs(found.astype(int) - expected).max() <= (10 if bits == 8 else 40)


def test_the_tags_of_ycbcr_say_what_its_values_stand_for():
    luma, cb, cr = np.full(GREY.shape, 126, np.uint8), np.full(GREY.shape, 128, np.uint8), GREY
    units = np.dstack([luma, cb, cr]).tobytes()
    limits = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    weights = (2126, 10000, 7152, 10000, 722, 10000)
    tags = [*tiff_tags(GREY, 8, 6, samples=3), (530, 3, (1, 1)), (529, 5, weights), (532, 5, limits)]
    y, r = (126 - 16) * 255 / 219, (GREY.astype(float) - 128) * 127 / 112
    expected = np.dstack([y + 1.5748 * r, y - 0.4681 * r, np.full(GREY.shape, y)])
    np.testing.assert_allclose(decode(tiff(tags, units)), np.clip(expected, 0, 255), atol=0.6)
    broken = [*tags[:-2], (529, 5, (0, 0, 0, 0, 0, 0))]
    with pytest.raises(ImageError, match="tag 529 divides by 0"):
        decode(tiff(broken, units))


def test_colours_of_strips_that_end_within_a_unit_are_those_of_their_strip():
    luma = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4) * 5 + 60
    strips = [  # of 3 rows, which are 2 rows of units, and of 2
        np.pad(luma[:3], ((0, 1), (0, 0))),
        luma[3:],
    ]
    units, colours = [], iter(range(100, 220, 20))
    rows = []
    for strip in strips:
        for top in range(0, len(strip), 2):
            number = next(colours)
            for left in (0, 2):
                block = strip[top : top + 2, left : left + 2]
                units.append(bytes(block.ravel()) + bytes([128, number]))
            rows += [number, number]
    cr = np.array(rows[:3] + rows[4:], np.uint8)[:, None].repeat(4, axis=1)
    data = tiff_of_strips(luma, b"".join(units), (24, 12), 3)
    red = np.rint(luma + 1.402 * (cr.astype(float) - 128))
    np.testing.assert_array_equal(decode(data)[..., 0], np.clip(red, 0, 255))


def tiff_of_strips(luma, data, counts, rows):
    tags = [*tiff_tags(luma, 8, 6, samples=3), (530, 3, (2, 2))]
    whole = bytearray(tiff(tags, data))
    at = len(whole) - len(data)
    with tifffile.TiffFile(io.BytesIO(bytes(whole))) as file:
        offsets = {code: file.pages[0].tags[code].offset for code in (273, 278, 279)}
    places = len(whole)
    whole += struct.pack("<II", at, at + counts[0]) + struct.pack("<II", *counts)
    struct.pack_into("<HHII", whole, offsets[273], 273, 4, 2, places)
    struct.pack_into("<HHII", whole, offsets[278], 278, 4, 1, rows)
    struct.pack_into("<HHII", whole, offsets[279], 279, 4, 2, places + 8)
    return bytes(whole)


def old_jpeg(jpeg, array):
    found = tiff([*tiff_tags(array, 8, 6, 6, samples=3), (513, 4, (0,)), (514, 4, (len(jpeg),))], jpeg)
    start = len(found) - len(jpeg)
    entry = found.index(struct.pack("<HHI", 513, 4, 1))
    found = bytearray(found)
    struct.pack_into("<I", found, entry + 8, start)
    return bytes(found)


def test_a_whole_jpeg_of_the_old_kind_is_read():
    smooth = np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH])
    jpeg = by_pillow(smooth, "JPEG", quality=98, subsampling=0)
    found = decode(old_jpeg(jpeg, smooth))
    assert np.abs(found.astype(int) - smooth).max() <= 6
    with pytest.raises(ImageError, match="12×16, the JPEG in it 12×8"):
        decode(old_jpeg(by_pillow(smooth[:, :8], "JPEG"), smooth))
    with pytest.raises(ImageError, match="in parts; one whole JPEG"):
        decode(old_jpeg(jpeg[2:], smooth))
    for kept in (0.5, 0.9, 0.99):
        cut = jpeg[: int(len(jpeg) * kept)]
        with pytest.raises(ImageError):
            decode(old_jpeg(cut + b"\xff\xd9", smooth))


def test_planes_of_inks_as_jpeg_are_planes():
    inks = np.moveaxis(np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH, SMOOTH // 4]), -1, 0)
    options = {"photometric": "separated", "planarconfig": "separate", "compression": "jpeg"}
    found = decode(by_tifffile(inks, compressionargs={"level": 99}, **options))
    expected = np.rint((255.0 - inks[:3]) * (255.0 - inks[3]) / 255)
    assert np.abs(found.astype(int) - np.moveaxis(expected, 0, -1)).max() <= 4


def test_pages_that_imagej_wrote_one_by_one_are_pages():
    buffer = io.BytesIO()
    note = "ImageJ=1.11a\nimages=2\nframes=2\n"
    with tifffile.TiffWriter(buffer) as writer:
        for page in (GREY, 255 - GREY):
            writer.write(page, description=note, metadata=None)
    np.testing.assert_array_equal(decode(buffer.getvalue(), frame=2), 255 - GREY)


def test_what_tifffile_says_goes_to_the_log_with_the_name_and_not_to_the_terminal(tmp_path):
    (tmp_path / "b.tif").write_bytes(declared(GREY, "-9999"))
    code = """if True:
        import logging, sys
        from segmentation.io.reading import decode_image, image_header, read_image
        from segmentation.io.sources import list_images
        if len(sys.argv) > 2:
            logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")
        (ref,) = list_images(sys.argv[1])
        image_header(ref)
        decode_image(ref, read_image(ref)[0])
    """
    for more in ([], ["logged"]):
        command = [sys.executable, "-c", code, str(tmp_path), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        said = done.stdout.splitlines()
        assert bool(said) == bool(more)
        assert all(line.startswith("segmentation.io.notes b.tif: tifffile says: ") for line in said)


def test_many_channels_count_for_the_limit_of_pixels_as_pixels_do():
    data = tiff(tiff_tags(GREY, 8, 2, samples=16), bytes(192 * 16))
    assert decode(data).shape == (12, 16, 3)
    with pytest.raises(LimitError, match="191 are allowed"):
        decode(data, max_pixels=191)


def test_a_number_of_eight_bytes_in_a_field_of_four_is_refused():
    data = bytearray(by_tifffile(GREY, metadata=None))
    at = struct.unpack_from("<I", data, 4)[0] + 2
    while struct.unpack_from("<H", data, at)[0] != 256:  # the width
        at += 12
    struct.pack_into("<H", data, at + 2, 16)  # as LONG8
    with pytest.raises(ImageError, match="tag 256 has a number of 8 bytes; 4 fit"):
        decode(bytes(data))
