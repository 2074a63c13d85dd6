"""`regionflow run`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.command.arguments import Patterns, check_paths, checked_label, recipe_and_regions
from flows.interrupts import interruptible


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
    missing_chunks: Literal["fill", "refuse"] = "fill",
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
    missing_chunks
        Chunks that an OME-Zarr image does not have hold its fill value, as Zarr says (fill); or such images are
        rejected (refuse).
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
    recipe, numbers = recipe_and_regions(regions, config=config, method=method, options=options, pairs=set_)
    settings = parse(
        Settings,
        {
            "workers": workers,
            "memory": memory,
            "timeout_minutes": timeout,
            "scheduler": scheduler,
            "pixels": pixels,
            "missing_chunks": missing_chunks,
            "limit": limit,
            **({} if max_pixels is None else {"max_pixels": max_pixels}),
            "retry_failed": retry_failed,
            "verify_sources": verify_sources,
            "repair": repair,
        },
    )
    check_paths(source, output, mask)
    configure_prefect()
    keywords = {
        "source": source,
        "output": output,
        "recipe": recipe,
        "label": checked_label(label),
        "mask": str(mask or ""),
        "regions": numbers,
        "selection": parse(Selection, {"include": include, "exclude": exclude, "frames": frames}),
        "settings": settings,
    }
    with interruptible():
        return run_observed(keywords, quiet=quiet, as_json=json)
