"""Small valid files of every accepted format, each with the pixels that it must decode to.

Files are put together byte by byte, or by an encoder that is not the decoder under test; pixels are worked out here.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

GREY = (np.arange(12 * 16).reshape(12, 16) * 29 % 256).astype(np.uint8)
RGB = np.dstack([GREY, GREY[::-1], 255 - GREY])
DEEP = (np.arange(12 * 16).reshape(12, 16) * 337 % 65536).astype(np.uint16)
DEEP_RGB = np.dstack([DEEP, DEEP[::-1], 65535 - DEEP])
REAL = (DEEP / 7).astype(np.float32)
BITS = GREY > 100
SMOOTH = (np.add.outer(np.arange(12), np.arange(16)) * 8).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """A file, and what it decodes to, up to `tolerance` (of formats that lose)."""

    name: str
    data: bytes
    pixels: np.ndarray
    tolerance: int = 0
    has_checksums: bool = False


def by_pillow(image, kind, **options):
    """Encode with Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def by_tifffile(array, **options):
    """Encode with tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **{"metadata": None, **options})
    return buffer.getvalue()


def png_chunk(name, body):
    """Make a chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(array, depth, color, extra=b""):
    """Write a PNG of whole bytes a sample, or of packed rows that are given as bytes."""
    rows = b"".join(
        b"\0" + (row if isinstance(row, bytes) else row.astype(f">u{depth // 8}").tobytes()) for row in array
    )
    width = len(array[0]) * 8 // depth if isinstance(array[0], bytes) else array.shape[1]
    header = struct.pack(">IIBBBBB", width, len(array), depth, color, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(tags, data, order="<"):
    """Write a TIFF of one strip from its tags, as (code, type, values)."""
    tags = sorted([*tags, (273, 4, (0,)), (278, 4, (2**16,)), (279, 4, (len(data),))])
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4}
    at = 8 + 2 + 12 * len(tags) + 4
    tail = b""
    entries = b""
    for code, kind, values in tags:
        packed = struct.pack(order + {1: "B", 2: "B", 3: "H", 4: "I", 5: "I"}[kind] * len(values), *values)
        if code == 273:
            field = None
        elif len(values) * sizes[kind] <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", at + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack(order + "HHI", code, kind, len(values) // (1 + (kind == 5))) + (field or b"DATA")
    start = struct.pack(order + "I", at + len(tail))
    magic = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    directory = struct.pack(order + "H", len(tags)) + entries.replace(b"DATA", start) + struct.pack(order + "I", 0)
    return magic + directory + tail + data


def tiff_tags(array, bits, photometric, compression=1, samples=1):
    """Return the tags that every TIFF has."""
    return [
        (256, 4, (array.shape[1],)), (257, 4, (array.shape[0],)), (258, 3, (bits,) * samples),
        (259, 3, (compression,)), (262, 3, (photometric,)), (277, 3, (samples,)),
    ]  # fmt: skip


def packed_bits(array, bits):
    """Pack the rows of an array, each into whole bytes."""
    each = np.unpackbits(array.astype(">u4").view(np.uint8).reshape(len(array), -1, 4), axis=2)[..., -bits:]
    return np.packbits(each.reshape(len(array), -1), axis=1).tobytes()


def sparse(data, pieces):
    """Make pieces of a TIFF empty: their offset and length become 0, their data stay."""
    data = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tags = file.pages[0].tags
        found = [tags[code] for code in (324, 325, 273, 279) if code in tags]
    for tag in found:
        size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
        for piece in pieces:
            data[tag.valueoffset + size * piece : tag.valueoffset + size * (piece + 1)] = bytes(size)
    return bytes(data)


def data_units(luma, cb, cr, step):
    """Interleave brightness and subsampled colours, shapes (M, N) and (M / down, N / across), as TIFF does."""
    across, down = step
    rows, columns = cb.shape
    blocks = luma.reshape(rows, down, columns, across).swapaxes(1, 2).reshape(rows, columns, -1)
    return np.dstack([blocks, cb, cr]).tobytes()


