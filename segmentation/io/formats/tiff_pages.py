"""The chain of a TIFF's pages, walked before a decoder sees the file."""

import struct
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from segmentation.errors import ImageError

#: More pages than any archive's stacks have.
MAX_PAGES = 10_000
_MAX_TAGS = 4096
_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_SUBFILE_TAG, _SUBPAGES_TAG = 254, 330
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
    has_subpages: bool
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
        elif page.subfile & (_REDUCED | _MASK) == _MASK and pictures and not pictures[-1].mask:
            pictures[-1] = replace(pictures[-1], mask=at)
    if pictures:
        return pictures
    previews = [at for at, page in walked.items() if not page.subfile & _MASK]
    if len(previews) == 1 and not walked[previews[0]].has_subpages:
        return [Page(previews[0], is_only=len(walked) == 1)]
    raise ImageError("TIFF of previews only (a camera's raw file?); the picture needs a page of its own")


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
    subfile, has_subpages = 0, False
    for code, kind, values, field in struct.iter_unpack(layout.order + tag_kind, tags):
        if values * (_BYTES[kind] if kind < len(_BYTES) else 1) > size:
            raise ImageError(f"damaged TIFF: tag {code} with {values:,} values in a file of {size:,} bytes")
        if code == _SUBFILE_TAG:
            subfile = layout.unpack("H" if kind == 3 else "I", field[: 2 if kind == 3 else 4])[0]
        has_subpages |= code == _SUBPAGES_TAG
    return _Walked(subfile, has_subpages, after)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ImageError("TIFF cut short: it ends within its tags")
    return data
