"""JPEG 2000: every tile part is there to the end mark, and there are not too many; channels are what the file says.

A decoder turns the codestream into channels; palette, order, opacity and colour space are read off the boxes around it
here, since decoders take them into account each in its own way. What is not understood is refused.
"""

import struct
from dataclasses import dataclass, field

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import codestream_at, jp2_boxes
from segmentation.io.formats.tiff_colors import cmyk_to_rgb
from segmentation.planning import Header

#: A decoder makes room for all tiles before it reads the first.
MAX_TILES = 10_000
_MAX_LAYERS = 100
#: Precincts of a tile and resolution, at most: a decoder makes room for all of them, too.
_MAX_PRECINCTS = 100_000
#: Enumerated colour spaces, and those of ICC profiles, that are read.
_SPACES = {16: "RGB", 17: "grey", 18: "YCC", 12: "CMYK", b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK"}
_N_COLOURS = {"grey": 1, "RGB": 3, "YCC": 3, "CMYK": 4}
_COLOUR, _OPACITIES = 0, (1, 2)
_SIZE, _CODING, _TILE_PART, _END = 0xFF51, 0xFF52, 0xFF90, 0xFFD9


def check_jpeg2000(data: bytes) -> None:
    """Walk through the codestream of a JPEG 2000 file up to its end mark.

    Raises
    ------
    ImageError
        It is cut short, or divided into more tiles, layers or precincts than any picture needs.
    """
    try:
        _walk(data, codestream_at(data) + 2)
    except (IndexError, struct.error) as error:
        raise ImageError(f"JPEG 2000 cut short: it ends at byte {len(data):,} without an end mark") from error


def _walk(data: bytes, at: int) -> None:
    tile_side = 0
    while True:
        (marker,) = struct.unpack_from(">H", data, at)
        if marker == _END:
            return
        if marker == _TILE_PART:
            (length,) = struct.unpack_from(">I", data, at + 6)
            if length == 0:  # the last one: to the end mark
                if data[-2:] != b"\xff\xd9":
                    raise IndexError
                return
            if length < 14:
                raise ImageError(f"damaged JPEG 2000: a tile part of {length} bytes")
            at += length
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == _SIZE:
            tile_side = _check_tiles(data, at)
        elif marker == _CODING:
            _check_coding(data, at, length, tile_side)
        elif marker < 0xFF00 or length < 2:
            raise ImageError("damaged JPEG 2000: a marker is missing")
        at += 2 + length


def _check_tiles(data: bytes, at: int) -> int:
    x1, y1, _, _, tile_x, tile_y, left, top = struct.unpack_from(">8I", data, at + 6)
    if not tile_x or not tile_y or left >= x1 or top >= y1:
        raise ImageError("damaged JPEG 2000: tiles without pixels")
    tiles = -(-(x1 - left) // tile_x) * -(-(y1 - top) // tile_y)
    if tiles > MAX_TILES:
        raise ImageError(f"JPEG 2000 in {tiles:,} tiles; {MAX_TILES:,} are allowed")
    return int(max(min(tile_x, x1), min(tile_y, y1)))


def _check_coding(data: bytes, at: int, length: int, tile_side: int) -> None:
    style, _, layers, _, levels = struct.unpack_from(">BBHBB", data, at + 4)
    if layers > _MAX_LAYERS or levels > 32:
        raise ImageError(f"JPEG 2000 with {layers:,} layers, {levels} levels; {_MAX_LAYERS} and 32 are allowed")
    if style & 1:
        for level, size in enumerate(data[at + 14 : at + 2 + length]):
            side = tile_side >> (levels - level)
            precincts = ((side >> (size & 15)) + 1) * ((side >> (size >> 4)) + 1)
            if precincts > _MAX_PRECINCTS:
                raise ImageError(f"JPEG 2000 in {precincts:,} precincts a tile; {_MAX_PRECINCTS:,} are allowed")


@dataclass
class _Channels:
    """What the boxes say of channels."""

    #: Height, width and number of components of the codestream.
    size: tuple[int, int, int]
    #: A name of `_SPACES`, one that is not read, or "" if nothing is said.
    space: str = ""
    #: Component and column of each channel, where there is a palette; no column: the component itself.
    mapping: list[tuple[int, int | None]] = field(default_factory=list)
    palette: Image | None = None
    #: Bits of each column.
    depths: list[int] = field(default_factory=list)
    #: Channel, type, and the colour it stands for.
    definitions: list[tuple[int, int, int]] = field(default_factory=list)


def decode_jpeg2000(data: bytes, _header: Header, _frame: int) -> tuple[Image, int]:
    """Decode a JPEG 2000 file; return its pixels and its orientation.

    Samples below eight bits are spread over eight, signed ones begin at 0.

    Raises
    ------
    ImageError
        As `check_jpeg2000`; or channels are sampled or coded in a way that is not read, or nothing says what they are.
    """
    check_jpeg2000(data)
    try:
        said = _read_boxes(data)
    except (IndexError, struct.error) as error:
        raise ImageError("damaged JPEG 2000: its description of channels is cut short") from error
    at = codestream_at(data)
    pixels, depths = _components(data[at:], said)
    if said.palette is not None:
        pixels, depths = _look_up(pixels, depths, said)
    order, space = _colours(said, pixels.shape[2])
    if len({depths[channel] for channel in order}) > 1:
        raise ImageError(f"JPEG 2000 with channels of {depths} bits; those of one depth are read")
    return _as_image(pixels[..., order], space, depths[order[0]]), 1


def _as_image(pixels: Image, space: str, depth: int) -> Image:
    top = (1 << depth) - 1
    if space == "YCC":
        pixels = _ycc_to_rgb(pixels, top)
    if depth < 8:
        pixels = (pixels.astype(np.uint16) * 255 // top).astype(np.uint8)
    if space == "CMYK":
        pixels = cmyk_to_rgb(pixels)
    return pixels[..., 0] if space == "grey" else pixels


def _ycc_to_rgb(pixels: Image, top: int) -> Image:
    """Turn brightness and two differences of colour into colours: ITU-R BT.601, all values used."""
    y, blue, red = (pixels[..., n].astype(np.float32) - (n > 0) * (top // 2 + 1) for n in range(3))
    mixed = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2)
    rounded: Image = np.rint(np.clip(mixed, 0, top)).astype(pixels.dtype)
    return rounded


def _components(stream: bytes, said: _Channels) -> tuple[Image, list[int]]:
    """Decode all components; return them as unsigned, and the bits of each."""
    import imagecodecs

    (count,) = struct.unpack_from(">H", stream, 40)
    sizes = list(struct.iter_unpack("BBB", stream[42 : 42 + 3 * count]))
    depths = [(depth & 0x7F) + 1 for depth, _, _ in sizes]
    if max(depths) > 16:
        raise ImageError(f"JPEG 2000 of {max(depths)} bits; up to 16 are read")
    starts = struct.unpack_from(">II", stream, 16)
    is_halved = count == 3 and sizes[0][1:] == (1, 1) and sizes[1] == sizes[2] and sizes[1][1:] in ((2, 1), (2, 2))
    is_halved = is_halved and starts[0] % 2 == starts[1] % 2 == 0
    if any(size[1:] != (1, 1) for size in sizes):
        if not is_halved or said.space not in ("", "YCC") or said.palette is not None or len(set(depths)) > 1:
            steps = ", ".join(f"{down}×{across}" for _, across, down in sizes[:4])
            raise ImageError(
                f"JPEG 2000 whose channels are sampled every {steps} pixels; every one, or YCC 4:2:x is read"
            )
        said.space = "RGB"  # the decoder brings differences of colour up to full size, and mixes them
    if len({size[0] for size in sizes}) > 1:
        raise ImageError(f"JPEG 2000 with channels of {depths[:4]} bits, signed or not; those of one kind are read")
    pixels: Image = imagecodecs.jpeg2k_decode(stream)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype.kind == "i":
        offsets = np.array([1 << (depth - 1) for depth in depths])
        pixels = (pixels + offsets).astype(f"u{pixels.itemsize}")
    return pixels, depths


def _read_boxes(data: bytes) -> _Channels:
    at = codestream_at(data)
    x1, y1, x0, y0, count = struct.unpack_from(">4I16xH", data, at + 8)
    said = _Channels((y1 - y0, x1 - x0, count))
    if at == 0:
        return said
    pictures = 0
    for kind, begin, end in jp2_boxes(data, 0, len(data)):
        pictures += kind == b"jp2c"
        if kind == b"jp2h":
            for name, first, last in jp2_boxes(data, begin, end):
                if last > end:
                    raise IndexError
                _read_box(name, data[first:last], said)
    if pictures > 1:
        raise ImageError(f"JPEG 2000 with {pictures} pictures; one is expected")
    return said


def _read_box(name: bytes, body: bytes, said: _Channels) -> None:
    if name == b"ihdr":
        found = struct.unpack_from(">IIH", body)
        if found != said.size:
            raise ImageError(f"damaged JPEG 2000: {_text(*found)}, its codestream says {_text(*said.size)}")
    elif name == b"colr" and said.space not in _N_COLOURS:
        (number,) = struct.unpack_from(">I", body, 3) if body[0] == 1 else (0,)
        profile = body[3:] if body[0] in (2, 3) else b""
        if number or profile:
            said.space = _SPACES.get(number or profile[16:20], f"number {number}" if number else "of another profile")
    elif name == b"pclr":
        _read_palette(body, said)
    elif name == b"cmap":
        said.mapping = [(at, column if how else None) for at, how, column in struct.iter_unpack(">HBB", body)]
    elif name == b"cdef":
        said.definitions = list(struct.iter_unpack(">HHH", body[2 : 2 + 6 * int.from_bytes(body[:2])]))


def _text(height: int, width: int, count: int) -> str:
    return f"{height}×{width} pixels of {count} channels"


def _read_palette(body: bytes, said: _Channels) -> None:
    count, columns = struct.unpack_from(">HB", body)
    stored = body[3 : 3 + columns]
    said.depths = [(depth & 0x7F) + 1 for depth in stored]
    if not stored or max(said.depths) > 16 or max(stored) > 0x7F:
        raise ImageError("JPEG 2000 whose palette is empty, signed or over 16 bits; 1 to 16 are read")
    entry = np.dtype([(str(n), ">u2" if depth > 8 else "u1") for n, depth in enumerate(said.depths)])
    if len(body) < 3 + columns + count * entry.itemsize:
        raise IndexError
    table = np.frombuffer(body, entry, count, 3 + columns)
    said.palette = np.stack([table[str(n)].astype(np.uint16) for n in range(columns)], axis=1)
    if any(int(column.max(initial=0)) >> depth for column, depth in zip(said.palette.T, said.depths, strict=True)):
        raise ImageError("damaged JPEG 2000: a colour of its palette is larger than its depth allows")


def _look_up(pixels: Image, depths: list[int], said: _Channels) -> tuple[Image, list[int]]:
    palette = said.palette
    if palette is None or not said.mapping:
        raise ImageError("damaged JPEG 2000: nothing says which channel its palette is for")
    channels, bits = [], []
    for component, column in said.mapping:
        if component >= len(depths) or (column is not None and column >= len(said.depths)):
            raise ImageError("damaged JPEG 2000: a channel of a component or a colour that is not there")
        values = pixels[..., component]
        if column is None:
            channels.append(values)
            bits.append(depths[component])
            continue
        if int(values.max()) >= len(palette):
            raise ImageError(f"damaged JPEG 2000: colour {int(values.max())} of a palette of {len(palette)}")
        channels.append(palette[values, column])
        bits.append(said.depths[column])
    dtype = np.uint16 if max(bits) > 8 else np.uint8
    return np.stack([channel.astype(dtype) for channel in channels], axis=2), bits


def _colours(said: _Channels, count: int) -> tuple[list[int], str]:
    """Return which channels are the colours, in their order, and the colour space they are in."""
    if said.space and said.space not in _N_COLOURS:
        raise ImageError(
            f"JPEG 2000 in colour space {said.space}; grey, sRGB, sYCC, CMYK and ICC profiles of them are read"
        )
    definitions = said.definitions or [(n, _COLOUR, n + 1) for n in range(count)]
    if sorted(channel for channel, _, _ in definitions) != list(range(count)):
        raise ImageError(f"damaged JPEG 2000: {len(definitions)} of {count} channels are described")
    colours = sorted((colour, channel) for channel, what, colour in definitions if what == _COLOUR)
    unknown = [channel for channel, what, _ in definitions if what not in (_COLOUR, *_OPACITIES)]
    space = said.space or {1: "grey", 3: "RGB"}.get(len(colours), "")
    if space == "RGB" and len(colours) == 1:  # some encoders say RGB of grey
        space = "grey"
    if unknown or len(colours) != _N_COLOURS.get(space):
        raise ImageError(f"JPEG 2000 with {count} channels, of which nothing says that they are colours and opacity")
    order = [colour for colour, _ in colours]
    if order != list(range(1, len(colours) + 1)) and order != [0]:
        raise ImageError(f"damaged JPEG 2000: its channels stand for colours {order}")
    return [channel for _, channel in colours], space
