"""`regionflow recut`."""

from typing import Annotated

from cyclopts import Parameter

from flows.command.arguments import checked_label, opened
from flows.interrupts import interruptible
from segmentation.errors import ParameterError


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
        "output": opened(output).url,
        "regions": parse_regions(regions) if regions else [],
        "threshold": threshold,
        "label": checked_label(label),
        "settings": settings,
    }
    configure_prefect()
    with interruptible():
        return run_observed(keywords, quiet=quiet, as_json=json, flow="recut_archive")
