"""Zip and tar archives that are never extracted: their members, and the bytes of one, read through limits.

A zip's member is found by its offset. A packed tar can only be read from its start: a process keeps the last one it
read open, so that members in the order of the archive cost one pass.
"""

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, cast

from segmentation.errors import ImageError, StoreError
from segmentation.io.formats.headers import MAGIC_BYTES, sniff
from segmentation.io.places import LINK, SPECIAL, open_place, size_of, stamp_of
from segmentation.planning import Part

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
#: What unpacks to more than this many bytes may not be smaller packed by more than `MAX_RATIO`.
_RATIO_BYTES = 2**26
MAX_RATIO = 500
MAX_MEMBERS = 1_000_000
_PIECE = 2**20
#: A tar's own headers (long names) are read whole.
_MAX_HEADER = 2**24
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
#: Systems on which a backslash divides folders: MS-DOS, OS/2, Windows, VFAT. Older .NET writes names so.
_WINDOWS = frozenset({0, 6, 10, 14})
_UNICODE_PATH, _UTF8_NAME = 0x7075, 0x800
#: Words in what an unpacker says of an archive that was cut.
_CUT = ("truncated", "unexpected end", "premature", "empty file")
_PACKINGS = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst"))


@dataclass(frozen=True)
class Member:
    """An entry of an archive that is not a folder."""

    name: str
    part: Part
    problem: str = ""


def members_of(place: str) -> Iterator[Member]:
    """List the members of an archive: a zip's as its table of contents has them, a tar's in their order.

    Raises
    ------
    ImageError
        It is no archive, or damaged from some member on.
    """
    with open_place(place, follow_links=True) as file:
        start = file.read(6)
        file.seek(0)
        try:
            members: Iterator[Member]
            members = _zip_members(file) if place.lower().endswith(".zip") else _tar_members(file, start)
            yield from islice(members, MAX_MEMBERS)
            _check_exhausted(members)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # the readers of archives promise no exception types
            if isinstance(error, OSError) and not _is_damage(error):
                raise
            raise ImageError(f"not an archive, or damaged: {_damage(error)}") from error


def _is_damage(error: OSError) -> bool:
    """Tell what unpackers raise on damaged data, and a seek to where no file can be, from trouble with files."""
    return error.errno in (None, errno.EINVAL) and not isinstance(error, StoreError)


def _damage(error: Exception) -> str:
    """Say what is wrong with an archive; readers and unpackers say it in words that change with them."""
    ends_early = isinstance(error, EOFError) or any(word in str(error).lower() for word in _CUT)
    if ends_early:
        return "it ends too early"
    if isinstance(error, zipfile.BadZipFile):
        return "a zip's table of contents is expected"
    if isinstance(error, tarfile.TarError):
        return "a tar's headers are expected"
    return "what is packed cannot be unpacked"


