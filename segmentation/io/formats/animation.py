"""Frames of animations as a player shows them: each is drawn over the canvas that the one before it left."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Literal

import numpy as np

from segmentation.arrays import Image

#: What becomes of a frame's place before the next one: nothing, transparent, or what was there before it.
Disposal = Literal["keep", "clear", "restore"]
#: A worker may have several threads, and there is one player.
_IN_USE = Lock()


@dataclass(frozen=True)
class Piece:
    """What is stored of a frame: pixels of shape (m, n, channels + 1), alpha last, and how they are drawn."""

    pixels: Image
    top: int
    left: int
    disposal: Disposal
    is_blended: bool
    background: tuple[int, ...] = (0,)


def shown_frame(data: bytes, pieces: Callable[[bytes], Iterator[Piece]], shape: tuple[int, int], frame: int) -> Image:
    """Return a frame, from 1, or the only one (0), of shape (M, N, channels).

    Below transparent parts are the colours that are stored there, the background where nothing was drawn. Frames in
    their order are decoded once each: the canvas of the last one is kept.
    """
    if not frame:
        return _Player(pieces(data), shape).show(1)
    with _IN_USE:
        player = _player(data, pieces, shape)
        if frame < player.shown:
            _player.cache_clear()
            player = _player(data, pieces, shape)
        try:
            return player.show(frame)
        except Exception:  # it cannot go on; the next frame asked for finds the same fault
            _player.cache_clear()
            raise


class _Player:
    def __init__(self, pieces: Iterator[Piece], shape: tuple[int, int]) -> None:
        self._canvases = _canvases(pieces, shape)
        self._canvas: Image | None = None
        self.shown = 0

    def show(self, frame: int) -> Image:
        while self._canvas is None or self.shown < frame:
            self._canvas = next(self._canvases)
            self.shown += 1
        return self._canvas[..., :-1].copy()


@lru_cache(maxsize=1)
def _player(data: bytes, pieces: Callable[[bytes], Iterator[Piece]], shape: tuple[int, int]) -> _Player:
    return _Player(pieces(data), shape)


def _canvases(pieces: Iterator[Piece], shape: tuple[int, int]) -> Iterator[Image]:
    canvas: Image | None = None
    for piece in pieces:
        if canvas is None:
            canvas = np.zeros((*shape, piece.pixels.shape[2]), piece.pixels.dtype)
            canvas[..., :-1] = piece.background
        # What lies beyond the canvas is not shown.
        place = canvas[piece.top :, piece.left :][: piece.pixels.shape[0], : piece.pixels.shape[1]]
        pixels = piece.pixels[: place.shape[0], : place.shape[1]]
        before = place.copy() if piece.disposal == "restore" else None
        if piece.is_blended:
            _blend(place, pixels)
        else:
            place[...] = pixels
        yield canvas
        if piece.disposal == "clear":
            place[..., :-1] = piece.background
            place[..., -1] = 0
        elif before is not None:
            place[...] = before


def _blend(below: Image, above: Image) -> None:
    """Draw pixels over others: PNG specification, section 13.16."""
    top = np.iinfo(below.dtype).max
    alpha = above[..., -1]
    whole = (alpha == top) | ((alpha == 0) & (below[..., -1] == 0))
    if whole.all():
        below[...] = above
        return
    np.copyto(below, above, where=whole[..., None])
    mixed = (alpha > 0) & ~whole
    if mixed.any():
        over, under = above[mixed] / top, below[mixed] / top
        share = under[:, -1:] * (1 - over[:, -1:])
        total = over[:, -1:] + share
        colours = (over[:, :-1] * over[:, -1:] + under[:, :-1] * share) / total
        below[mixed] = np.rint(np.hstack([colours, total]) * top).astype(below.dtype)
