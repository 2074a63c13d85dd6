"""What lies in a source and is no image: counted, so that nothing is passed over in silence."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from segmentation.io.sources.names import split_suffix
from segmentation.planning import display

#: Folders in which network drives, cameras and operating systems keep thumbnails, deleted files and the like.
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", ".@__thumb", ".snapshot"}
    | {".snapshots", "~snapshot", ".zfs", ".thumbnails", ".thumbs", ".sh_thumbnails", ".picasaoriginals", ".trashes"}
    | {".trash", "$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx", ".appledouble"}
    | {".appledb", ".appledesktop", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100"}
    | {".comments", ".dropbox.cache", ".stversions", ".sync", ".git", ".svn"}
)
_TRASH_OF_A_USER = re.compile(r"\.trash-\d+")
#: Files that the same leave beside images.
_SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "icon\r", ".nomedia"})
#: Suffixes that a line of text names; JSON has them all.
_NAMED = 8


def is_system_folder(name: str) -> bool:
    """Tell whether a folder of this name holds what a system has left there, and no images of anybody's."""
    lower = name.lower()
    return lower in _SYSTEM_FOLDERS or _TRASH_OF_A_USER.fullmatch(lower) is not None


def is_system_file(name: str) -> bool:
    """Tell whether a file of this name is what a system leaves beside images."""
    return name.lower() in _SYSTEM_FILES or name.startswith("._")


@dataclass
class PassedOver:
    """Files that are no images, by suffix, and folders of systems, by name.

    Examples
    --------
    >>> passed_over = PassedOver()
    >>> for name in ("a.xml", "B.XML", "readme", "Thumbs.db"):
    ...     passed_over.add_file(name)
    >>> passed_over.add_folder("@eaDir")
    >>> passed_over.as_dict()
    {'files': {'.xml': 2, 'no suffix': 1}, 'folders': {'@eaDir': 1}}
    """

    files: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)

    def add_file(self, name: str) -> None:
        """Count a file; not what a system leaves in every folder."""
        if not is_system_file(name):
            self.files[split_suffix(name)[1].lower() or "no suffix"] += 1

    def add_folder(self, name: str) -> None:
        """Count a folder that is not looked into."""
        self.folders[name] += 1

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts as plain values, the largest first; nothing if there is nothing."""
        counts = {"files": dict(_sorted(self.files)), "folders": dict(_sorted(self.folders))}
        return {name: found for name, found in counts.items() if found}


def describe_passed_over(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Say in a few words what `PassedOver.as_dict` counts; "" if there is nothing.

    Examples
    --------
    >>> describe_passed_over({"files": {".xml": 2, "no suffix": 1}, "folders": {"@eaDir": 1}})
    '3 other files (.xml 2, no suffix 1), 1 folder of a system (@eaDir)'
    """
    files, folders = counts.get("files", {}), counts.get("folders", {})
    parts = []
    if n_files := sum(files.values()):
        parts.append(f"{n_files:,} other file{'s' if n_files > 1 else ''} ({_listed(files)})")
    if n_folders := sum(folders.values()):
        names = ", ".join(display(name) for name in sorted(folders)[:_NAMED])
        parts.append(f"{n_folders:,} folder{'s' if n_folders > 1 else ''} of a system ({names})")
    return ", ".join(parts)


def _listed(counts: Mapping[str, int]) -> str:
    ordered = _sorted(counts)
    named = [f"{display(suffix)} {count:,}" for suffix, count in ordered[:_NAMED]]
    rest = sum(count for _, count in ordered[_NAMED:])
    return ", ".join([*named, *([f"others {rest:,}"] if rest else [])])


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