def rgb_of_ycbcr(luma, cb, cr):
    """Convert by the formulas of ITU-R BT.601, all of full range."""
    y, b, r = (plane.astype(float) for plane in (luma, cb, cr))
    green = y - 0.344136 * (b - 128) - 0.714136 * (r - 128)
    return np.clip(np.rint(np.dstack([y + 1.402 * (r - 128), green, y + 1.772 * (b - 128)])), 0, 255).astype(np.uint8)


def twelve_bits(array):
    """Pack values two into three bytes."""
    pairs = array.reshape(-1, 2).astype(np.uint32)
    whole = (pairs[:, 0] << 12) | pairs[:, 1]
    return np.stack([whole >> 16, whole >> 8 & 255, whole & 255], axis=1).astype(np.uint8).tobytes()


def box(name, body):
    """Make a box of a JPEG 2000 file."""
    return struct.pack(">I4s", 8 + len(body), name) + body


def jp2(pixels, space, extra=b"", size=None):
    """Put boxes around a codestream: an enumerated colour space or none, and others."""
    stored = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", mct=False)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    head = struct.pack(">IIHBBBB", *(size or (*pixels.shape[:2], channels)), 8 * pixels.itemsize - 1, 7, 0, 0)
    colour = b"" if space is None else box(b"colr", struct.pack(">BbBI", 1, 0, 0, space))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 " + bytes(4) + b"jp2 ")
    return start + box(b"jp2h", box(b"ihdr", head) + colour + extra) + box(b"jp2c", stored)


def rle_bmp():
    """Write a BMP whose rows are runs."""
    rows = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in GREY[::-1]) + b"\0\1"
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, 16, 12, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(rows), 0, 0, 14 + 40 + 1024) + head + palette + rows


def fields_bmp():
    """Write a BMP whose colours have five, six and five bits, from the top."""
    word = (RGB[..., 0] >> 3).astype("<u2") << 11 | (RGB[..., 1] >> 2).astype("<u2") << 5 | RGB[..., 2] >> 3
    head = struct.pack("<IiiHHIIiiII", 40, 16, -12, 1, 16, 3, word.nbytes, 0, 0, 0, 0)
    start = b"BM" + struct.pack("<IHHI", 66 + word.nbytes, 0, 0, 66) + head + struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    return start + word.tobytes()


def spread(values, bits):
    """Take the upper bits of a channel, and spread them over eight again."""
    return np.rint((values >> (8 - bits)) * 255.0 / (2**bits - 1)).astype(np.uint8)


def _png_samples():
    alpha = np.full(GREY.shape, 7)
    two = np.repeat(np.arange(4, dtype=np.uint8) * 85, 4)[None].repeat(2, 0)
    palette = png_chunk(b"PLTE", bytes([9, 8, 7, 250, 130, 10]))
    yield "grey", by_pillow(GREY, "PNG"), GREY
    yield "colour", png(RGB, 8, 2), RGB
    yield "sixteen bits", png(DEEP, 16, 0), DEEP
    yield "sixteen bits of colour", png(DEEP_RGB, 16, 2), DEEP_RGB
    yield "grey alpha", png(np.dstack([GREY, alpha]), 8, 4), GREY
    yield "sixteen bits and alpha", png(np.dstack([DEEP, alpha * 256]), 16, 4), DEEP
    yield "sixteen bits of colour and alpha", png(np.dstack([DEEP_RGB, alpha]), 16, 6), DEEP_RGB
    yield "colour alpha", png(np.dstack([RGB, alpha]), 8, 6), RGB
    yield "one bit", png([np.packbits(row).tobytes() for row in BITS], 1, 0), BITS * 255
    yield "two bits", png([bytes([0x00, 0x55, 0xAA, 0xFF])] * 2, 2, 0), two
    colors = np.array([[9, 8, 7], [250, 130, 10]], np.uint8)
    yield "palette", png([np.packbits(row).tobytes() for row in BITS], 1, 3, palette), colors[BITS.astype(int)]
    transparent = palette + png_chunk(b"tRNS", bytes([0, 255]))
    yield "transparent palette", png([np.packbits(r).tobytes() for r in BITS], 1, 3, transparent), colors[BITS * 1]


