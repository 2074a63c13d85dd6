"""What a file is and which size it declares, read off its first bytes without any decoder.

Decoders see a file only after its size was checked here: some allocate the whole picture when they open it.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from segmentation.errors import ImageError
from segmentation.planning import Header

#: Format → its header parser, first bytes that tell it.
_MAGIC: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM.{4}", re.DOTALL)),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("PNM", re.compile(rb"P[1-6fF]\s")),
)
#: Formats that are known and not read, so that a reason can name them.
_NOT_READ: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("HEIC", re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("AVIF", re.compile(rb".{4}ftypavi", re.DOTALL)),
    ("a camera's raw file (CR3)", re.compile(rb".{4}ftypcrx", re.DOTALL)),
    ("a camera's raw file", re.compile(rb"FUJIFILMCCD|II\x1a\0\0\0HEAP|IIRO|IIRS|MMOR|IIU\0|\0MRM|FOVb", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")),
    ("JPEG XR", re.compile(rb"II\xbc[\0\x01]")),
    ("Photoshop", re.compile(rb"8BPS")),
    ("OpenEXR", re.compile(rb"\x76\x2f\x31\x01")),
    ("Radiance HDR", re.compile(rb"#\?RAD|#\?RGBE")),
    ("CZI", re.compile(rb"ZISRAWFILE")),
    ("ND2", re.compile(rb"\xda\xce\xbe\x0a")),
    ("LIF", re.compile(rb"\x70\0\0\0.{4}\x2a", re.DOTALL)),
    ("FITS", re.compile(rb"SIMPLE  =")),
    ("HDF5", re.compile(rb"\x89HDF\r\n\x1a\n")),
    ("NumPy's array file", re.compile(rb"\x93NUMPY")),
    ("PDF", re.compile(rb"%PDF-")),
    ("DDS", re.compile(rb"DDS ")),
    ("an icon", re.compile(rb"\0\0[\x01\x02]\0.\0", re.DOTALL)),
    ("PAM", re.compile(rb"P7\n")),
    ("QOI", re.compile(rb"qoif")),
    ("XCF", re.compile(rb"gimp xcf")),
    ("DjVu", re.compile(rb"AT&TFORM")),
)
NAMES = "PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000 and PNM"
#: Bytes that tell what a file is.
MAGIC_BYTES = 12
#: JPEG frame headers: all that Huffman codes or arithmetic ones can follow.
FRAMES_OF_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
NO_SEGMENT = frozenset({0x01, *range(0xD0, 0xD8)})
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff]")


def sniff(start: bytes) -> str:
    """Name the format of a file from its first `MAGIC_BYTES`.

    Raises
    ------
    ImageError
        It is none that is read.

    Examples
    --------
    >>> sniff(b"GIF89a...")
    'GIF'
    >>> sniff(b"....ftypheic")
    Traceback (most recent call last):
    segmentation.errors.ImageError: HEIC, which is not read; PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000 and PNM are
    """
    if not start:
        raise ImageError("the file is empty")
    for kind, magic in _MAGIC:
        if magic.match(start):
            return kind
    for kind, magic in _NOT_READ:
        if magic.match(start):
            raise ImageError(f"{kind}, which is not read; {NAMES} are")
    raise ImageError(f"not an image that can be read; {NAMES} are")


def declared_header(kind: str, start: bytes) -> Header:
    """Read size, channels and depth off the start of a file of any format but TIFF.

    Raises
    ------
    ImageError
        No such header is allowed in this format.
    IndexError, struct.error
        The header goes on after `start`.

    Examples
    --------
    >>> declared_header("PNM", b"P5 4 3 255 ")
    Header(height=3, width=4, channels=1, itemsize=1)
    """
    return _PARSERS[kind](start)


def _png(start: bytes) -> Header:
    length, name, width, height, depth, color = struct.unpack_from(">I4sIIBB", start, 8)
    if length != 13 or name != b"IHDR":
        raise ImageError("damaged PNG: it does not begin with its header")
    channels = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}.get(color)
    if channels is None:
        raise ImageError(f"damaged PNG: colour type {color}")
    return Header(height, width, channels, 2 if depth == 16 else 1)


def jpeg_segment(data: bytes, at: int) -> tuple[int, int]:
    r"""Return the next marker at or after `at`, and where its body begins; what stands between segments is passed over.

    Raises
    ------
    IndexError
        The data ends before.

    Examples
    --------
    >>> jpeg_segment(b"\xff\xd8??\xff\0?\xff\xff\xdb", 2)
    (219, 10)
    """
    found = _JPEG_MARKER.search(data, at)
    if found is None:
        raise IndexError
    return data[found.end() - 1], found.end()


def _jpeg(start: bytes) -> Header:
    at = 2
    while True:
        marker, at = jpeg_segment(start, at)
        if marker in FRAMES_OF_JPEG:
            precision, height, width, channels = struct.unpack_from(">BHHB", start, at + 2)
            if channels not in (1, 3, 4):
                raise ImageError(f"JPEG with {channels} channels; 1, 3 or 4 are read")
            return Header(height, width, 1 if channels == 1 else 3, 1 if precision <= 8 else 2)
        if marker == 0xD8:
            raise ImageError("damaged JPEG: a second start mark")
        if marker in (0xDA, 0xD9):
            raise ImageError("damaged JPEG: its picture comes before its size")
        if marker not in NO_SEGMENT:
            at += max(2, struct.unpack_from(">H", start, at)[0])


def _gif(start: bytes) -> Header:
    """Read the canvas, which grows with the first frame, as in browsers."""
    width, height, flags = struct.unpack_from("<HHB", start, 6)
    at = 13 + gif_palette_bytes(flags)
    while start[at] == GIF_EXTENSION:
        at = gif_blocks_end(start, at + 2)
    if start[at] == GIF_IMAGE:
        left, top, across, down = struct.unpack_from("<HHHH", start, at + 1)
        width, height = max(width, left + across), max(height, top + down)
    return Header(height, width, 3, 1)


def gif_palette_bytes(flags: int) -> int:
    """Return the length of the palette that follows a header of these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def gif_blocks_end(data: bytes, at: int) -> int:
    """Return where a chain of blocks ends.

    Raises
    ------
    IndexError
        The data ends before.
    """
    while size := data[at]:
        at += 1 + size
    return at + 1


