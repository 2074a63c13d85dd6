"""Where a store lies: a folder, or a prefix in a bucket, behind the same few operations.

Names are paths below the store, "/" between folders. A file appears whole or not at all, wherever the store lies; a
folder of files too in a file system, while in a bucket its root metadata goes first and comes last (`objects.py`).
"""

import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import IO

from segmentation.errors import ParameterError
from segmentation.io.files import put_folder, sync_all, sync_folder, write_atomically
from segmentation.io.lock import store_lock

_STAGING = ".staging"


class Storage(ABC):
    """A place for a store."""

    #: What a person calls it: a path or a URL.
    url: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError if there is none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""

    @abstractmethod
    def files(self, folder: str = "") -> Iterator[str]:
        """List the names of all files below a folder, ordered; what is staged is not among them."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """List the names of the folders in a folder, ordered."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put a file: readers see the old content or the new, never a part, whatever breaks."""

    def upload(self, name: str, file: IO[bytes]) -> None:
        """Put a file that may be larger than memory."""
        self.write(name, file.read())

    @abstractmethod
    def put_folder(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Replace a folder by these files (names below it), so that no reader takes a mixture for a Zarr group."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def sync(self, folder: str | None = None) -> None:
        """Make everything written durable; or no more than the names of the files in one folder."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what an interrupted run left half written; only the holder of the lock may."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[str]:
        """Hold the store for one run; StoreLockedError if another one does. Gives a token for `confirm_lock`."""

    @abstractmethod
    def confirm_lock(self, token: str) -> None:
        """Raise StoreLockedError if another run has taken the store over, as it may from one that seems dead."""

    @abstractmethod
    def check(self) -> None:
        """Raise ParameterError if there can be no store here; nothing is written."""

    @abstractmethod
    def below(self, folder: str) -> "Storage":
        """Return a folder as a place of its own."""

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """List the files directly in a folder, full names, ordered, by how they end."""
        start = len(folder) + 1
        return [name for name in self.files(folder) if "/" not in name[start:] and name.endswith(suffix)]


#: What functions take for a store: a path, a URL, or a storage that is open already.
Location = Storage | Path | str


class LocalStorage(Storage):
    """A folder: everything is written to ``.staging`` in it, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, name: str) -> bytes:  # noqa: D102 - said by Storage
        return (self.root / name).read_bytes()

    def exists(self, name: str) -> bool:  # noqa: D102
        return (self.root / name).is_file()

    def files(self, folder: str = "") -> Iterator[str]:  # noqa: D102
        try:
            with os.scandir(self.root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in found:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if name != _STAGING:
                    yield from self.files(name)
            else:
                yield name

    def folders(self, folder: str = "") -> list[str]:  # noqa: D102
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write(self, name: str, data: bytes) -> None:  # noqa: D102
        path = self.root / name
        for place in (path.parent, self.root / _STAGING):
            place.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data, scratch=self.root / _STAGING)

    def put_folder(self, folder: str, files: Mapping[str, bytes]) -> None:  # noqa: D102
        staged = self.root / _STAGING / uuid.uuid4().hex
        try:
            _dump(staged / "new", files)
            put_folder(staged / "new", self.root / folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def delete(self, name: str) -> None:  # noqa: D102
        (self.root / name).unlink(missing_ok=True)

    def sync(self, folder: str | None = None) -> None:  # noqa: D102
        if folder is None:
            sync_all(self.root)
        elif (self.root / folder).is_dir():
            sync_folder(self.root / folder)

    def sweep(self) -> None:  # noqa: D102
        shutil.rmtree(self.root / _STAGING, ignore_errors=True)

    def lock(self) -> AbstractContextManager[str]:  # noqa: D102
        return store_lock(self.root)

    def confirm_lock(self, token: str) -> None:
        """Nothing to do: the kernel keeps the lock as long as its holder lives."""

    def check(self) -> None:  # noqa: D102
        if self.root.exists() and not self.root.is_dir():
            raise ParameterError(f"OUTPUT: {self.root} is a file; a folder is expected")

    def below(self, folder: str) -> "LocalStorage":  # noqa: D102
        return LocalStorage(self.root / folder)


def open_storage(location: Location) -> Storage:
    """Open the place of a store.

    Parameters
    ----------
    location : Path, str or Storage
        A folder, which need not exist, or ``s3://bucket/prefix``; endpoint, region and credentials of a bucket come
        from the usual AWS variables and files.

    Raises
    ------
    ParameterError
        A URL of another kind, one without a bucket, or the extra for buckets is not installed.

    Examples
    --------
    >>> import tempfile
    >>> storage = open_storage(tempfile.mkdtemp())
    >>> storage.write("runs/1/run.json", b"{}")
    >>> list(storage.files("runs")), storage.folders("runs"), storage.read("runs/1/run.json")
    (['runs/1/run.json'], ['1'], b'{}')
    """
    if isinstance(location, Storage):
        return location
    if not is_url(location):
        return LocalStorage(Path(location).absolute())
    return _open_bucket(str(location))


def is_url(location: Path | str) -> bool:
    """Tell a URL from a path.

    Examples
    --------
    >>> is_url("s3://bucket/results"), is_url("results"), is_url(Path("/data/results"))
    (True, False, False)
    """
    return isinstance(location, str) and "://" in location


@lru_cache(maxsize=64)
def _open_bucket(url: str) -> Storage:
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme != "s3":
        raise ParameterError(f"OUTPUT: got {url}; a folder or s3://bucket/prefix is expected")
    if not bucket:
        raise ParameterError(f"OUTPUT: {url} names no bucket; s3://bucket/prefix is expected")
    try:
        from segmentation.io.objects import ObjectStorage
    except ImportError as error:
        raise ParameterError(f"OUTPUT: {url} needs the extra for buckets: pip install 'regionflow[s3]'") from error
    return ObjectStorage(bucket, prefix)


def _dump(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    made = {folder}
    for name, data in sorted(contents.items()):
        path = folder / name
        _make(path.parent, made)
        path.write_bytes(data)


def _make(folder: Path, made: set[Path]) -> None:
    """Make a folder and those above it that are not made yet, from the top: each is asked for once."""
    if folder not in made:
        _make(folder.parent, made)
        folder.mkdir()
        made.add(folder)