def _check_exhausted(members: Iterator[Member]) -> None:
    if next(members, None) is not None:
        raise ImageError(f"more than {MAX_MEMBERS:,} members")


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = _zip_name(info)
            if name.endswith("/"):
                continue
            part = Part("zip", info.header_offset, info.compress_size, info.file_size, info.CRC)
            yield Member(name, part, _zip_problem(info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: in Unicode where the zip has it so, and "/" between folders also if from Windows."""
    name = _unicode_name(info) or info.orig_filename
    return name.replace("\\", "/") if info.create_system in _WINDOWS else name


def _unicode_name(info: zipfile.ZipInfo) -> str:
    """Read the name that some programs put beside one in a code page of their own; "" if there is none for this."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(body) > 5 and body[0] == 1 and not info.flag_bits & _UTF8_NAME:
            (of_name,) = struct.unpack_from("<I", body, 1)
            if of_name == zlib.crc32(info.orig_filename.encode("cp437", "replace")):
                return body[5:].decode("utf-8", "surrogateescape")
    return ""


def _zip_problem(info: zipfile.ZipInfo) -> str:
    kind = info.external_attr >> 16 if info.create_system == 3 else 0
    if stat.S_ISLNK(kind):
        return LINK
    if kind and stat.S_IFMT(kind) and not stat.S_ISREG(kind):
        return SPECIAL
    if info.flag_bits & 0x1:
        return "encrypted; no password is known"
    if info.compress_type not in (_STORED, _DEFLATED, _BZIP2):
        return f"packed by method {info.compress_type}; stored, deflate and bzip2 are read"
    return _bomb(info.file_size, info.compress_size)


def _bomb(size: int, packed: int) -> str:
    if size > _RATIO_BYTES and size > MAX_RATIO * packed:
        return f"unpacks from {packed:,} to {size:,} bytes; {MAX_RATIO} times is allowed"
    return ""


def _tar_members(file: BinaryIO, start: bytes) -> Iterator[Member]:
    packing = next((name for magic, name in _PACKINGS if start.startswith(magic)), "tar")
    size = size_of(file)
    stream = _Unpacked(file, packing, size)
    with tarfile.open(fileobj=cast("Any", stream), mode="r:") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all
            if not info.isdir():
                yield Member(info.name, Part(packing, info.offset_data, info.size, info.size), _tar_problem(info))


def _tar_problem(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return LINK
    if info.issparse():
        return "a sparse file; only whole ones are read"
    return "" if info.isreg() else SPECIAL


class _Unpacked:
    """What a tar unpacks to, read forwards and no further than its packed size allows."""

    def __init__(self, file: BinaryIO, packing: str, packed: int) -> None:
        self.file = file
        self.limit = max(_RATIO_BYTES, MAX_RATIO * packed)
        self.stream = _unpacker(file, packing)
        self.is_plain = packing == "tar"
        self.at = 0

    def tell(self) -> int:
        return self.at

    def seek(self, to: int) -> int:
        if to < self.at and not self.is_plain:
            raise ImageError("damaged tar: it points backwards")
        if self.is_plain:
            self.stream.seek(to)
            self.at = to
        while self.at < to:
            if not self._take(min(_PIECE, to - self.at)):
                break
        return self.at

    def read(self, count: int) -> bytes:
        if count > _MAX_HEADER:
            raise ImageError(f"damaged tar: a header of {count:,} bytes")
        pieces = []
        while count and (piece := self._take(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def read_member(self, count: int) -> Iterator[bytes]:
        while count and (piece := self._take(min(count, _PIECE))):
            yield piece
            count -= len(piece)

    def close(self) -> None:
        self.stream.close()
        self.file.close()

    def _take(self, count: int) -> bytes:
        piece = self.stream.read(count)
        self.at += len(piece)
        if not self.is_plain and self.at > self.limit:
            raise ImageError(f"the archive unpacks to over {MAX_RATIO} times its size")
        return piece


def _unpacker(file: BinaryIO, packing: str) -> BinaryIO:
    if packing == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if packing == "bz2":
        return cast("BinaryIO", bz2.BZ2File(file))
    if packing == "xz":
        return cast("BinaryIO", lzma.LZMAFile(file))
    if packing == "zst":
        import pyarrow as pa

        return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"))
    return file


@dataclass
class _Open:
    """The packed tar that this process read last."""

    place: str
    stamp: tuple[int, int]
    stream: _Unpacked


_last: list[_Open] = []


def read_member(place: str, part: Part, stamp: tuple[int, int], limit: int) -> bytes:
    """Read one member of an archive, of at most `limit` bytes.

    Parameters
    ----------
    place : str
        Path or URL of the archive.
    part : Part
        The member, as it was listed.
    stamp : tuple of int
        Size and time of the archive when it was listed: another archive is not read on from where this one is.

    Raises
    ------
    ImageError
        It is no image, larger than allowed, or not as the archive's table of contents says.
    OSError
        The archive cannot be read.
    """
    if part.size > limit:
        raise ImageError(f"the member has {part.size:,} bytes; no image of the pixels allowed has more than {limit:,}")
    try:
        if part.archive in ("zip", "tar"):
            with _opened(place, stamp) as file:
                pieces = _zip_pieces(file, part) if part.archive == "zip" else _stored_pieces(file, part)
                return _joined(pieces, part)
        return _joined(_tar_pieces(place, part, stamp), part)
    except (ImageError, MemoryError):
        _forget()
        raise
    except (zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError) as error:
        _forget()
        raise ImageError(f"damaged archive: {_damage(error)}") from error
    except OSError as error:
        _forget()
        if _is_damage(error):
            raise ImageError(f"damaged archive: {_damage(error)}") from error
        raise


def _opened(place: str, stamp: tuple[int, int]) -> BinaryIO:
    file = open_place(place, follow_links=True)
    now = stamp_of(file)
    if now is not None and now != stamp:
        file.close()
        raise StoreError("the archive changed after it was listed; its members are elsewhere now")
    return file


def _joined(pieces: Iterator[bytes], part: Part) -> bytes:
    """Put a member together, if it is an image, and exactly as long as declared."""
    found = bytearray()
    for piece in pieces:
        if len(found) < MAGIC_BYTES:
            sniff(bytes(found + piece[:MAGIC_BYTES]))
        found += piece
        if len(found) > part.size:
            break
    if len(found) != part.size:
        more = "more" if len(found) > part.size else f"{len(found):,}"
        raise ImageError(f"damaged archive: the member has {more} of {part.size:,} bytes")
    if not found:
        raise ImageError("the file is empty")
    if part.archive == "zip" and zlib.crc32(found) != part.crc:
        raise ImageError("damaged archive: the member's checksum is wrong")
    return bytes(found)


def _zip_pieces(file: BinaryIO, part: Part) -> Iterator[bytes]:
    file.seek(part.offset)
    head = file.read(30)
    signature, _, flags, method, name, extra = struct.unpack("<4sHHH16xHH", head)
    if signature != b"PK\3\4" or flags & 1:
        raise ImageError("damaged archive: no member where its table of contents says")
    file.seek(name + extra, io.SEEK_CUR)
    if method == _STORED:
        yield from _stored(file, part.packed)
        return
    unpacker: Any = zlib.decompressobj(-15) if method == _DEFLATED else bz2.BZ2Decompressor()
    for packed in _stored(file, part.packed):
        rest = packed
        while True:
            piece = unpacker.decompress(rest, _PIECE)
            yield piece
            rest = unpacker.unconsumed_tail if method == _DEFLATED else b""
            if unpacker.eof or not (rest or len(piece) == _PIECE):
                break
        if unpacker.eof:
            break
    if not unpacker.eof:
        raise ImageError("damaged archive: the member is cut short")


def _stored(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count and (piece := file.read(min(count, _PIECE))):
        yield piece
        count -= len(piece)


def _stored_pieces(file: BinaryIO, part: Part) -> Iterator[bytes]:
    file.seek(part.offset)
    yield from _stored(file, part.size)


def _tar_pieces(place: str, part: Part, stamp: tuple[int, int]) -> Iterator[bytes]:
    if not _last or (_last[0].place, _last[0].stamp) != (place, stamp) or _last[0].stream.at > part.offset:
        _forget()
        file = _opened(place, stamp)
        size = size_of(file)
        _last.append(_Open(place, stamp, _Unpacked(file, part.archive, size)))
    stream = _last[0].stream
    stream.seek(part.offset)
    yield from stream.read_member(part.size)


def _forget() -> None:
    """Close what was open."""
    while _last:
        _last.pop().stream.close()
