"""Names of images: which promise one, which are asked for, and what stands for them in the store."""

import hashlib
import os
import re
import unicodedata
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from segmentation.params import Params

#: Formats of images that are known and not read: such files are rows with that reason, not passed over.
_NOT_READ = frozenset(
    {".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".wdp", ".hdp", ".psd", ".psb", ".xcf", ".exr", ".tga"}
    | {
        ".pcx",
        ".dds",
        ".ico",
        ".icns",
        ".cur",
        ".sgi",
        ".ras",
        ".jpm",
        ".ecw",
        ".sid",
        ".djvu",
        ".pam",
        ".qoi",
        ".flif",
    }
    | {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".3fr", ".fff", ".iiq", ".rwl", ".mrw", ".x3f", ".erf", ".kdc", ".dcr", ".mos", ".mef"}
    | {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".vsi", ".isyntax"}
    | {".czi", ".lif", ".nd2", ".oib", ".oif", ".ims", ".lsm", ".stk", ".zvi", ".dcm", ".dicom"}
    | {".fits", ".fts", ".nii", ".mrc", ".npy"}
)
#: Names that promise an image. What a file really is, its content decides when it is read.
IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".tif", ".tiff", ".btf", ".tf2", ".tf8"}
    | {".gif", ".bmp", ".dib", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
    | {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jph", ".jhc"}
)


class Selection(Params):
    """Which images of a source are meant."""

    include: tuple[str, ...] = Field(
        default=(),
        description="Only images that one of these patterns fits: *.tif anywhere, plate7/** below a folder; all if "
        "empty.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="No images that one of these patterns fits, and nothing in folders that one fits."
    )
    frames: Literal["single", "each"] = Field(
        default="single",
        description="single: a file of several pages or frames is refused; each: every one is an image, named FILE#3.",
    )

    def takes_file(self, name: str) -> bool:
        """Tell whether the file of this path below the source is meant."""
        wanted = not self.include or any(fits(pattern, name) for pattern in self.include)
        return wanted and not any(fits(pattern, name) for pattern in self.exclude)

    def takes_folder(self, name: str) -> bool:
        """Tell whether a folder is looked into."""
        return not any(fits(pattern, name) for pattern in self.exclude)

    def takes_member(self, name: str) -> bool:
        """Tell whether a path is meant whose folders are not visited one by one."""
        folders = list(PurePosixPath(name).parents)[:-1]
        return self.takes_file(name) and all(self.takes_folder(str(folder)) for folder in folders)


ALL = Selection()


def fits(pattern: str, name: str) -> bool:
    """Tell whether a pattern fits a path below the source, "/" between its folders; upper and lower case differ.

    ``*`` and ``?`` stand for characters within one name, ``[ab]`` and ``[!ab]`` for one of some, ``**`` for any
    number of folders. A pattern without "/" is held against the last name alone, wherever it is.

    Examples
    --------
    >>> [fits(pattern, "plate7/a.tif") for pattern in ("*.tif", "plate7/**", "plate*/*.png", "**/a.*", "plate7")]
    [True, True, False, True, False]
    """
    text = same_form(name if "/" in pattern else name.rpartition("/")[2])
    return _compiled(same_form(pattern)).fullmatch(text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        end = pattern.find("]", at + 2) if character == "[" else -1
        if pattern.startswith("**/", at):
            parts.append("(?:[^/]+/)*")
            at += 2
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 1
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif end > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            parts.append(f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside}]")
            at = end
        else:
            parts.append(re.escape(character))
        at += 1
    return re.compile("".join(parts), re.DOTALL)


def same_form(name: str) -> str:
    """Return a name in the form in which equal texts are equal: macOS takes accents apart, others do not.

    Examples
    --------
    >>> same_form("Cafe\u0301.png") == same_form("Caf\u00e9.png")
    True
    """
    return unicodedata.normalize("NFC", name)


def as_stored(path: str, folder: str) -> str:
    """Return a path as the files of this machine are named, which may have the same text in another Unicode form.

    Parameters
    ----------
    path : str
        Below `folder`, or a full one.
    folder : str
        A folder of this machine.

    Returns
    -------
    path : str
        "" if nothing is there, or more than one thing.
    """
    here = "/" if path.startswith("/") else folder
    parts = []
    for part in filter(None, path.split("/")):
        stored = part
        if not os.path.lexists(os.path.join(here, part)):  # noqa: PTH118 - names in any bytes, and fast
            with suppress(OSError):
                twins = [name for name in os.listdir(here) if same_form(name) == same_form(part)]  # noqa: PTH208
                stored = twins[0] if len(twins) == 1 else ""
            if not stored or stored == part:
                return ""
        parts.append(stored)
        here = os.path.join(here, stored)  # noqa: PTH118
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def is_image_name(name: str) -> bool:
    """Tell whether a name promises an image; what macOS leaves beside every file on a foreign disk does not."""
    last = name.rpartition("/")[2]
    return not last.startswith("._") and split_suffix("x" + last)[1].lower() in IMAGE_SUFFIXES | _NOT_READ


def split_suffix(name: str) -> tuple[str, str]:
    """Split the last name of a path as `pathlib` does, which keeps all names it ever saw.

    Examples
    --------
    >>> split_suffix("a/b.tar.gz"), split_suffix(".png"), split_suffix("..png")
    (('b.tar', '.gz'), ('.png', ''), ('.', '.png'))
    """
    last = name.rstrip("/").rpartition("/")[2]
    at = last.rfind(".")
    return (last[:at], last[at:]) if 0 < at < len(last) - 1 else (last, "")


def image_id(name: str) -> str:
    """Make an identifier that any file system, URL or table can hold: prefix of the name, hash of the path.

    Examples
    --------
    >>> image_id("Prints/Plate 12 (Köln).tif")
    'plate-12-koln-9cde1dec3494115d'
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    stem = unicodedata.normalize("NFKD", split_suffix(name)[0]).encode("ascii", "ignore").decode()
    prefix = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].rstrip("-")
    return f"{prefix or 'image'}-{digest}"
