"""Files that are either whole or absent: write beside, then rename into place."""

import ctypes
import errno
import os
import tempfile
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_atomically(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Put `data` at `path`: readers see the old content or the new, never a part, whatever breaks.

    It is first written to the folder `scratch`, on the same file system, which is beside `path` by default. The data is
    on the disk before the name is; the name itself is made durable by `sync_folder` or `sync_all`.

    Raises
    ------
    OSError
        No space, no permission: `path` is then as it was, and the temporary file is gone.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "report.json"
    >>> write_atomically(target, b"{}")
    >>> target.read_bytes(), [entry.name for entry in target.parent.iterdir()]
    (b'{}', ['report.json'])
    """
    handle, temporary = tempfile.mkstemp(prefix=".partial-", dir=scratch or path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def put_folder(staged: Path, target: Path) -> None:
    """Move the finished folder `staged` to `target` in one step; an old `target` ends up at `staged`.

    Both lie on the same file system. With an old target the two names are exchanged atomically where the
    system can (Linux); elsewhere the old folder is moved aside first, and a crash in between leaves no target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, target)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Make everything written to the file system of `folder` durable: one call for a whole batch of files."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    except AttributeError:  # a system without syncfs
        os.sync()
    finally:
        os.close(handle)


def _exchange(first: Path, second: Path) -> None:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(first), os.fsencode(second)
    if rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    aside = first.with_name(first.name + ".old")
    second.rename(aside)
    first.rename(second)
    aside.rename(first)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
