"""A walk through the Huffman codes of a JPEG that decodes no pixels: all blocks are there, and nothing else.

ITU-T T.81, sections F.2.2 and G.2; G.1.2.3 for refinements. Codes are looked up by their next 16 bits: length in the
upper byte, symbol in the lower, 0 where no code begins so.
"""

import numpy as np
from numpy.typing import NDArray

from segmentation.arrays import Bytes8, Ints
from segmentation.kernels.compiled import compiled

Codes = NDArray[np.uint16]
Known = NDArray[np.uint64]

WHOLE, SHORT, WRONG, SURPLUS = 0, 1, 2, 3
# Places in the state of a reader.
_AT, _END, _BITS, _N_BITS, _FAULT = 0, 1, 2, 3, 4


@compiled
def check_blocks(
    data: Bytes8, bounds: Ints, interval: int, n_units: int, tables: Codes, blocks: Ints, kind: int
) -> int:
    """Walk through a scan of whole blocks (kind 0), or of their means alone: first (1) or refined (2).

    Parameters
    ----------
    data : ndarray of uint8
        The scan without stuffing and markers.
    bounds : ndarray of int64, shape (R + 1,)
        Where its R restart intervals begin, and the end.
    interval : int
        Units between restarts.
    n_units : int
        Units to walk through.
    tables : ndarray of uint16, shape (8, 65536)
        Four tables of codes for means, four for details.
    blocks : ndarray of int64, shape (B, 2)
        The two tables of each block of a unit.
    kind : int
        0, 1 or 2: see above.

    Returns
    -------
    fault : int
        WHOLE, SHORT, WRONG (no such code) or SURPLUS (codes are left).
    """
    state = np.zeros(5, np.int64)
    for part in range(len(bounds) - 1):
        _start(state, bounds[part], bounds[part + 1])
        for _ in range(min(interval, n_units - part * interval)):
            for block in range(len(blocks)):
                if kind == 2:
                    _skip(data, state, 1)
                    continue
                size = _symbol(data, state, tables[blocks[block, 0]])
                if size > 15:
                    state[_FAULT] = WRONG
                _skip(data, state, size)
                if kind == 0:
                    _walk_block(data, state, tables[blocks[block, 1]])
            if state[_FAULT] != WHOLE:
                return int(state[_FAULT])
        if _goes_on(data, state):
            return SURPLUS
    return WHOLE


@compiled
def check_details(
    data: Bytes8,
    bounds: Ints,
    interval: int,
    n_units: int,
    tables: Codes,
    codes_at: int,
    span: Ints,
    refined: bool,
    known: Known,
) -> int:
    """Walk through a progressive scan of some coefficients of one component.

    Parameters
    ----------
    codes_at : int
        Which of the tables is its.
    span : ndarray of int64, shape (2,)
        First and last coefficient.
    refined : bool
        One more bit of coefficients that were scanned before.
    known : ndarray of uint64, shape (n_units,)
        Which coefficients of each block are not zero so far, a bit each; changed in place.

    Returns
    -------
    fault : int
        As `check_blocks`, which says what the other parameters are.
    """
    state = np.zeros(5, np.int64)
    codes = tables[codes_at]
    for part in range(len(bounds) - 1):
        _start(state, bounds[part], bounds[part + 1])
        run = 0
        first = part * interval
        for unit in range(first, min(first + interval, n_units)):
            if refined:
                run = _refine(data, state, codes, span, run, known, unit)
            elif run > 0:
                run -= 1
            else:
                run = _first_bits(data, state, codes, span, known, unit)
            if state[_FAULT] != WHOLE:
                return int(state[_FAULT])
        if _goes_on(data, state):
            return SURPLUS
    return WHOLE


@compiled
def _walk_block(data: Bytes8, state: Ints, codes: Codes) -> None:
    at = 1
    while at < 64:
        symbol = _symbol(data, state, codes)
        size = symbol & 15
        if size == 0:
            if symbol != 0xF0:
                return
            at += 16
            continue
        at += (symbol >> 4) + 1
        if at > 64:
            state[_FAULT] = WRONG
            return
        _skip(data, state, size)


