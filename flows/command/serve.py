"""`regionflow serve`."""

from pathlib import Path
from typing import Literal

from flows.command.arguments import Patterns, check_paths, checked_label, full_place, recipe_and_regions
from flows.exit_codes import OK


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
    missing_chunks: Literal["fill", "refuse"] | None = None,
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
    missing_chunks
        Chunks that an OME-Zarr image does not have hold its fill value, as Zarr says (fill); or such images are
        rejected (refuse).
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

    check_paths(source, output, mask)
    selection = {"include": list(include), "exclude": list(exclude), "frames": frames}
    changed = config is not None or method is not None or bool(regions)
    where = Home(home.absolute() if home else default_home())
    recipe, numbers = recipe_and_regions(regions, config=config, method=method)
    if regions and config is None and method is None:  # as many as that, of whatever is remembered
        recipe = parse_recipe(read_options(where).recipe or {}).with_regions(parse_regions(regions)[0])
    options = Options(
        source=full_place(source) if source else None,
        output=full_place(output) if output else None,
        recipe=recipe.model_dump(mode="json") if changed else None,
        regions=numbers if changed else None,
        label=checked_label(label) if label is not None else None,
        mask=str(mask.absolute()) if mask else None,
        selection={name: value for name, value in selection.items() if value} or None,
        missing_chunks=missing_chunks,
        workers=workers,
        memory=memory,
        scheduler=scheduler,
        cron=cron,
        timezone=timezone,
        port=port,
    )
    start(where, options)
    return OK