def _tiff_samples():
    cmyk = np.dstack([RGB, GREY // 2])
    mixed = np.rint((255.0 - RGB) * (255.0 - cmyk[..., 3:]) / 255).astype(np.uint8)
    ramp = np.arange(0, 65536, 257, dtype=np.uint16)
    yield "grey", by_tifffile(GREY), GREY
    yield "by hand", tiff(tiff_tags(GREY, 8, 1), GREY.tobytes()), GREY
    yield "by hand, big-endian", tiff(tiff_tags(DEEP, 16, 1), DEEP.astype(">u2").tobytes(), ">"), DEEP
    yield "big-endian BigTIFF", by_tifffile(DEEP, byteorder=">", bigtiff=True), DEEP
    yield "colour", by_tifffile(RGB, photometric="rgb"), RGB
    planar = np.moveaxis(RGB, -1, 0)
    yield "planar", by_tifffile(planar, photometric="rgb", planarconfig="separate"), RGB
    yield "tiles", by_tifffile(RGB, photometric="rgb", tile=(16, 16)), RGB
    yield "strips", by_tifffile(GREY, rowsperstrip=5), GREY
    yield "min is white", tiff(tiff_tags(GREY, 8, 0), GREY.tobytes()), 255 - GREY
    yield "twelve bits", tiff(tiff_tags(DEEP % 4096, 12, 1), twelve_bits(DEEP % 4096)), DEEP % 4096
    yield "twelve bits, min is white", tiff(tiff_tags(DEEP, 12, 0), twelve_bits(DEEP % 4096)), 4095 - DEEP % 4096
    yield "four bits", tiff(tiff_tags(GREY, 4, 1), (GREY[:, ::2] % 16 * 16 + GREY[:, 1::2] % 16).tobytes()), GREY % 16
    yield "one bit", tiff(tiff_tags(BITS, 1, 1), np.packbits(BITS, axis=1).tobytes()), BITS * 255
    yield "one bit, min is white", tiff(tiff_tags(BITS, 1, 0), np.packbits(BITS, axis=1).tobytes()), ~BITS * 255
    yield (
        "palette",
        tiff([*tiff_tags(GREY, 8, 3), (320, 3, (*ramp, *ramp[::-1], *ramp))], GREY.tobytes()),
        np.dstack([ramp[GREY], ramp[255 - GREY], ramp[GREY]]),
    )
    one = (*(0, 500), *(7, 60000), *(65535, 1))
    bits = np.packbits(BITS, axis=1).tobytes()
    looked_up = np.array([[0, 7, 65535], [500, 60000, 1]], np.uint16)[BITS * 1]
    yield "palette of one bit", tiff([*tiff_tags(BITS, 1, 3), (320, 3, one)], bits), looked_up
    yield "inks", tiff(tiff_tags(GREY, 8, 5, samples=4), cmyk.tobytes()), mixed
    yield "alpha", by_tifffile(np.dstack([RGB, GREY]), photometric="rgb", extrasamples=["unassalpha"]), RGB
    yield "real", by_tifffile(REAL), REAL
    yield "double", by_tifffile(REAL.astype(np.float64)), REAL.astype(np.float64)
    yield "half", by_tifffile(REAL.astype(np.float16)), REAL.astype(np.float16)
    yield "signed", by_tifffile(DEEP.astype(np.int16)), DEEP.astype(np.int16)
    for packing in ("lzw", "deflate", "zstd", "packbits", "lzma"):
        yield packing, by_tifffile(GREY, compression=packing), GREY
    yield "deflate of differences", by_tifffile(DEEP, compression="deflate", predictor=True), DEEP
    yield "real deflate of differences", by_tifffile(REAL, compression="deflate", predictor=True), REAL
    yield "fax", by_pillow(Image.fromarray(BITS), "TIFF", compression="group4"), BITS * 255
    yield "turned", tiff([*tiff_tags(GREY, 8, 1), (274, 3, (6,))], GREY.tobytes()), np.rot90(GREY, -1)


def _odd_tiff_samples():
    """TIFFs as satellites, scanners, Photoshop and GDAL write them."""
    half = GREY // 2
    yield "predictor without compression", tiff([*tiff_tags(GREY, 8, 1), (317, 3, (2,))], GREY.tobytes()), GREY
    packed = imagecodecs.packbits_encode(GREY)
    yield "predictor with PackBits", tiff([*tiff_tags(GREY, 8, 1, 32773), (317, 3, (2,))], packed), GREY
    ramp = np.arange(0, 65536, 257, dtype=np.uint16)
    map_ = (320, 3, (*ramp, *ramp[::-1], *ramp))
    looked_up = np.dstack([ramp[GREY], ramp[255 - GREY], ramp[GREY]])
    two = np.dstack([GREY, half]).tobytes()
    yield "palette and alpha", tiff([*tiff_tags(GREY, 8, 3, samples=2), map_, (338, 3, (2,))], two), looked_up
    small = (320, 3, (*(ramp >> 8), *(ramp[::-1] >> 8), *(ramp >> 8)))
    yield "palette of eight bits", tiff([*tiff_tags(GREY, 8, 3), small], GREY.tobytes()), looked_up
    yield "grey and alpha", tiff([*tiff_tags(GREY, 8, 1, samples=2), (338, 3, (1,))], two), GREY
    four, five = np.dstack([RGB, half]), np.dstack([RGB, half, GREY])
    yield "colour and unnamed", tiff(tiff_tags(GREY, 8, 2, samples=4), four.tobytes()), RGB
    yield "colour and more", tiff([*tiff_tags(GREY, 8, 2, samples=5), (338, 3, (0, 0))], five.tobytes()), RGB
    planes = np.moveaxis(five, -1, 0)
    yield "colour and more in planes", by_tifffile(planes, photometric="rgb", planarconfig="separate"), RGB
    yield "three bands", tiff(tiff_tags(GREY, 8, 1, samples=3), RGB.tobytes()), RGB
    tags = [*tiff_tags(GREY, 8, 1, samples=4), (338, 3, (0, 0, 2))]
    yield "three bands and alpha", tiff(tags, four.tobytes()), RGB
    cmyk = np.dstack([RGB, half])
    mixed = np.rint((255.0 - RGB) * (255.0 - cmyk[..., 3:]) / 255).astype(np.uint8)
    spot = np.dstack([cmyk, GREY]).tobytes()
    yield "inks and a spot colour", tiff([*tiff_tags(GREY, 8, 5, samples=5), (338, 3, (0,))], spot), mixed
    for samples_, pixels in ((1, GREY), (3, RGB)):
        tags = [tag for tag in tiff_tags(GREY, 8, 1, samples=samples_) if tag[0] != 262]
        yield f"no colour model, {samples_}", tiff(tags, pixels.tobytes()), pixels
    yield "marked as reduced", tiff([*tiff_tags(GREY, 8, 1), (254, 4, (1,))], GREY.tobytes()), GREY
    backwards = imagecodecs.bitorder_encode(GREY.tobytes())
    yield "bits backwards", tiff([*tiff_tags(GREY, 8, 1), (266, 3, (2,))], backwards), GREY
    for bits in (2, 6, 10, 14):
        values = DEEP.astype(np.uint8 if bits <= 8 else np.uint16) % 2**bits
        yield f"{bits} bits", tiff(tiff_tags(GREY, bits, 1), packed_bits(values, bits)), values
    steps = zlib.compress(np.diff(REAL.view(np.uint32), axis=1, prepend=np.uint32(0)).tobytes())
    yield "differences of reals", tiff([*tiff_tags(GREY, 32, 1, 8), (339, 3, (3,)), (317, 3, (2,))], steps), REAL
    filled = GREY.copy()
    filled[5:10] = 0
    yield "empty strip", sparse(by_tifffile(GREY, rowsperstrip=5), [1]), filled
    tiles = np.tile(RGB, (2, 2, 1))
    filled = tiles.copy()
    filled[16:, :16] = 0
    yield "empty tile", sparse(by_tifffile(tiles, photometric="rgb", tile=(16, 16), compression="lzw"), [2]), filled
    cb, cr = np.full(GREY.shape, 100, np.uint8), np.tile(np.uint8([90, 160]), (12, 8))
    units = data_units(GREY, cb, cr, (1, 1))
    yield "YCbCr", tiff([*tiff_tags(GREY, 8, 6, samples=3), (530, 3, (1, 1))], units), rgb_of_ycbcr(GREY, cb, cr)
    for across, down in ((2, 1), (2, 2), (4, 2)):
        few = GREY[::down, ::across] // 2 + 60
        units = zlib.compress(data_units(GREY, few, 255 - few, (across, down)))
        many = few.repeat(down, axis=0).repeat(across, axis=1)
        tags = [*tiff_tags(GREY, 8, 6, compression=8, samples=3), (530, 3, (across, down))]
        yield f"YCbCr {across}×{down}", tiff(tags, units), rgb_of_ycbcr(GREY, many, 255 - many)
    lightness = np.dstack([SMOOTH, *[np.zeros_like(SMOOTH)] * 2])
    star = SMOOTH / 255 * 100
    linear = np.where(star > 8, ((star + 16) / 116) ** 3, star / 903.3)
    grey = np.rint(255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear))
    grey = np.dstack([grey.astype(np.uint8)] * 3)
    yield "L*a*b*, all grey", tiff(tiff_tags(GREY, 8, 8, samples=3), lightness.tobytes()), grey
    middle = (lightness + np.uint8([0, 128, 128])).tobytes()
    yield "ICC L*a*b*, all grey", tiff(tiff_tags(GREY, 8, 9, samples=3), middle), grey


def _other_samples():
    yield "GIF", by_pillow(Image.fromarray(GREY), "GIF"), np.dstack([GREY] * 3)
    yield "BMP", by_pillow(RGB, "BMP"), RGB
    yield "BMP in runs", rle_bmp(), GREY
    yield "BMP in fields", fields_bmp(), np.dstack([spread(RGB[..., n], bits) for n, bits in enumerate((5, 6, 5))])
    yield "WebP", by_pillow(RGB, "WEBP", lossless=True), RGB
    yield "JPEG 2000", by_pillow(RGB, "JPEG2000", irreversible=False), RGB
    order = box(b"cdef", struct.pack(">13H", 4, 0, 0, 3, 1, 0, 2, 2, 0, 1, 3, 1, 0))
    yield "JPEG 2000 with channels in another order", jp2(np.dstack([RGB[..., ::-1], GREY]), 16, order), RGB
    colours = np.array([[9, 8, 7], [250, 130, 10]], np.uint8)
    palette = box(b"pclr", b"\0\2\3\7\7\7" + colours.tobytes()) + box(
        b"cmap", bytes([0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 2])
    )
    yield "JPEG 2000 with a palette", jp2(BITS.astype(np.uint8), 16, palette), colours[BITS * 1]
    yield "JPEG 2000 of sixteen bits", imagecodecs.jpeg2k_encode(DEEP, level=0), DEEP
    yield "JPEG 2000 of sixteen bits of colour", imagecodecs.jpeg2k_encode(DEEP_RGB, level=0), DEEP_RGB
    yield "JPEG 2000 codestream", imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="j2k"), GREY
    yield "PBM", b"P4 16 12\n" + np.packbits(~BITS, axis=1).tobytes(), BITS * 255
    yield "PBM as text", b"P1 16 12\n" + b"\n".join(b" ".join(b"%d" % v for v in row) for row in ~BITS), BITS * 255
    yield "PGM", b"P5 16 12 255\n" + GREY.tobytes(), GREY
    yield "PGM as text", b"P2 # a scan\n16 12 65535\n" + b" ".join(b"%d" % v for v in DEEP.ravel()) + b"\n", DEEP
    yield "PGM of twelve bits", b"P5 16 12 4095\n" + (DEEP % 4096).astype(">u2").tobytes(), DEEP % 4096
    yield "PPM of sixteen bits", b"P6 16 12 65535\n" + DEEP_RGB.astype(">u2").tobytes(), DEEP_RGB
    yield "PFM", b"Pf\n16 12\n-1.0\n" + REAL[::-1].astype("<f4").tobytes(), REAL


