"""Which images there are: a file or a folder, listed in a stable order without opening anything."""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from segmentation.errors import ParameterError
from segmentation.planning import ImageRef, display

#: Names that promise an image. What a file really is, its content decides when it is read.
IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf", ".tf8", ".gif", ".bmp", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"}
    | {".npy"}  # an array file is refused with a reason, not passed over
)
_SIDECARS = re.compile(rb"\._")  # what macOS leaves beside every file on a foreign disk


def list_images(source: Path, masks: Path | None = None, *, skip: Path | None = None) -> Iterator[ImageRef]:
    """List the images below a folder, or one image file, ordered by name.

    Parameters
    ----------
    source : Path
        A folder (searched whole) or one file.
    masks : Path, optional
        A folder that holds, for ``a/b.jpg``, the mask ``a/b.<any image suffix>``; or one mask file for one image.
    skip : Path, optional
        A folder that is not searched: where the results go, should it lie below `source`.

    Yields
    ------
    ImageRef
        Also for what only looks like an image, with `problem` saying why it is not opened: links are not
        followed, pipes and devices not read.

    Raises
    ------
    ParameterError
        `source` or `masks` does not exist.

    Notes
    -----
    Streaming: memory holds one folder's names at a time.
    """
    if not source.exists():
        raise ParameterError(f"SOURCE: {display(str(source))} does not exist; a file or folder of images is expected")
    if masks is not None and not masks.exists():
        raise ParameterError(f"mask: {display(str(masks))} does not exist; a file or folder of masks is expected")
    if source.is_dir():
        if masks is not None and not masks.is_dir():
            raise ParameterError(f"mask: {display(str(masks))} is a file; for a folder of images a folder is expected")
        skipped = {path.resolve() for path in (masks, skip) if path is not None}
        yield from _walk(source, "", masks, skipped)
    else:
        yield _reference(source, source.name, _mask_for(masks, source.name), masks)


def image_id(name: str) -> str:
    """Make an identifier that any file system, URL or table can hold: prefix of the name, hash of the path.

    Examples
    --------
    >>> image_id("Prints/Plate 12 (Köln).tif")
    'plate-12-koln-9cde1dec3494115d'
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    stem = unicodedata.normalize("NFKD", Path(name).stem).encode("ascii", "ignore").decode()
    prefix = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].rstrip("-")
    return f"{prefix or 'image'}-{digest}"


def _walk(folder: Path, prefix: str, masks: Path | None, skipped: set[Path]) -> Iterator[ImageRef]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    stems = _mask_names(masks / prefix) if masks is not None else {}
    for entry in found:
        name = prefix + entry.name
        if _is_candidate(entry):
            mask = stems.get(Path(entry.name).stem, "") if masks is not None else ""
            yield _reference(Path(entry.path), name, mask, masks)
        if entry.is_dir(follow_symlinks=False) and Path(entry.path).resolve() not in skipped:
            yield from _walk(Path(entry.path), name + "/", masks, skipped)


def _is_candidate(entry: os.DirEntry[str]) -> bool:
    if _SIDECARS.match(os.fsencode(entry.name)):
        return False
    return entry.is_symlink() or Path("x" + entry.name).suffix.lower() in IMAGE_SUFFIXES


def _mask_names(folder: Path) -> dict[str, str]:
    """Map the stem of each mask in a folder to its path; the first in name order wins."""
    names: dict[str, str] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir(), reverse=True):
            if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
                names[path.stem] = str(path)
    return names


def _mask_for(masks: Path | None, name: str) -> str:
    if masks is None:
        return ""
    return _mask_names(masks).get(Path(name).stem, "") if masks.is_dir() else str(masks)


def _reference(path: Path, name: str, mask: str, masks: Path | None) -> ImageRef:
    status = path.lstat()
    problem = _special(status.st_mode)
    if masks is not None and not mask and not problem:
        problem = f"no mask: {Path(name).stem!a} with an image suffix is expected in the mask folder"
    mask_status = Path(mask).stat() if mask else None
    return ImageRef(
        name=name,
        path=str(path),
        id=image_id(name),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        mask_path=mask,
        mask_size=mask_status.st_size if mask_status else 0,
        mask_mtime_ns=mask_status.st_mtime_ns if mask_status else 0,
        problem=problem,
    )


def _special(mode: int) -> str:
    """Say why something is not opened; "" for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISLNK(mode):
        return "a link; links are not followed"
    return "a folder, not an image file" if stat.S_ISDIR(mode) else "a pipe, socket or device, not an image file"
