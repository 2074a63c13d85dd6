"""The `regionflow` command. Heavy imports wait until a command needs them, so that `--help` answers at once."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from flows.exit_codes import BROKEN, INTERRUPTED, LOCKED, OK, SOME_REFUSED, USAGE
from flows.interrupts import MESSAGE, interruptible, received
from segmentation.errors import ParameterError, SegmentationError

if TYPE_CHECKING:
    from segmentation.io.storage import Storage
    from segmentation.params import Recipe, RegionCount

#: An option that may be given several times.
Patterns = Annotated[tuple[str, ...], Parameter(negative="")]


def _version() -> str:
    from importlib.metadata import version

    return version("regionflow")


app = App(
    name="regionflow",
    version=_version,
    help="Segment image archives: labels in OME-Zarr, contours to look at, tables to analyse.",
    version_flags=["--version"],
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # an interrupted run has a message and an exit code of its own
)


def main() -> None:
    """Run the command; end with the exit code that its outcome has."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error is one line on standard error."""
    from segmentation.io.lock import StoreLockedError

    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, ParameterError) as error:
        return _say(USAGE, error)
    except StoreLockedError as error:
        return _say(LOCKED, error)
    except (SegmentationError, OSError) as error:
        return _say(INTERRUPTED, MESSAGE) if received() else _say(BROKEN, error)
    except KeyboardInterrupt:
        return _say(INTERRUPTED, MESSAGE)
    return code if isinstance(code, int) else OK


def _say(code: int, error: object) -> int:
    from rich.console import Console

    text = " ".join(str(error).split())
    Console(stderr=True, soft_wrap=True).print(f"regionflow: {text}", markup=False, highlight=False, style="red")
    return code


