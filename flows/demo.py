"""The demonstration: every reference case through the real tasks, a small real archive, and a page of figures."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import Flow
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from flows.console import make_console
from flows.dask_cluster import cluster_for
from flows.demo_cases import ARCHIVE_RECIPES, CASES, INPUTS, OWN_ARCHIVE, OWN_CASES, Case, write_inputs, write_pictures
from flows.demo_page import write_page
from flows.demo_results import ARCHIVE, FIGURES, PAGE, PICTURES, STORE
from flows.progress import observed_by
from flows.report import RunReport
from flows.segment_archive import segment_archive
from flows.segment_image import segment_image
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.params import Hierarchy, KMeans, Recipe, Spectral, Ward
from segmentation.pipeline import segment
from segmentation.planning import Record, display

#: All that a demonstration leaves, the first name made first, and what the commands on its page make.
_NAMES = (INPUTS, STORE, PICTURES, ARCHIVE, FIGURES, PAGE, OWN_CASES, OWN_ARCHIVE)


@dataclass(frozen=True)
class _Screen:
    """Where a person reads what happens: lines that stay, and one that changes."""

    console: Console
    status: Status


class _Spinner:
    """Shows in the status line what a run does and how many of its images are done."""

    def __init__(self, title: str, status: Status) -> None:
        self.title = title
        self.status = status
        self.done = self.to_do = 0
        self.phase("starting")

    def phase(self, name: str) -> None:
        """Show what the run does now."""
        self.status.update(f"{self.title}: {name}")

    def planned(self, counts: dict[str, int], to_do: int, unit: str, passed_over: str) -> None:
        """Take in how many images there are to do."""
        self.to_do = to_do

    def finished(self, records: Sequence[Record]) -> None:
        """Show how many images are done."""
        self.done += len(records)
        self.phase(f"{self.done} of {self.to_do}")


def run_demo(output: Path, console: Console) -> int:
    """Run the reference cases and the archive, write the page, and return the exit code.

    Parameters
    ----------
    output : Path
        An empty or absent folder, or that of an earlier demonstration: what is done there already is recognised.
    console : Console
        Where to say how far it is; a quiet one is told nothing.

    Returns
    -------
    code : int
        0 if every image was segmented, 1 if not.

    Raises
    ------
    ParameterError
        `output` holds other files; nothing was written.
    """
    _check_output(output)
    started = time.perf_counter()
    write_inputs(output / INPUTS)
    write_pictures(output / PICTURES)
    with console.status("starting workers") as status, _warm_workers() as settings:
        screen = _Screen(console, status)
        codes = [_run_case(output, case, settings, screen) for case in CASES]
        codes += [_run_archive(output, *item, settings, screen) for item in ARCHIVE_RECIPES.items()]
        status.update("drawing the figures")
        page = write_page(output)
    if not console.quiet:
        make_console().print(f"Done in {time.perf_counter() - started:.0f} s. Look at {escape(display(str(page)))}")
    return max(codes)


def _check_output(output: Path) -> None:
    """Write only where nothing is, or where an earlier demonstration wrote."""
    if output.exists() and not output.is_dir():
        raise ParameterError(f"OUTPUT: {output} is a file; a folder is expected")
    found = {path.name for path in output.glob("[!.]*")}
    if found and (INPUTS not in found or found - set(_NAMES)):
        raise ParameterError(
            f"OUTPUT: {output} holds other files; an empty or absent folder, or an earlier demo, is expected"
        )


@contextmanager
def _warm_workers() -> Iterator[Settings]:
    """Start one cluster for all flows, whose workers have loaded what they need before any clock runs."""
    with cluster_for(Settings()) as client:
        tiny = np.arange(64, dtype=np.uint8).reshape(8, 8) * np.uint8(3)
        methods = Spectral(n_regions=2, extra_regions=0), Ward(n_regions=2), KMeans(n_clusters=2), Hierarchy()
        for method in methods:
            client.run(segment, tiny, Recipe(scale=0.5, method=method))
        yield Settings(scheduler=client.scheduler.address)


def _run_case(output: Path, case: Case, settings: Settings, screen: _Screen) -> int:
    keywords = {
        "image": str(output / INPUTS / case.file),
        "output": str(output / STORE),
        "recipe": case.recipe,
        "label": case.label,
        "mask": str(output / INPUTS / case.mask) if case.mask else "",
        "settings": settings,
    }
    return _watched(case.file, segment_image, keywords, screen)


def _run_archive(output: Path, label: str, recipe: Recipe, settings: Settings, screen: _Screen) -> int:
    keywords = {
        "source": str(output / PICTURES),
        "output": str(output / ARCHIVE),
        "recipe": recipe,
        "label": label,
        "settings": settings,
    }
    return _watched(PICTURES, segment_archive, keywords, screen)


def _watched(source: str, flow: Flow[..., Any], keywords: Mapping[str, Any], screen: _Screen) -> int:
    """Run a flow, show how far it is, and leave a line that says how it ended; return its exit code."""
    with observed_by(_Spinner(f"{source}, {keywords['label']}", screen.status)):
        report: RunReport = flow(**keywords)
    screen.console.print(f"{source:<18} {report.label:<22} {_outcome(report)}")
    for problem in report.problems:
        words = f"  {problem['source']} {problem['state']}: {problem['reason']}"
        screen.console.print(words, style="yellow", markup=False)
    return report.exit_code


def _outcome(report: RunReport) -> str:
    """Say in a few words how a run ended.

    Examples
    --------
    >>> _outcome(RunReport(source="", output="", labels=[""], run="000001", listed=1, seconds=1.26))
    '1.3 s'
    >>> _outcome(RunReport(source="", output="", labels=[""], listed=14))
    '14 images, done before'
    """
    images = f"{report.listed} images, " if report.listed != 1 else ""
    return images + (f"{report.seconds:.1f} s" if report.run else "done before")
