"""Folders, here or behind a URL: walked in the order of their names, one folder's names in memory at a time."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from segmentation.errors import ImageError
from segmentation.io.places import LINK, SPECIAL, modified_ns, problem_of, reaching
from segmentation.io.sources.names import Selection, image_id, is_image_name
from segmentation.io.sources.passed_over import PassedOver, is_system_folder
from segmentation.io.zarr_images import series_of
from segmentation.planning import ImageRef, display
from segmentation.reasons import reason_of

#: A folder that holds one of these is a node of Zarr: an image, or nothing that is read.
_ZARR_NAMES = frozenset({"zarr.json", ".zgroup", ".zarray", ".zattrs"})
#: A folder that holds all of these, and this file, is a store of results, not of images.
_STORE_NAMES = frozenset({"images", "tables", "runs"})


@dataclass(frozen=True)
class Entry:
    """What a folder holds under one name."""

    name: str
    path: str
    is_folder: bool
    is_link: bool = False
    listed: tuple[int, int, str] | None = None  # its status, if the listing said it


class Tree(Protocol):
    """Folders and files of one file system."""

    def entries(self, folder: str) -> list[Entry]:
        """List a folder, in any order; OSError if it cannot be read."""

    def status(self, entry: Entry) -> tuple[int, int, str]:
        """Return size, time in nanoseconds, and why it is not opened ("" if it is)."""


class LocalTree:
    """Files of this machine."""

    def entries(self, folder: str) -> list[Entry]:
        """List a folder; links are named as what they are."""
        with os.scandir(folder) as found:
            return [Entry(e.name, e.path, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in found]

    def status(self, entry: Entry) -> tuple[int, int, str]:
        """Look at a file without following links."""
        status = os.lstat(entry.path)
        return status.st_size, status.st_mtime_ns, problem_of(status.st_mode)


class RemoteTree:
    """Objects behind a URL."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def entries(self, folder: str) -> list[Entry]:
        """List what lies below a prefix up to the next "/"."""
        with reaching(folder):
            found = self.files.ls(folder, detail=True, refresh=True)
        return [
            Entry(
                info["name"].rstrip("/").rpartition("/")[2],
                info["name"],
                info["type"] == "directory",
                listed=_remote_status(info),
            )
            for info in found
            if info["name"].strip("/") != folder.strip("/")
        ]

    def status(self, entry: Entry) -> tuple[int, int, str]:
        """Return what the listing said."""
        return entry.listed or _remote_status(self.files.info(entry.path))


def _remote_status(info: dict[str, Any]) -> tuple[int, int, str]:
    problem = "" if info["type"] == "file" else "a folder, not an image file"
    return int(info.get("size") or 0), modified_ns(info), problem


