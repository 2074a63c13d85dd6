"""JPEG: every segment is walked to the end mark, and every block of every scan is there.

A JPEG has no checksums, and decoders fill what is missing with grey, in silence. So its codes are counted here. What
concerns no pixel does not matter: notes of any form, bytes between segments, restart marks and padding behind a scan.
"""

import re
import struct
from dataclasses import dataclass, field

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import FRAMES_OF_JPEG, NO_SEGMENT, jpeg_segment
from segmentation.io.formats.pillow import decode_pillow, orientation_in
from segmentation.planning import Header

#: A progressive picture has about ten; each costs a pass over all of its pixels, whatever it holds.
MAX_SCANS = 200
_TABLES, _START_OF_SCAN, _RESTARTS, _END = 0xC4, 0xDA, 0xDD, 0xD9
_STEPS, _LINES, _CONDITIONS, _COMMENT = 0xDB, 0xDC, 0xCC, 0xFE
_JFIF, _EXIF, _ADOBE, _LAST_NOTE = 0xE0, 0xE1, 0xEE, 0xEF
#: Adobe's colour transforms by the number of channels; decoders guess at others.
_TRANSFORMS = {3: (0, 1), 4: (0, 2)}
#: Tables of ITU-T T.81, section K.3, that frames of motion JPEG leave out: place, codes of each length, symbols.
_STANDARD_TABLES = tuple(
    bytes.fromhex(table)
    for table in (
        "0000010501010101010100000000000000000102030405060708090a0b",
        "0100030101010101010101010000000000000102030405060708090a0b",
        "100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f0243362728209"
        "0a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586"
        "8788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6"
        "e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
        "1100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a16"
        "2434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a828384"
        "85868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5"
        "e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
    )
)
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
#: A marker within compressed data, other than a restart.
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff+([\xd0-\xd7])")
_FAULTS = ("", "ends before its last block", "has a code that is none", "goes on behind its last block")


@dataclass
class _Component:
    """One of a picture's channels: its sampling, and what was scanned of it."""

    identity: int
    across: int
    down: int
    #: Of each coefficient, how many low bits are still to come; None before its first scan.
    missing: list[int | None] = field(default_factory=lambda: [None] * 64)
    known: Image = field(default_factory=lambda: np.zeros(0, np.uint64))

    def known_of(self, n_blocks: int) -> Image:
        """Return which coefficients of each block are not zero so far, a bit each."""
        if len(self.known) != n_blocks:
            self.known = np.zeros(n_blocks, np.uint64)
        return self.known


@dataclass
class _State:
    kind: int = 0
    height: int = 0
    width: int = 0
    components: list[_Component] = field(default_factory=list)
    #: Four tables for means, four for details.
    tables: Image = field(default_factory=lambda: np.zeros((8, 2**16), np.uint16))
    has_table: set[int] = field(default_factory=set)
    interval: int = 0
    scans: int = 0
    #: Tables of steps that the frame asks for, and those that are there.
    steps: set[int] = field(default_factory=set)
    has_steps: set[int] = field(default_factory=set)
    is_jfif: bool = False
    transform: int | None = None
    exif: bytes = b""
    #: Segments that decide on pixels.
    kept: list[bytes] = field(default_factory=list)


def decode_jpeg(data: bytes, header: Header, _frame: int) -> tuple[Image, int]:
    """Decode a JPEG file; return its pixels and its orientation.

    Decoders are given the segments that decide on pixels: they stumble over notes that are damaged.

    Raises
    ------
    ImageError
        As `check_jpeg`, or with four channels of more than eight bits.
    """
    state = _walked(data)
    plain = b"\xff\xd8" + b"".join(state.kept) + b"\xff\xd9"
    orientation = orientation_in(state.exif)
    if header.itemsize == 1:
        return decode_pillow(plain, "JPEG", header, 0)[0], orientation
    import imagecodecs

    pixels: Image = imagecodecs.jpeg8_decode(plain)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise ImageError("JPEG of 12 bits and four inks; grey and colours are read")
    return pixels, orientation


def check_jpeg(data: bytes, tables: bytes | None = None) -> None:
    """Walk through a JPEG file up to its end mark.

    Parameters
    ----------
    data : bytes
        The file, or one strip of a TIFF.
    tables : bytes, optional
        What comes before it: the tables that all strips share.

    Raises
    ------
    ImageError
        The end mark is missing, a scan ends early, goes on too long or holds an impossible code, a scan or a table is
        missing, colours are coded in an unknown way, or there are more than `MAX_SCANS`.

    Notes
    -----
    O(file) time. Damage that leaves as many codes as there were is not seen: the format has no checksum.
    """
    _walked(data, tables)