@dataclass(frozen=True)
class BmpFields:
    """What the headers of a BMP say."""

    width: int
    height: int
    is_top_down: bool
    is_os2: bool
    bits: int
    compression: int
    #: Bits of red, green and blue.
    masks: tuple[int, int, int]
    palette_at: int
    entry_bytes: int
    n_colours: int
    pixels_at: int

    @property
    def is_deep(self) -> bool:
        """Tell whether a colour has more than eight bits."""
        return any(mask.bit_count() > 8 for mask in self.masks)


_MASKS = {16: (0x7C00, 0x3E0, 0x1F)}


def bmp_fields(start: bytes) -> BmpFields:
    """Read the headers of a BMP.

    Raises
    ------
    ImageError
        A header of an unknown length, or of an impossible size.
    struct.error
        The headers go on after `start`.
    """
    pixels_at, size = struct.unpack_from("<II", start, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<4H", start, 18)
        compression = used = 0
    elif 16 <= size <= 64 or size in (108, 124):
        if len(start) < 14 + size:
            raise IndexError
        # A short header of OS/2 has zeros for what it leaves out.
        fields = start[18 : 14 + min(size, 40)].ljust(36, b"\0")
        width, height, _, bits, compression, _, _, _, used, _ = struct.unpack("<iiHHIIiiII", fields)
    else:
        raise ImageError(f"damaged BMP: a header of {size:,} bytes; 12, 16 to 64, 108 or 124 are read")
    if width < 0:
        raise ImageError(f"damaged BMP: its width is {width}")
    is_os2 = size not in (40, 52, 56, 108, 124)
    palette_at, masks = 14 + size, _MASKS.get(bits, (0xFF0000, 0xFF00, 0xFF))
    if compression in (3, 6) and not is_os2:
        given = struct.unpack_from("<3I", start, 54)
        masks = given if any(given) else masks
        palette_at += 0 if size > 40 else 12 if compression == 3 else 16
    entry_bytes = 3 if size == 12 else 4
    n_colours = used or 1 << min(bits, 8)
    if size == 12 or is_os2:  # palettes of OS/2 may be shorter, and say so by where pixels begin
        n_colours = min(n_colours, max(0, pixels_at - palette_at) // entry_bytes)
    return BmpFields(
        width, abs(height), height < 0, is_os2, bits, compression, masks, palette_at, entry_bytes, n_colours, pixels_at
    )


def _bmp(start: bytes) -> Header:
    fields = bmp_fields(start)
    return Header(fields.height, fields.width, 3, 2 if fields.is_deep else 1)


def _webp(start: bytes) -> Header:
    chunk = start[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
        struct.unpack_from("<10x", start, 20)
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", start, 26))
    else:
        raise ImageError(f"damaged WebP: chunk {chunk!r} where the picture is expected")
    return Header(height, width, 3, 1)


def jp2_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the contents of every box of a JPEG 2000 file, up to the first that is none."""
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if length == 0:
            length = end - at
        if length < head:
            return
        yield kind, at + head, at + length
        at += length


def codestream_at(data: bytes) -> int:
    """Return where the codestream of a JPEG 2000 file begins.

    Raises
    ------
    ImageError
        There is none.
    IndexError
        The boxes before it go on.
    """
    if data[:4] == b"\xff\x4f\xff\x51":
        return 0
    at = 0
    for kind, begin, end in jp2_boxes(data, 0, len(data)):
        if kind == b"jp2c":
            return begin
        at = end
    raise ImageError("damaged JPEG 2000: it holds no picture") if at == len(data) else IndexError


def _jpeg2000(start: bytes) -> Header:
    at = codestream_at(start)
    marker, x1, y1, x0, y0, tile_x, tile_y, channels, depth = struct.unpack_from(">I4xIIIIII8xHB", start, at)
    if marker != 0xFF4FFF51 or not (x0 < x1 and y0 < y1 and tile_x and tile_y):
        raise ImageError("damaged JPEG 2000: its size is missing")
    palette = jp2_palette_at(start[:at])
    if palette:
        _, channels, depth = struct.unpack_from(">HBB", start, palette)
    return Header(y1 - y0, x1 - x0, 1 if channels <= 2 else 3, 1 if (depth & 0x7F) < 8 else 2)


def jp2_palette_at(data: bytes) -> int:
    """Return where the palette of a JPEG 2000 file begins; 0 if it has none."""
    for kind, begin, end in jp2_boxes(data, 0, len(data)):
        if kind == b"jp2h":
            return next((at for name, at, _ in jp2_boxes(data, begin, min(end, len(data))) if name == b"pclr"), 0)
    return 0


def pnm_fields(start: bytes) -> tuple[bytes, list[bytes], int]:
    r"""Return the kind of a PNM file, the fields of its header, and where its pixels begin.

    Raises
    ------
    ImageError
        A field is longer than any number.
    IndexError
        The header goes on.

    Examples
    --------
    >>> pnm_fields(b"P4 # scan\n9 1\n??")
    (b'P4', [b'9', b'1'], 14)
    """
    kind = start[:2]
    fields: list[bytes] = []
    at = 2
    while len(fields) < (2 if kind in (b"P1", b"P4") else 3):
        byte = start[at : at + 1]
        if not byte:
            raise IndexError
        if byte == b"#":
            at = _line_end(start, at)
        elif byte.isspace():
            at += 1
        else:
            end = at
            while end < len(start) and not start[end : end + 1].isspace():
                end += 1
                if end - at > 32:
                    raise ImageError("damaged PNM: a number of its header is too long")
            if end == len(start):
                raise IndexError
            fields.append(start[at:end])
            at = end
    return kind, fields, at + 1


def _line_end(start: bytes, at: int) -> int:
    end = start.find(b"\n", at)
    if end < 0:
        raise IndexError
    return end


def _pnm(start: bytes) -> Header:
    kind, fields, _ = pnm_fields(start)
    try:
        width, height = int(fields[0]), int(fields[1])
        largest = 1 if len(fields) == 2 else int(fields[2]) if kind not in (b"Pf", b"PF") else 0
    except ValueError as error:
        raise ImageError(f"damaged PNM: {fields} where numbers are expected") from error
    if width < 0 or height < 0 or not 0 <= largest < 2**16:
        raise ImageError(f"damaged PNM: {width}×{height} pixels up to {largest}")
    itemsize = 4 if largest == 0 else 1 if largest < 256 else 2
    return Header(height, width, 3 if kind in (b"P3", b"P6", b"PF") else 1, itemsize)


_PARSERS: dict[str, Callable[[bytes], Header]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "GIF": _gif,
    "BMP": _bmp,
    "WebP": _webp,
    "JPEG 2000": _jpeg2000,
    "PNM": _pnm,
}
