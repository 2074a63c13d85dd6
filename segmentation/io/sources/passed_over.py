"""What lies in a source and is no image: counted, so that nothing is passed over in silence."""

import re
from collections import Counter
from dataclasses import dataclass, field

from segmentation.io.sources.names import split_suffix

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
    >>> passed_over.describe()
    '3 other files (.xml 2, no suffix 1), 1 folder of a system (@eaDir)'
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

    def describe(self) -> str:
        """Say it in a few words; "" if there is nothing."""
        parts = []
        if n_files := self.files.total():
            parts.append(f"{n_files:,} other file{'s' if n_files > 1 else ''} ({_listed(self.files)})")
        if n_folders := self.folders.total():
            names = ", ".join(sorted(self.folders)[:_NAMED])
            parts.append(f"{n_folders:,} {'folders' if n_folders > 1 else 'folder'} of a system ({names})")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts as plain values, the largest first."""
        return {"files": dict(_sorted(self.files)), "folders": dict(_sorted(self.folders))}


def _listed(counts: Counter[str]) -> str:
    ordered = _sorted(counts)
    named = [f"{suffix} {count:,}" for suffix, count in ordered[:_NAMED]]
    rest = sum(count for _, count in ordered[_NAMED:])
    return ", ".join([*named, *([f"others {rest:,}"] if rest else [])])


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