def walk(
    tree: Tree,
    root: str,
    selection: Selection,
    passed_over: PassedOver,
    *,
    url: Callable[[str], str] = str,
    skipped: frozenset[str] = frozenset(),
) -> Iterator[ImageRef]:
    """List the images below a folder, ordered by name.

    Parameters
    ----------
    tree : Tree
        Where `root` is.
    root : str
        The folder; its images are named by their path below it.
    selection : Selection
        Which of them are meant.
    passed_over : PassedOver
        Counts the other files, and the folders of systems, which are not looked into.
    url : callable
        Makes what `ImageRef.path` says of a path in the tree.
    skipped : frozenset of str
        Folders that are not looked into.

    Yields
    ------
    ImageRef
        A folder that cannot be read is one, with the reason.
    """
    waiting: list[Entry | tuple[str, str]] = [(root, "")]  # the next is last
    while waiting:
        item = waiting.pop()
        if isinstance(item, Entry):
            yield file_reference(tree, item, url)
            continue
        folder, prefix = item
        try:
            found = sorted(tree.entries(folder), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            reason = reason_of(error)
            yield _reference(prefix.rstrip("/") or ".", url(folder), (0, 0, f"a folder that cannot be read: {reason}"))
            continue
        names = {entry.name for entry in found}
        if names & _ZARR_NAMES:
            yield from zarr_references(tree, folder, prefix.rstrip("/"), url, selection, found)
            continue
        if prefix and names >= _STORE_NAMES and _is_store(tree, folder):
            continue
        for entry in reversed(found):
            name = prefix + entry.name
            if entry.is_folder and is_system_folder(entry.name):
                passed_over.add_folder(entry.name)
                continue
            if entry.is_folder and selection.takes_folder(name) and entry.path not in skipped:
                waiting.append((entry.path, name + "/"))
            if not selection.takes_file(name):
                continue
            if entry.is_link or is_image_name(entry.name):
                waiting.append(replace(entry, name=name))
            elif not entry.is_folder:
                passed_over.add_file(entry.name)


def is_zarr_folder(tree: Tree, folder: str) -> bool:
    """Tell whether a folder is a node of Zarr."""
    try:
        return any(entry.name in _ZARR_NAMES for entry in tree.entries(folder))
    except OSError:
        return False


def _is_store(tree: Tree, folder: str) -> bool:
    try:
        return any(entry.name == "index.parquet" for entry in tree.entries(f"{folder}/tables"))
    except OSError:
        return False


def file_reference(tree: Tree, entry: Entry, url: Callable[[str], str] = str) -> ImageRef:
    """Make the reference of one file, named as its entry is."""
    try:
        status = tree.status(entry)
    except OSError as error:
        status = (0, 0, f"cannot be looked at: {reason_of(error)}")
    return _reference(entry.name, url(entry.path), status)


def _reference(name: str, path: str, status: tuple[int, int, str]) -> ImageRef:
    size, mtime_ns, problem = status
    return ImageRef(name=name, path=path, id=image_id(name), size=size, mtime_ns=mtime_ns, problem=display(problem))


def zarr_references(
    tree: Tree, folder: str, name: str, url: Callable[[str], str], selection: Selection, found: list[Entry]
) -> Iterator[ImageRef]:
    """Make the references of a node of Zarr: of one image, or of all in a collection, which is like a folder.

    Its metadata are read for that, and no more: whether it is an image at all, reading it will tell.
    """
    try:
        series = series_of(url(folder), [entry.name for entry in found if entry.is_folder])
    except (ImageError, OSError):
        series = None
    if not series:
        if selection.takes_file(name):
            yield zarr_reference(tree, folder, name, url, found)
        return
    below = {f"{name}/{path}".lstrip("/"): f"{folder.rstrip('/')}/{path}" for path in series}
    for inner in sorted(below, key=lambda inner: os.fsencode(inner).split(b"/")):
        if selection.takes_member(inner):
            yield zarr_reference(tree, below[inner], inner, url)


def zarr_reference(
    tree: Tree, folder: str, name: str, url: Callable[[str], str], found: list[Entry] | None = None
) -> ImageRef:
    """Make the reference of an OME-Zarr image: the bytes of all its files, and the time of the newest."""
    size = newest = 0
    problem = ""
    waiting = [(folder, found)]
    while waiting and not problem:
        here, entries = waiting.pop()
        try:
            for entry in entries if entries is not None else tree.entries(here):
                if entry.is_folder:
                    waiting.append((entry.path, None))
                    continue
                bytes_, mtime_ns, why = tree.status(entry)
                size, newest = size + bytes_, max(newest, mtime_ns)
                if why:
                    problem = f"holds {LINK if why == LINK else SPECIAL if why == SPECIAL else why}"
        except OSError as error:
            problem = f"a part of it cannot be read: {reason_of(error)}"
    return ImageRef(
        name=name,
        path=url(folder),
        id=image_id(name),
        size=size,
        mtime_ns=newest,
        problem=display(problem),
        is_zarr=True,
    )
