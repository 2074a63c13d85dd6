"""`regionflow demo`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.interrupts import interruptible


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
    from flows.console import make_console
    from flows.embedded_server import prefect_api
    from flows.settings import configure_prefect

    configure_prefect()
    console = make_console(stderr=True, quiet=quiet)
    with interruptible(), prefect_api(console):
        from flows.demo import run_demo

        return run_demo(output, console)