def _walked(data: bytes, tables: bytes | None = None) -> _State:
    state = _State()
    try:
        if tables:
            _walk(tables, state)
        _walk(data, state)
    except (IndexError, struct.error) as error:
        raise ImageError(f"JPEG cut short: it ends at byte {len(data):,} without an end mark") from error
    for component in state.components:
        if any(bits != 0 for bits in component.missing):
            raise ImageError("JPEG cut short: scans are missing")
    if not state.scans:
        raise ImageError("damaged JPEG: it holds no picture")
    if not state.steps <= state.has_steps:
        raise ImageError("damaged JPEG: a table of steps is missing")
    known = _TRANSFORMS.get(len(state.components))
    if (
        state.transform is not None
        and known
        and state.transform not in known
        and not (state.is_jfif and len(state.components) == 3)
    ):
        raise ImageError(f"JPEG with Adobe's colour transform {state.transform}; {known[0]} and {known[1]} are read")
    return state


def _walk(data: bytes, state: _State) -> None:
    at = 2
    while True:
        marker, at = jpeg_segment(data, at)
        if marker == _END:
            return
        if marker in NO_SEGMENT:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if len(body) != length - 2 and (length >= 2 or not _is_note(marker)):
            raise IndexError
        at += max(2, length)
        if marker == _START_OF_SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                raise IndexError
            _check_scan(body, data[at : found.start()], state)
            _keep(marker, body, state)
            state.kept.append(data[at : found.start()])
            at = found.start()
        else:
            _read_segment(marker, body, state)


def _is_note(marker: int) -> bool:
    return _JFIF <= marker <= _LAST_NOTE or marker == _COMMENT


def _keep(marker: int, body: bytes, state: _State) -> None:
    state.kept.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)


def _read_segment(marker: int, body: bytes, state: _State) -> None:
    if marker in FRAMES_OF_JPEG:
        _read_frame(marker, body, state)
    elif marker == _TABLES:
        _read_tables(body, state)
    elif marker == _RESTARTS:
        (state.interval,) = struct.unpack(">H", body)
    elif marker == _STEPS:
        _read_steps(body, state)
    elif marker == _JFIF and body.startswith(b"JFIF\0") and len(body) >= 14:
        state.is_jfif = True
    elif marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
        state.transform = body[11]
    elif _is_note(marker) or marker in (_LINES, _CONDITIONS):
        if marker == _EXIF and body.startswith(b"Exif\0"):
            state.exif += body[6:] if state.exif else body
        return
    else:
        raise ImageError(f"damaged JPEG: a marker of kind 0x{marker:02X}")
    _keep(marker, body, state)


def _read_steps(body: bytes, state: _State) -> None:
    at = 0
    while at < len(body):
        state.has_steps.add(body[at] & 15)
        at += 1 + 64 * (1 + (body[at] >> 4))
    if at != len(body):
        raise ImageError("damaged JPEG: a table of steps is cut short")


def _read_frame(marker: int, body: bytes, state: _State) -> None:
    if state.kind:
        raise ImageError("damaged JPEG: two frame headers")
    if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        raise ImageError(f"JPEG of kind {marker - _BASELINE}; baseline, extended and progressive Huffman are read")
    _, state.height, state.width, count = struct.unpack_from(">BHHB", body)
    state.kind = marker
    for identity, sampling, steps in struct.iter_unpack("BBB", body[6 : 6 + 3 * count]):
        across, down = sampling >> 4, sampling & 15
        if not (1 <= across <= 4 and 1 <= down <= 4):
            raise ImageError(f"damaged JPEG: sampling {across}×{down}")
        state.components.append(_Component(identity, across, down))
        state.steps.add(steps)
    if len({component.identity for component in state.components}) != count:
        raise ImageError("damaged JPEG: a channel comes twice, or not at all")


def _read_tables(body: bytes, state: _State) -> None:
    """Lay codes out by their next 16 bits."""
    at = 0
    while at < len(body):
        lengths = np.frombuffer(body[at + 1 : at + 17], np.uint8)
        count = int(lengths.sum())
        symbols = np.frombuffer(body[at + 17 : at + 17 + count], np.uint8)
        if len(lengths) != 16 or len(symbols) != count:
            raise ImageError("damaged JPEG: a table of codes is cut short")
        bits = np.repeat(np.arange(1, 17), lengths)
        spans = 1 << (16 - bits)
        if spans.sum() > 2**16:
            raise ImageError("damaged JPEG: a table with too many codes")
        if body[at] & 15 > 3 or body[at] > 0x13:
            raise ImageError(f"damaged JPEG: a table of codes at place {body[at]}")
        place = body[at] >> 4 << 2 | body[at] & 3
        state.tables[place] = 0
        state.tables[place, : spans.sum()] = np.repeat((bits << 8 | symbols).astype(np.uint16), spans)
        state.has_table.add(place)
        at += 17 + count


