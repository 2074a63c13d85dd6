"""Where bytes are: files here and objects behind a URL, opened without following links or waiting for pipes."""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from segmentation.errors import ImageError, ParameterError, StoreError
from segmentation.reasons import reason_of

PROTOCOLS = ("s3", "memory")
#: Of a file behind a URL that is read here and there, as the table of contents of a zip.
_BLOCK_BYTES = 2**18


def is_url(place: Path | str) -> bool:
    """Tell a URL from a path.

    Examples
    --------
    >>> is_url("s3://bucket/scans"), is_url("/data/scans"), is_url(Path("/data/scans"))
    (True, False, False)
    """
    return isinstance(place, str) and "://" in place


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Raises
    ------
    ParameterError
        A protocol that is not read, or whose package is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS or "::" in url:
        allowed = " and ".join(f"{name}://" for name in PROTOCOLS)
        raise ParameterError(f"got {url!r}; a path, or a URL with {allowed}, is expected")
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except ImportError as error:
        raise ParameterError(f"{protocol}:// needs a package more: pip install 'regionflow[s3]'") from error


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn whatever a remote store's client raises into trouble with files, which it is.

    Raises
    ------
    StoreError
        The store cannot be reached, or does not let anyone in.
    """
    try:
        yield
    except (OSError, ParameterError):
        raise
    except Exception as error:  # clients of stores promise no exception types
        raise StoreError(f"{url}: cannot be reached ({reason_of(error)})") from error


def url_maker(url: str) -> Callable[[str], str]:
    """Return what makes a URL of a path in the file system of `url`."""
    protocol = url.partition("://")[0]
    return lambda path: f"{protocol}://{path.lstrip('/')}"


def open_place(place: str, *, follow_links: bool = False) -> BinaryIO:
    """Open a regular file, or what a URL names, for reading.

    Raises
    ------
    ImageError
        It is a link (unless links are followed), a folder, a pipe, a socket or a device by now.
    OSError
        It cannot be opened.
    """
    if not is_url(place):
        return _open_file(place, follow_links=follow_links)
    files, path = file_system(place)
    return cast("BinaryIO", files.open(path, "rb", block_size=_BLOCK_BYTES))


def _open_file(path: str, *, follow_links: bool) -> BinaryIO:
    # Without O_NONBLOCK the opening of a pipe waits for a writer.
    more = os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | more))
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise ImageError(LINK) from error
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise ImageError(SPECIAL) from error
        raise
    problem = problem_of(os.fstat(file.fileno()).st_mode)
    if problem:
        file.close()
        raise ImageError(problem)
    return io.BufferedReader(file)


LINK = "a link; links are not followed"
SPECIAL = "a pipe, socket or device, not an image file"


def problem_of(mode: int) -> str:
    """Say why something is not opened; "" for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISLNK(mode):
        return LINK
    return "a folder, not an image file" if stat.S_ISDIR(mode) else SPECIAL


def size_of(file: BinaryIO) -> int:
    """Return how many bytes an open file has, and go back to its start."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def read_once(file: BinaryIO, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises
    ------
    ImageError
        It is larger.
    StoreError
        It changed while it was read: trying again may help.
    """
    before = stamp_of(file)
    size = size_of(file)
    if size > limit:
        raise ImageError(f"the file has {size:,} bytes; no image of the pixels allowed has more than {limit:,}")
    data = file.read(size + 1)
    if len(data) != size or stamp_of(file) != before:
        raise StoreError("the file changed while it was read")
    return data


def stamp_of(file: BinaryIO) -> tuple[int, int] | None:
    """Return size and time of an open file; None if it is not one of this machine."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size, status.st_mtime_ns


def modified_ns(info: dict[str, Any]) -> int:
    """Return when an object behind a URL was written, in nanoseconds; 0 if its store does not say."""
    when = info.get("LastModified") or info.get("mtime") or info.get("created") or 0
    return round((when if isinstance(when, (int, float)) else when.timestamp()) * 1e9)


def beside(place: str, folder: str) -> str:
    """Resolve what a list names: a URL or a full path as it is, anything else below the list's folder.

    Examples
    --------
    >>> beside("a/b.png", "/data"), beside("/x/b.png", "/data"), beside("b.png", "s3://bucket/lists")
    ('/data/a/b.png', '/x/b.png', 's3://bucket/lists/b.png')
    """
    if is_url(place) or place.startswith("/"):
        return place
    return f"{folder.rstrip('/')}/{place}" if is_url(folder) else str(Path(folder) / place)