@app.command
def run(
    source: str,
    output: str,
    /,
    *,
    method: Literal["spectral", "ward", "kmeans", "hierarchy"] | None = None,
    regions: str = "",
    scale: float | None = None,
    sigma: float | None = None,
    seed: int | None = None,
    min_region_size: int | None = None,
    refine: Literal["watershed", "nearest"] | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    config: Path | None = None,
    include: Patterns = (),
    exclude: Patterns = (),
    frames: Literal["single", "each"] = "single",
    mask: Path | None = None,
    label: str = "",
    pixels: Literal["preview", "full", "none"] = "preview",
    workers: int = 0,
    memory: str = "",
    timeout: float = 120,
    scheduler: str = "",
    max_pixels: int | None = None,
    limit: int = 0,
    retry_failed: Annotated[bool, Parameter(negative="")] = False,
    verify_sources: Annotated[bool, Parameter(negative="")] = False,
    repair: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Segment every image of SOURCE that has no current result in OUTPUT.

    Parameters
    ----------
    source
        A folder of images (searched whole), an image, an OME-Zarr image, a zip or tar archive, a CSV or Parquet list
        with a column "path", or the s3:// URL of one of them.
    output
        The store: a folder, made if absent, or s3://bucket/prefix. It may hold several methods side by side.
    method
        How pixels become regions: spectral (normalized cuts, the default), ward, kmeans, or hierarchy (finds how many).
    regions
        Number of regions, or colours (kmeans); auto (not kmeans): as many as the image suggests; several, as 8,16,32,
        give several label maps.
    scale
        Size of the grid that is clustered, in (0, 1]; default 0.2, for hierarchy 1.
    sigma
        Gaussian smoothing before that, in pixels; default 2, for hierarchy 0.
    seed
        Seed of everything random; default 42.
    min_region_size
        Smaller pieces, in pixels, join their most similar neighbour; default 0.
    refine
        How borders return to the original resolution: watershed (along edges, the default) or nearest.
    set_
        A parameter of the method, as NAME=VALUE; may be given several times.
    config
        A YAML file with the recipe; options on the command line come before it.
    include
        Only images that this pattern fits: '*.tif' anywhere, 'plate7/**' below a folder; may be given several times.
    exclude
        No images that this pattern fits, and nothing in folders that it fits; may be given several times.
    frames
        A file of several pages or frames is refused (single); or each is an image of its own, named FILE#3 (each).
    mask
        A folder of masks named like the images: what is not 0 is segmented.
    label
        Name of the label maps; the method's name by default.
    pixels
        What is stored of the image itself.
    workers
        Worker processes; one per core by default, if memory allows.
    memory
        What one worker may take, such as 2GB; its part of three quarters of the machine's by default.
    timeout
        Minutes that a step of one batch may take; then its worker is ended, and its images are tried singly.
    scheduler
        Address of a running Dask scheduler, instead of workers here: tls://…, or tcp://… on this machine.
    max_pixels
        Larger images are rejected, by what their headers say; default 64 million.
    limit
        Look at the first N images only.
    retry_failed
        Try images again that were rejected or failed.
    verify_sources
        Hash every image again, even if size and time say it is unchanged.
    repair
        Verify OUTPUT first, and compute again what of it is damaged or missing.
    json
        Print the report as JSON.
    quiet
        Print nothing but errors.
    """
    from flows.console import run_observed
    from flows.settings import Settings, configure_prefect
    from segmentation.io.sources import Selection
    from segmentation.params import parse

    options = {"sigma": sigma, "scale": scale, "seed": seed, "min_region_size": min_region_size, "refine": refine}
    recipe, numbers = _recipe_and_regions(regions, config=config, method=method, options=options, pairs=set_)
    settings = parse(
        Settings,
        {
            "workers": workers,
            "memory": memory,
            "timeout_minutes": timeout,
            "scheduler": scheduler,
            "pixels": pixels,
            "limit": limit,
            **({} if max_pixels is None else {"max_pixels": max_pixels}),
            "retry_failed": retry_failed,
            "verify_sources": verify_sources,
            "repair": repair,
        },
    )
    _check_paths(source, output, mask)
    configure_prefect()
    keywords = {
        "source": source,
        "output": output,
        "recipe": recipe,
        "label": _checked_label(label),
        "mask": str(mask or ""),
        "regions": numbers,
        "selection": parse(Selection, {"include": include, "exclude": exclude, "frames": frames}),
        "settings": settings,
    }
    with interruptible():
        return run_observed(keywords, quiet=quiet, as_json=json)


@app.command
def recut(
    output: str,
    /,
    *,
    regions: str = "",
    threshold: float | None = None,
    label: str = "",
    workers: int = 0,
    memory: str = "",
    scheduler: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Cut the trees that `run --method hierarchy` left in OUTPUT elsewhere: new label maps, without the images.

    Parameters
    ----------
    output
        The store: a folder, or s3://bucket/prefix.
    regions
        Number of regions, or auto; several, as 8,16,32, give several label maps, NAME-8, NAME-16 and NAME-32.
    threshold
        How credible a border must be to stay, in [0, 1], instead of a number; the label map is NAME-t0_3 for 0.3.
    label
        NAME of the label maps whose trees are cut; hierarchy by default.
    workers
        Worker processes; one per core by default, if memory allows.
    memory
        What one worker may take, such as 2GB; its part of three quarters of the machine's by default.
    scheduler
        Address of a running Dask scheduler (tcp://… or tls://…), instead of workers here.
    json
        Print the report as JSON.
    quiet
        Print nothing but errors.
    """
    from flows.console import run_observed
    from flows.recipes import parse_regions
    from flows.settings import Execution, configure_prefect
    from segmentation.params import Hierarchy, parse

    settings = parse(Execution, {"workers": workers, "memory": memory, "scheduler": scheduler})
    parse(Hierarchy, {"threshold": threshold})
    if bool(regions) == (threshold is not None):
        raise ParameterError("give either --regions or --threshold: how many regions, or how credible their borders")
    keywords = {
        "output": _store(output).url,
        "regions": parse_regions(regions) if regions else [],
        "threshold": threshold,
        "label": _checked_label(label),
        "settings": settings,
    }
    configure_prefect()
    with interruptible():
        return run_observed(keywords, quiet=quiet, as_json=json, flow="recut_archive")


@app.command
def demo(
    output: Path = Path("demo-output"),
    /,
    *,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run the reference cases and a small real archive, and make a gallery of their figures.

    Parameters
    ----------
    output
        A folder, made if absent.
    quiet
        Print nothing but errors.
    """
    from rich.console import Console

    from flows.embedded_server import prefect_api
    from flows.settings import configure_prefect

    configure_prefect()
    console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
    with interruptible(), prefect_api(console):
        from flows.demo import run_demo

        return run_demo(output, console)


@app.command
def status(output: str, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Say what OUTPUT holds: counts, the last runs, what was refused and why.

    Parameters
    ----------
    output
        The store.
    json
        Print it as JSON.
    """
    from flows.console import print_json, print_status
    from segmentation.io.summary import summarise

    summary = summarise(_store(output))
    if json:
        print_json(summary)
    else:
        print_status(summary)
    return OK


@app.command
def verify(output: str, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Read everything in OUTPUT again and say what is not as recorded; exit code 1 if anything is not.

    Mend it with: regionflow run SOURCE OUTPUT --repair.

    Parameters
    ----------
    output
        The store.
    json
        Print the faults as JSON.
    """
    from flows.console import print_faults, print_json
    from segmentation.io.verify import examine

    found = examine(_store(output))
    if json:
        lists = {"faults": found.faults, "notes": found.notes}
        print_json(
            {"checked": found.checked, **{name: [vars(each) for each in items] for name, items in lists.items()}}
        )
    else:
        print_faults(found.checked, found.faults, found.notes)
    return SOME_REFUSED if found.faults else OK


@app.command
def gallery(output: str, /) -> int:
    """Write the gallery of OUTPUT anew.

    Parameters
    ----------
    output
        The store.
    """
    from segmentation.io.gallery import write_gallery

    sys.stdout.write(f"{write_gallery(_store(output))}\n")
    return OK


@app.command
def export(
    output: str,
    format: Literal["geojson", "coco", "csv", "png"],  # noqa: A002 - the word users know
    /,
    *,
    to: str = "",
    label: str = "",
) -> int:
    """Write the labels of OUTPUT for other programs.

    Parameters
    ----------
    output
        The store.
    format
        geojson: polygons for QuPath and GIS; coco: run-length masks; csv: region tables; png: label maps.
    to
        Where to, a folder or s3://bucket/prefix; OUTPUT/export/FORMAT by default.
    label
        Only the label maps of this name.
    """
    from segmentation.io.export import export_to
    from segmentation.io.summary import labelled_images

    store = _store(output)
    _check_label_exists(store, label)
    folder = to or f"{output.rstrip('/')}/export/{format}"
    n_files = export_to(format, labelled_images(store, label), folder)
    sys.stdout.write(f"{n_files} files in {folder}\n")
    return OK


@app.command
def serve(
    *,
    source: str | None = None,
    output: str = "",
    cron: str | None = None,
    timezone: str | None = None,
    method: Literal["spectral", "ward", "kmeans", "hierarchy"] | None = None,
    regions: str = "",
    config: Path | None = None,
    include: Patterns = (),
    exclude: Patterns = (),
    frames: Literal["single", "each"] | None = None,
    mask: Path | None = None,
    label: str | None = None,
    workers: int | None = None,
    memory: str | None = None,
    scheduler: str | None = None,
    home: Path | None = None,
    port: int | None = None,
) -> int:
    """Start a Prefect server with its UI, schedule the nightly run, and keep both up until Ctrl-C.

    What is given is remembered: the next start needs no options.

    Parameters
    ----------
    source
        The folder of images that is segmented every night; or an archive, a list, an s3:// URL.
    output
        The store that takes the results.
    cron
        When: minute, hour, day, month, weekday; '0 2 * * *' (02:00 every night) at first.
    timezone
        The time zone of that, such as Europe/Berlin; this machine's at first.
    method
        How pixels become regions: spectral, ward, kmeans or hierarchy.
    regions
        Number of regions, or colours (kmeans); auto (not kmeans): as many as the image suggests; several, as 8,16,32,
        give several label maps.
    config
        A YAML file with the recipe.
    include, exclude
        Only images, or no images, that this pattern fits; may be given several times.
    frames
        single: a file of several pages or frames is refused; each: every one is an image, named FILE#3.
    mask
        A folder of masks named like the images.
    label
        Name of the label maps; the method's name by default.
    workers
        Worker processes of a night; one per core by default, if memory allows.
    memory
        What one worker may take, such as 2GB; its part of three quarters of the machine's by default.
    scheduler
        Address of a running Dask scheduler, instead of workers here: tls://…, or tcp://… on this machine.
    home
        Where database, password and logs are; $REGIONFLOW_HOME or ~/.local/share/regionflow by default.
    port
        Of the UI, on this machine only; 4200 at first.
    """
    from flows.nights import Options, read_options
    from flows.recipes import parse_regions
    from flows.serve import serve as start
    from flows.server import Home, default_home
    from segmentation.params import parse_recipe

    _check_paths(source, output, mask)
    selection = {"include": list(include), "exclude": list(exclude), "frames": frames}
    changed = config is not None or method is not None or bool(regions)
    where = Home(home.absolute() if home else default_home())
    recipe, numbers = _recipe_and_regions(regions, config=config, method=method)
    if regions and config is None and method is None:  # as many as that, of whatever is remembered
        recipe = parse_recipe(read_options(where).recipe or {}).with_regions(parse_regions(regions)[0])
    options = Options(
        source=_full(source) if source else None,
        output=_full(output) if output else None,
        recipe=recipe.model_dump(mode="json") if changed else None,
        regions=numbers if changed else None,
        label=_checked_label(label) if label is not None else None,
        mask=str(mask.absolute()) if mask else None,
        selection={name: value for name, value in selection.items() if value} or None,
        workers=workers,
        memory=memory,
        scheduler=scheduler,
        cron=cron,
        timezone=timezone,
        port=port,
    )
    start(where, options)
    return OK


def _recipe_and_regions(regions: str, **given: Any) -> tuple["Recipe", list["RegionCount"]]:
    """Make the recipe; list the numbers of regions if there are several."""
    from flows.recipes import parse_regions, recipe_from

    numbers = parse_regions(regions) if regions else []
    recipe = recipe_from(given.pop("config"), regions=numbers[0] if numbers else None, **given)
    return recipe, numbers if len(numbers) > 1 else []


def _store(output: str) -> "Storage":
    from segmentation.io.storage import open_storage

    storage = open_storage(output)
    storage.check()
    if not storage.exists("tables/index.parquet") and not storage.folders("runs"):
        raise ParameterError(f"OUTPUT: {output} holds no results (no tables/index.parquet); make some: regionflow run")
    return storage


def _full(place: str) -> str:
    from segmentation.io.places import is_url

    return place if is_url(place) else str(Path(place).absolute())


def _check_paths(source: str | None, output: str, mask: Path | None) -> None:
    """Refuse what could only fail later, before anything heavy starts."""
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


def _check_label_exists(store: "Storage", label: str) -> None:
    from segmentation.io.records import read_records

    labels = sorted({record.label for record in read_records(store).values()})
    if label and label not in labels:
        raise ParameterError(f"--label: {label!r} is not in {store.url}; there are {', '.join(labels)}")


def _checked_label(label: str) -> str:
    import re

    if label and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", label):
        raise ParameterError(f"--label: got {label!r}; letters, digits, - and _ are allowed, 64 at most")
    return label


if __name__ == "__main__":
    main()