def _check_scan(head: bytes, packed: bytes, state: _State) -> None:
    state.scans += 1
    if not state.kind or state.scans > MAX_SCANS:
        raise ImageError(f"JPEG with over {MAX_SCANS} scans, or a scan before its frame")
    count = head[0]
    if len(head) != 4 + 2 * count or not 1 <= count <= 4:
        raise ImageError("damaged JPEG: the head of a scan")
    by_identity = {component.identity: component for component in state.components}
    chosen = [(by_identity.get(head[1 + 2 * n]), head[2 + 2 * n]) for n in range(count)]
    components = [component for component, _ in chosen if component is not None]
    if len({id(component) for component in components}) != count:
        raise ImageError("damaged JPEG: a scan of a channel that is not there")
    first, last, bits = head[-3], head[-2], head[-1]
    is_progressive = state.kind == _PROGRESSIVE
    if not is_progressive:
        first, last, bits = 0, 63, 0
    if first > last or last > 63 or (is_progressive and first == 0 < last) or (first and count > 1):
        raise ImageError(f"damaged JPEG: a scan of coefficients {first} to {last}")
    _follow(components, first, last, bits >> 4, bits & 15)
    units, counts = _units(components, state)
    interval = state.interval or units
    plain, bounds = _intervals(packed, _ceil(units, interval))
    used = [(tables >> 4 & 3, 4 | tables & 3) for _, tables in chosen]
    refined = bool(bits >> 4)
    needed = {pair[n] for pair in used for n, is_used in enumerate((not first and not refined, bool(last))) if is_used}
    if not needed <= state.has_table and not is_progressive:
        _add_standard_tables(state)
    if not needed <= state.has_table:
        raise ImageError("damaged JPEG: a table of codes is missing")
    if first:
        from segmentation.kernels.jpeg import check_details

        known = components[0].known_of(units)
        span = np.array((first, last), np.int64)
        fault = check_details(plain, bounds, interval, units, state.tables, used[0][1], span, refined, known)
    else:
        from segmentation.kernels.jpeg import check_blocks

        blocks = np.repeat(np.array(used, np.int64), counts, axis=0)
        kind = 0 if last else 2 if refined else 1
        fault = check_blocks(plain, bounds, interval, units, state.tables, blocks, kind)
    if fault:
        raise ImageError(f"damaged JPEG: scan {state.scans} {_FAULTS[fault]}")


def _add_standard_tables(state: _State) -> None:
    for table in _STANDARD_TABLES:
        if table[0] >> 4 << 2 | table[0] & 3 not in state.has_table:
            _read_tables(table, state)
            _keep(_TABLES, table, state)


def _follow(components: list[_Component], first: int, last: int, high: int, low: int) -> None:
    """Note which bits come with a scan; each scan must go on where the one before it ended."""
    for component in components:
        for at in range(first, last + 1):
            before = component.missing[at]
            if (before or 0) != high or (before is None) != (high == 0) or (high and low != high - 1):
                raise ImageError("damaged JPEG: a scan is missing, or comes twice")
            component.missing[at] = low


def _units(components: list[_Component], state: _State) -> tuple[int, list[int]]:
    """Return how many units a scan has, and how many blocks of each component a unit."""
    most_across = max(component.across for component in state.components)
    most_down = max(component.down for component in state.components)
    if len(components) == 1:
        columns = _ceil(_ceil(state.width * components[0].across, most_across), 8)
        return columns * _ceil(_ceil(state.height * components[0].down, most_down), 8), [1]
    units = _ceil(state.width, 8 * most_across) * _ceil(state.height, 8 * most_down)
    return units, [component.across * component.down for component in components]


def _ceil(number: int, step: int) -> int:
    return -(-number // step)


def _intervals(packed: bytes, expected: int) -> tuple[Image, Image]:
    """Take stuffing and restart marks away; return the bytes, and where intervals begin and end."""
    pieces = _RESTART.split(packed)
    plain = [piece.rstrip(b"\xff").replace(b"\xff\0", b"\xff") for piece in pieces[::2]]
    while len(plain) > expected and len(set(plain[-1])) <= 1:  # cameras put a mark behind the last interval, too
        plain.pop()
    marks = pieces[1 : 2 * len(plain) - 1 : 2]
    if len(plain) != expected or any(mark[0] != 0xD0 + number % 8 for number, mark in enumerate(marks)):
        raise ImageError(f"damaged JPEG: {len(plain)} of {expected} restart intervals, or not in order")
    bounds = np.cumsum([0, *(len(piece) for piece in plain)]).astype(np.int64)
    return np.frombuffer(b"".join(plain), np.uint8), bounds
