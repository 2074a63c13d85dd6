"""The chain of a TIFF's pages, walked before a decoder sees the file."""

import io
import struct
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from segmentation.errors import ImageError

#: More pages than any archive's stacks have.
MAX_PAGES = 10_000
_MAX_TAGS = 4096
_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_SUBFILE_TAG, _WIDTH_TAG, _HEIGHT_TAG, _SUBPAGES_TAG = 254, 256, 257, 330
#: Whole numbers in a tag, and offsets of pages.
_NUMBERS, _OFFSETS = {1: "B", 3: "H", 4: "I", 16: "Q"}, {4: "I", 13: "I", 16: "Q", 18: "Q"}
_REDUCED, _MASK = 1, 4


@dataclass(frozen=True)
class Page:
    """Where a picture's page begins, and that of its mask (0: it has none); if the file has no other page."""

    offset: int
    mask: int = 0
    is_only: bool = False


@dataclass(frozen=True)
class _Layout:
    order: str
    is_big: bool

    def unpack(self, kind: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack(self.order + kind, data)


@dataclass(frozen=True)
class _Walked:
    """What the tags of a page tell while walking."""

    subfile: int
    pixels: int
    #: Kind, number and field of the tag that says where pages below this one are.
    below: tuple[int, int, bytes] | None
    after: int


def picture_pages(file: BinaryIO, size: int) -> list[Page]:
    """Walk the chain of pages; return those that are pictures, each with the mask that follows it.

    Previews are left out, unless a preview is all there is: then its mark is wrong. A camera's raw file has its picture
    below its preview instead, and is refused.

    Raises
    ------
    ImageError
        The chain leaves the file, bites its tail, has more than `MAX_PAGES` pages, or a page more tags, or a tag
        more values, than the file can hold.
    """
    layout, at = _first_page(file)
    walked: dict[int, _Walked] = {}
    while at:
        if at in walked:
            raise ImageError("damaged TIFF: its chain of pages runs in a circle")
        if len(walked) >= MAX_PAGES:
            raise ImageError(f"TIFF with more than {MAX_PAGES:,} pages")
        walked[at] = _walk_page(file, layout, at, size)
        at = walked[at].after
    if not walked:
        raise ImageError("damaged TIFF: it has no page")
    return _pictures(walked)


def _pictures(walked: dict[int, _Walked]) -> list[Page]:
    pictures: list[Page] = []
    for at, page in walked.items():
        if not page.subfile & (_REDUCED | _MASK):
            pictures.append(Page(at, is_only=len(walked) == 1))
        elif page.subfile & (_REDUCED | _MASK) == _MASK:
            if not pictures:
                raise ImageError("TIFF with a mask before any picture; that of a picture follows it")
            if not pictures[-1].mask:
                pictures[-1] = replace(pictures[-1], mask=at)
    if pictures:
        return pictures
    previews = [at for at, page in walked.items() if not page.subfile & _MASK]
    if len(previews) == 1 and walked[previews[0]].below is None:
        return [Page(previews[0], is_only=len(walked) == 1)]
    raise ImageError("TIFF of previews only (a camera's raw file?); the picture needs a page of its own")


def check_subpages(file: BinaryIO, page: Page) -> None:
    """Refuse a page with a larger picture below it: a camera's preview, though nothing marks it as one.

    Raises
    ------
    ImageError
        There is one, or the pages below cannot be read.
    """
    size = file.seek(0, io.SEEK_END)
    layout, _ = _first_page(file)
    shown = _walk_page(file, layout, page.offset, size)
    if shown.below is None:
        return
    for at in _offsets(file, layout, *shown.below):
        below = _walk_page(file, layout, at, size)
        if below.pixels > shown.pixels and not below.subfile & _MASK:
            raise ImageError("TIFF whose picture stands below a smaller one (a camera's raw file?); such is not read")


def _offsets(file: BinaryIO, layout: _Layout, kind: int, count: int, field: bytes) -> list[int]:
    if kind not in _OFFSETS or count > MAX_PAGES:
        raise ImageError("damaged TIFF: the places of pages below another")
    n_bytes = count * _BYTES[kind]
    if n_bytes > len(field):
        file.seek(layout.unpack("Q" if layout.is_big else "I", field)[0])
        field = _read(file, n_bytes)
    return [at for at in layout.unpack(f"{count}{_OFFSETS[kind]}", field[:n_bytes]) if at]


def _first_page(file: BinaryIO) -> tuple[_Layout, int]:
    file.seek(0)
    magic = _read(file, 8)
    layout = _Layout("<" if magic[:2] == b"II" else ">", magic[2] == 43 or magic[3] == 43)
    if layout.is_big:
        return layout, int(layout.unpack("Q", _read(file, 8))[0])
    return layout, int(layout.unpack("I", magic[4:])[0])


def _walk_page(file: BinaryIO, layout: _Layout, at: int, size: int) -> _Walked:
    """Check the tags of a page; return what it is and where the next page is."""
    count_kind, tag_kind, next_kind = ("Q", "HHQ8s", "Q") if layout.is_big else ("H", "HHI4s", "I")
    if at >= size:
        raise ImageError(f"TIFF cut short: a page begins at byte {at:,} of {size:,}")
    file.seek(at)
    (count,) = layout.unpack(count_kind, _read(file, struct.calcsize("=" + count_kind)))
    if not 0 < count <= _MAX_TAGS:
        raise ImageError(f"damaged TIFF: a page with {count:,} tags; 1 to {_MAX_TAGS:,} are allowed")
    tag_bytes = struct.calcsize("=" + tag_kind)
    tags = _read(file, count * tag_bytes)
    (after,) = layout.unpack(next_kind, _read(file, struct.calcsize("=" + next_kind)))
    found: dict[int, int] = {}
    below: tuple[int, int, bytes] | None = None
    for code, kind, values, field in struct.iter_unpack(layout.order + tag_kind, tags):
        if values * (_BYTES[kind] if kind < len(_BYTES) else 1) > size:
            raise ImageError(f"damaged TIFF: tag {code} with {values:,} values in a file of {size:,} bytes")
        if code in (_SUBFILE_TAG, _WIDTH_TAG, _HEIGHT_TAG) and kind in _NUMBERS:
            if _BYTES[kind] > len(field):
                raise ImageError(f"damaged TIFF: tag {code} has a number of {_BYTES[kind]} bytes; 4 fit")
            found[code] = layout.unpack(_NUMBERS[kind], field[: _BYTES[kind]])[0]
        elif code == _SUBPAGES_TAG:
            below = kind, values, field
    return _Walked(found.get(_SUBFILE_TAG, 0), found.get(_WIDTH_TAG, 0) * found.get(_HEIGHT_TAG, 0), below, after)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ImageError("TIFF cut short: it ends within its tags")
    return data
