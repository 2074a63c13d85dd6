"""Which images there are, in a stable order: a file, a folder, an archive, a list, a URL, OME-Zarr images."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from segmentation.errors import ImageError, ParameterError
from segmentation.io import archives
from segmentation.io.places import file_system, is_url, open_place, reaching, size_of, stamp_of, url_maker
from segmentation.io.reading import frames_of
from segmentation.io.sources import manifests
from segmentation.io.sources.folders import (
    Entry,
    LocalTree,
    RemoteTree,
    Tree,
    file_reference,
    is_zarr_folder,
    walk,
    zarr_references,
)
from segmentation.io.sources.masks import check_masks, with_mask
from segmentation.io.sources.names import ALL, Selection, image_id, is_image_name
from segmentation.io.sources.passed_over import PassedOver, is_system_folder
from segmentation.planning import ImageRef, display
from segmentation.reasons import reason_of


def list_images(
    source: Path | str,
    masks: Path | None = None,
    *,
    skip: Path | None = None,
    selection: Selection = ALL,
    passed_over: PassedOver | None = None,
) -> Iterator[ImageRef]:
    """List the images of a source.

    Parameters
    ----------
    source : Path or str
        A folder (searched whole), an image file, an OME-Zarr image, an archive (zip, or tar plain or packed by gzip,
        bzip2, xz or zstd), a list (CSV or Parquet), or the URL of any of them.
    masks : Path, optional
        A folder that holds, for ``a/b.jpg``, the mask ``a/b.<any image suffix>``; or one mask file for one image.
    skip : Path, optional
        A folder that is not searched: where the results go, should it lie below `source`.
    selection : Selection
        Which of them are meant, and if every page or frame is an image.
    passed_over : PassedOver, optional
        Counts what lies there and is no image, as far as the listing has come.

    Yields
    ------
    ImageRef
        Ordered by the bytes of their names, folder by folder; of a tar and of a list, in their order. Also for what
        only looks like an image, with `problem` saying why it is not opened: links are not followed, pipes and
        devices not read.

    Raises
    ------
    ParameterError
        `source` or `masks` does not exist, or cannot be read as what it is.

    Notes
    -----
    Streaming: memory holds one folder's names at a time, or an archive's or list's table of contents. Nothing but
    these is opened, unless frames are counted.
    """
    place = str(source)
    refs, is_many = _listed(place, skip, masks, selection, PassedOver() if passed_over is None else passed_over)
    check_masks(masks, for_many=is_many)
    for ref in refs:
        masked = ref if ref.mask_path else with_mask(ref, masks)
        yield from _frames(masked) if selection.frames == "each" else (masked,)


def _listed(
    place: str, skip: Path | None, masks: Path | None, selection: Selection, passed_over: PassedOver
) -> tuple[Iterator[ImageRef], bool]:
    """Return the images of a source, and if they can be many."""
    tree, path, url, is_folder = _looked_up(place)
    name = PurePosixPath(path.rstrip("/")).name
    if is_folder and is_zarr_folder(tree, path):
        return _zarr(tree, path, name, url, selection)
    if is_folder:
        skipped = frozenset(str(folder.resolve()) for folder in (masks, skip) if folder is not None)
        root = path if is_url(place) else str(Path(path).resolve())
        return walk(tree, root, selection, passed_over, url=url, skipped=skipped), True
    if path.lower().endswith(archives.SUFFIXES):
        return _members(place, name, selection, passed_over), True
    if path.lower().endswith(manifests.SUFFIXES):
        return manifests.list_manifest(place, selection), True
    return iter((file_reference(tree, Entry(name, path, is_folder=False), url),)), False


def _zarr(
    tree: Tree, path: str, name: str, url: Callable[[str], str], selection: Selection
) -> tuple[Iterator[ImageRef], bool]:
    """Return the image that a node of Zarr is, whatever is selected, or those of a collection, by their paths in it."""
    refs = list(zarr_references(tree, path, "", url, ALL, tree.entries(path)))
    if [ref.name for ref in refs] == [""]:
        return iter((replace(refs[0], name=name, id=image_id(name)),)), False
    return (ref for ref in refs if selection.takes_member(ref.name)), True


def _looked_up(place: str) -> tuple[Tree, str, Callable[[str], str], bool]:
    """Find out where a source is, and if it is a folder."""
    missing = f"SOURCE: {display(place)} does not exist; a file, folder, archive or list of images is expected"
    if is_url(place):
        with reaching(place):
            files, path = file_system(place)
            if not files.exists(path):
                raise ParameterError(missing)
            return RemoteTree(files), path, url_maker(place), bool(files.isdir(path))
    if not Path(place).exists():
        raise ParameterError(missing)
    # What is named itself may be a link; what is found below it is not followed.
    path = str(Path(place).resolve()) if Path(place).is_symlink() else place
    if Path(path).is_dir():
        try:
            next(Path(path).iterdir(), None)
        except OSError as error:
            raise ParameterError(f"SOURCE: {display(place)} cannot be read: {reason_of(error)}") from error
    return LocalTree(), path, str, Path(path).is_dir()


def _members(place: str, name: str, selection: Selection, passed_over: PassedOver) -> Iterator[ImageRef]:
    """List the images of an archive; one that cannot be read, or holds none, is one row with the reason."""
    with open_place(place, follow_links=True) as file:
        size, mtime_ns = stamp_of(file) or (size_of(file), 0)
    found: dict[str, ImageRef] = {}
    problem = ""
    try:
        for member in archives.members_of(place):
            ref = _member(place, member, (size, mtime_ns))
            if not selection.takes_member(ref.name):
                continue
            if left := next(filter(is_system_folder, ref.name.split("/")[:-1]), ""):
                passed_over.folders[left] |= 1
                continue
            if not (is_image_name(ref.name) or ref.problem):
                passed_over.add_file(ref.name)
                continue
            if ref.name in found:
                twice = "two members have this name; which one is meant is not known"
                found[ref.name] = replace(found[ref.name], problem=twice)
            else:
                found[ref.name] = ref
    except ImageError as error:
        problem = str(error)
    refs = list(found.values())
    if any(ref.part is not None and ref.part.archive == "zip" for ref in refs):
        refs.sort(key=lambda ref: ref.raw_name.split(b"/"))
    yield from refs
    if problem or not refs:
        reason = problem or "the archive holds no image"
        yield ImageRef(name, place, image_id(name), size=size, mtime_ns=mtime_ns, problem=reason)


def _member(place: str, member: archives.Member, stamp: tuple[int, int]) -> ImageRef:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    problem = member.problem if is_image_name(member.name) or member.problem.startswith("a link") else ""
    name = "/".join(parts)
    if member.name.startswith("/") or ".." in parts or "\0" in member.name or not parts:
        name, problem = member.name or ".", "its name leaves the archive; a name below it is expected"
    return ImageRef(
        name=name,
        path=place,
        id=image_id(name),
        size=member.part.size,
        mtime_ns=stamp[1],
        problem=problem,
        part=replace(member.part, archive_size=stamp[0]),
    )


def _frames(ref: ImageRef) -> Iterator[ImageRef]:
    """Make an image of every page or frame, if there are several."""
    if ref.problem or ref.is_zarr:
        yield ref
        return
    try:
        count = frames_of(ref)
    except (ImageError, OSError):  # the loading step finds the same fault and says why
        count = 1
    if count <= 1:
        yield ref
        return
    for frame in range(1, count + 1):
        name = f"{ref.name}#{frame}"
        yield replace(ref, name=name, id=image_id(name), frame=frame)