def _lossy_samples():
    smooth = np.dstack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH])
    deep = (SMOOTH.astype(np.uint16) * 16)[:8, :8]
    yield "JPEG", by_pillow(SMOOTH, "JPEG", quality=95), SMOOTH, 3
    yield "JPEG of colour", by_pillow(smooth, "JPEG", quality=98, subsampling=0), smooth, 6
    yield "progressive JPEG", by_pillow(smooth, "JPEG", quality=98, subsampling=0, progressive=True), smooth, 6
    yield "JPEG with restarts", by_pillow(SMOOTH, "JPEG", quality=95, restart_marker_blocks=1), SMOOTH, 3
    yield "JPEG of inks", by_pillow(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=98), smooth, 6
    yield "JPEG of twelve bits", imagecodecs.jpeg8_encode(deep, level=98, bitspersample=12), deep, 24
    yield (
        "JPEG in TIFF",
        by_tifffile(smooth, photometric="rgb", compression="jpeg", compressionargs={"level": 98}),
        smooth,
        12,
    )
    yield "WebP with loss", by_pillow(smooth, "WEBP", quality=98), smooth, 16


def samples():
    """Make all files."""
    made = [Sample(f"PNG: {name}", data, pixels, has_checksums=True) for name, data, pixels in _png_samples()]
    made += [Sample(f"TIFF: {name}", data, pixels) for name, data, pixels in (*_tiff_samples(), *_odd_tiff_samples())]
    made += [Sample(name, data, pixels) for name, data, pixels in _other_samples()]
    return made + [Sample(*given) for given in _lossy_samples()]


