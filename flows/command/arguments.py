"""What several commands do with their arguments: check them before anything heavy starts, and make things of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from segmentation.errors import ParameterError

if TYPE_CHECKING:
    from segmentation.io.storage import Storage
    from segmentation.params import Recipe, RegionCount

#: An option that may be given several times.
Patterns = Annotated[tuple[str, ...], Parameter(negative="")]


def recipe_and_regions(regions: str, **given: Any) -> tuple["Recipe", list["RegionCount"]]:
    """Make the recipe; list the numbers of regions if there are several."""
    from flows.recipes import parse_regions, recipe_from

    numbers = parse_regions(regions) if regions else []
    recipe = recipe_from(given.pop("config"), regions=numbers[0] if numbers else None, **given)
    return recipe, numbers if len(numbers) > 1 else []


def opened(output: str) -> "Storage":
    """Open a store that holds results."""
    from segmentation.io.storage import open_storage

    storage = open_storage(output)
    storage.check()
    if not storage.exists("tables/index.parquet") and not storage.folders("runs"):
        raise ParameterError(f"OUTPUT: {output} holds no results (no tables/index.parquet); make some: regionflow run")
    return storage


def full_place(place: str) -> str:
    """Return a URL as it is, a path in full."""
    from segmentation.io.places import is_url

    return place if is_url(place) else str(Path(place).absolute())


def check_paths(source: str | None, output: str, mask: Path | None) -> None:
    """Refuse what could only fail later, before anything heavy starts."""
    for name, place in (("SOURCE", source), ("OUTPUT", output), ("--mask", mask)):
        if "\0" in str(place or ""):
            raise ParameterError(f"{name}: got {str(place)!a}; no path has a NUL in it")
    if source is not None:
        _check_source(source)
    if output:
        _check_output(output)
    if mask is not None and not mask.exists():
        raise ParameterError(f"--mask: {mask} does not exist; a mask file or a folder of masks is expected")


def _check_output(output: str) -> None:
    from segmentation.io.storage import open_storage

    storage = open_storage(output)
    storage.check()
    if storage.exists(".lock") or storage.folders("runs"):
        return
    if next(storage.files(), None) is not None:
        raise ParameterError(f"OUTPUT: {output} holds other files; an empty or absent folder, or a store, is expected")


def _check_source(source: str) -> None:
    if "://" in source:
        from segmentation.io.places import file_system

        file_system(source)
        return
    if not source or not Path(source).exists():
        raise ParameterError(f"SOURCE: {source or repr(source)} does not exist; a file or folder of images is expected")
    if any("\ud800" <= character <= "\udfff" for character in source):
        raise ParameterError(f"SOURCE: {source!r} is not UTF-8, as the folder's own name must be; files in it may be")
    if (Path(source) / "tables" / "index.parquet").exists():
        raise ParameterError(f"SOURCE: {source} is a store of results; a folder of images is expected")


def check_label_exists(store: "Storage", label: str) -> None:
    """Refuse a name that no label map of a store has."""
    from segmentation.io.records import read_records

    labels = sorted({record.label for record in read_records(store).values()})
    if label and label not in labels:
        raise ParameterError(f"--label: {label!r} is not in {store.url}; there are {', '.join(labels)}")


def checked_label(label: str) -> str:
    """Return a name for label maps, or refuse it."""
    import re

    if label and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", label):
        raise ParameterError(f"--label: got {label!r}; letters, digits, - and _ are allowed, 64 at most")
    return label
