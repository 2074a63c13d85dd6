"""JPEG: every segment is walked to the end mark, and every block of every scan is there.

A JPEG has no checksums, and decoders fill what is missing with grey, in silence. So its codes are counted here.
"""

import re
import struct
from dataclasses import dataclass, field

import numpy as np

from segmentation.arrays import Image
from segmentation.errors import ImageError
from segmentation.io.formats.headers import FRAMES_OF_JPEG, NO_SEGMENT, jpeg_segment

#: A progressive picture has about ten; each costs a pass over all of its pixels, whatever it holds.
MAX_SCANS = 200
_TABLES, _START_OF_SCAN, _RESTARTS, _END = 0xC4, 0xDA, 0xDD, 0xD9
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
#: A marker within compressed data, other than a restart.
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff+([\xd0-\xd7])")
_FAULTS = ("", "ends before its last block", "has a code that is none", "goes on behind its last block")


@dataclass
class _Component:
    """One of a picture's channels: its sampling, and what was scanned of it."""

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
    components: dict[int, _Component] = field(default_factory=dict)
    #: Four tables for means, four for details.
    tables: Image = field(default_factory=lambda: np.zeros((8, 2**16), np.uint16))
    has_table: set[int] = field(default_factory=set)
    interval: int = 0
    scans: int = 0


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
        The end mark is missing, a scan ends early, goes on too long or holds an impossible code, a scan is missing,
        or there are more than `MAX_SCANS`.

    Notes
    -----
    O(file) time. Damage that leaves as many codes as there were is not seen: the format has no checksum.
    """
    state = _State()
    try:
        if tables:
            _walk(tables, state)
        _walk(data, state)
    except (IndexError, struct.error) as error:
        raise ImageError(f"JPEG cut short: it ends at byte {len(data):,} without an end mark") from error
    for component in state.components.values():
        if any(bits != 0 for bits in component.missing):
            raise ImageError("JPEG cut short: scans are missing")
    if not state.scans:
        raise ImageError("damaged JPEG: it holds no picture")


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
        if len(body) != length - 2:
            raise IndexError
        at += length
        if marker in FRAMES_OF_JPEG:
            _read_frame(marker, body, state)
        elif marker == _TABLES:
            _read_tables(body, state)
        elif marker == _RESTARTS:
            (state.interval,) = struct.unpack(">H", body)
        elif marker == _START_OF_SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                raise IndexError
            _check_scan(body, data[at : found.start()], state)
            at = found.start()


def _read_frame(marker: int, body: bytes, state: _State) -> None:
    if state.kind:
        raise ImageError("damaged JPEG: two frame headers")
    if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        raise ImageError(f"JPEG of kind {marker - _BASELINE}; baseline, extended and progressive Huffman are read")
    _, state.height, state.width, count = struct.unpack_from(">BHHB", body)
    state.kind = marker
    for identity, sampling, _ in struct.iter_unpack("BBB", body[6 : 6 + 3 * count]):
        across, down = sampling >> 4, sampling & 15
        if not (1 <= across <= 4 and 1 <= down <= 4):
            raise ImageError(f"damaged JPEG: sampling {across}×{down}")
        state.components[identity] = _Component(across, down)
    if len(state.components) != count:
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
    chosen = [(state.components.get(head[1 + 2 * n]), head[2 + 2 * n]) for n in range(count)]
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
    most_across = max(component.across for component in state.components.values())
    most_down = max(component.down for component in state.components.values())
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
    marks = pieces[1::2]
    if len(marks) + 1 != expected or any(mark[0] != 0xD0 + number % 8 for number, mark in enumerate(marks)):
        raise ImageError(f"damaged JPEG: {len(marks) + 1} of {expected} restart intervals, or not in order")
    plain = [piece.rstrip(b"\xff").replace(b"\xff\0", b"\xff") for piece in pieces[::2]]
    bounds = np.cumsum([0, *(len(piece) for piece in plain)]).astype(np.int64)
    return np.frombuffer(b"".join(plain), np.uint8), bounds