@compiled
def _first_bits(data: Bytes8, state: Ints, codes: Codes, span: Ints, known: Known, unit: int) -> int:
    """Walk through a block; return how many more are empty."""
    at = span[0]
    while at <= span[1]:
        symbol = _symbol(data, state, codes)
        zeros, size = symbol >> 4, symbol & 15
        if size == 0:
            if zeros < 15:
                return (1 << zeros) + _skip(data, state, zeros) - 1
            at += 16
            continue
        at += zeros
        if at > span[1]:
            state[_FAULT] = WRONG
            return 0
        _skip(data, state, size)
        known[unit] |= np.uint64(1) << np.uint64(at)
        at += 1
    return 0


@compiled
def _refine(data: Bytes8, state: Ints, codes: Codes, span: Ints, run: int, known: Known, unit: int) -> int:
    """Walk through a block that was scanned before; return how many more are without anything new."""
    at = span[0]
    while run == 0 and at <= span[1]:
        symbol = _symbol(data, state, codes)
        zeros, size = symbol >> 4, symbol & 15
        if size > 1 or state[_FAULT] != WHOLE:
            state[_FAULT] = max(state[_FAULT], WRONG if size > 1 else WHOLE)
            return 0
        if size == 0 and zeros < 15:
            run = (1 << zeros) + _skip(data, state, zeros)
            break
        _skip(data, state, size)
        while at <= span[1]:
            if known[unit] >> np.uint64(at) & np.uint64(1):
                _skip(data, state, 1)
            elif zeros == 0:
                break
            else:
                zeros -= 1
            at += 1
        if size == 1:
            if at > span[1]:
                state[_FAULT] = WRONG
                return 0
            known[unit] |= np.uint64(1) << np.uint64(at)
        at += 1
    if run == 0:
        return 0
    while at <= span[1]:
        if known[unit] >> np.uint64(at) & np.uint64(1):
            _skip(data, state, 1)
        at += 1
    return run - 1


@compiled
def _start(state: Ints, begin: int, end: int) -> None:
    state[_AT] = begin
    state[_END] = end
    state[_BITS] = 0
    state[_N_BITS] = 0


@compiled
def _fill(data: Bytes8, state: Ints) -> None:
    bits, n_bits, at = state[_BITS], state[_N_BITS], state[_AT]
    while n_bits <= 40 and at < state[_END]:
        bits = (bits << 8 | data[at]) & 0xFFFFFFFFFFFF
        n_bits += 8
        at += 1
    state[_BITS] = bits
    state[_N_BITS] = n_bits
    state[_AT] = at


@compiled
def _symbol(data: Bytes8, state: Ints, codes: Codes) -> int:
    if state[_N_BITS] < 16:
        _fill(data, state)
    n_bits = state[_N_BITS]
    ahead = state[_BITS] >> (n_bits - 16) if n_bits >= 16 else state[_BITS] << (16 - n_bits)
    found = int(codes[ahead & 0xFFFF])
    length = found >> 8
    if length == 0 or length > n_bits:
        state[_FAULT] = SHORT if n_bits < 16 else WRONG
        return 0
    state[_N_BITS] = n_bits - length
    return found & 255


@compiled
def _skip(data: Bytes8, state: Ints, count: int) -> int:
    """Read some bits as a number."""
    if state[_N_BITS] < count:
        _fill(data, state)
    left = state[_N_BITS] - count
    if left < 0:
        state[_FAULT] = SHORT
        return 0
    state[_N_BITS] = left
    return int(state[_BITS] >> left & ((1 << count) - 1))


@compiled
def _goes_on(data: Bytes8, state: Ints) -> bool:
    """Tell whether bytes are left that are no padding.

    Padding is all alike, as are the bits before it, and unlike the byte of the last code: that may be padding, too.
    """
    whole = state[_N_BITS] // 8
    first = state[_AT] - whole
    if first >= state[_END]:
        return False
    mask = (1 << (state[_N_BITS] - 8 * whole)) - 1
    bits = state[_BITS] >> (8 * whole) & mask
    if (bits != 0 and bits != mask) or first == 0 or data[first - 1] == data[first]:
        return True
    return bool((data[first + 1 : state[_END]] != data[first]).any())