def animation(kind, count=3, **options):
    """Write an animation of `count` frames, and return the file and its frames."""
    frames = [np.roll(GREY, 3 * number, axis=1) for number in range(count)]
    pictures = [Image.fromarray(frame) for frame in frames]
    return by_pillow(pictures[0], kind, save_all=True, append_images=pictures[1:], **options), frames


def pages(count=3, **options):
    """Write a TIFF of `count` pages, and return the file and its pages."""
    stack = np.stack([np.roll(GREY, 3 * number, axis=1) for number in range(count)])
    return by_tifffile(stack, photometric="minisblack", **options), list(stack)


def ome_zarr(path, array, axes, *, version=3, level="0", chunks=None, attributes=None, **options):
    """Write an OME-Zarr image, 0.5 as Zarr 3 or 0.4 as Zarr 2, metadata by hand."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    chunks = chunks or tuple(min(side, 8) for side in array.shape)
    made = group.create_array(level, shape=array.shape, dtype=array.dtype, chunks=chunks, **options)
    made[...] = array
    scales = [{"version": "0.4", "axes": [{"name": name} for name in axes], "datasets": [{"path": level}]}]
    plain = {"multiscales": scales} if attributes is None else attributes
    group.attrs.update({"ome": {"version": "0.5", **plain}} if version == 3 else plain)
    return path
