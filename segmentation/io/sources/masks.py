"""Masks: which file is the mask of an image."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from segmentation.errors import ParameterError
from segmentation.io.sources.names import as_stored, is_image_name, same_form
from segmentation.planning import ImageRef, display


def check_masks(masks: Path | None, *, for_many: bool) -> None:
    """Refuse a place for masks that is not there, or one file for many images."""
    if masks is not None and not masks.exists():
        raise ParameterError(f"mask: {display(str(masks))} does not exist; a file or folder of masks is expected")
    if masks is not None and for_many and not masks.is_dir():
        raise ParameterError(f"mask: {display(str(masks))} is a file; for many images a folder is expected")


def with_mask(ref: ImageRef, masks: Path | None) -> ImageRef:
    """Give an image the mask of its name: for ``a/b.jpg`` the file ``a/b.<any image suffix>`` below `masks`."""
    if masks is None or ref.problem:
        return ref
    stem = PurePosixPath(ref.name).stem
    if masks.is_dir():
        parent = PurePosixPath(ref.name).parent
        folder = masks / (as_stored(str(parent), str(masks)) or parent)
        names = _mask_names(folder) if ".." not in parent.parts else {}
        found = names.get(stem) or names.get(same_form(stem), "")
    else:
        found = str(masks)
    if not found:
        return replace(ref, problem=f"no mask: {stem!a} with an image suffix is expected in the mask folder")
    return with_mask_file(ref, found)


def with_mask_file(ref: ImageRef, mask: str) -> ImageRef:
    """Give an image this mask."""
    status = Path(mask).stat()
    return replace(ref, mask_path=mask, mask_size=status.st_size, mask_mtime_ns=status.st_mtime_ns)


@lru_cache(maxsize=1)
def _mask_names(folder: Path) -> dict[str, str]:
    """Map the stem of each mask in a folder to its path, as it is and in its usual Unicode form; the first wins."""
    names: dict[str, str] = {}
    if folder.is_dir():
        masks = [path for path in sorted(folder.iterdir()) if path.is_file() and is_image_name(path.name)]
        for path in masks:
            names.setdefault(path.stem, str(path))
        for path in masks:
            names.setdefault(same_form(path.stem), str(path))
    return names
