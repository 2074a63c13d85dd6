"""The page of the demonstration: figures and numbers from what is stored, words around them."""

import base64
import hashlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from flows.demo_cases import CASES
from flows.demo_points import blobs_section, digits_section
from flows.demo_results import PAGE, Results, Section
from flows.demo_sections import (
    archive_section,
    china_section,
    circles_section,
    coffee_section,
    coins_section,
    coins_ward_section,
    hierarchy_section,
)
from segmentation.io.files import write_atomically
from segmentation.io.store import versions
from segmentation.planning import State


def write_page(output: Path) -> Path:
    """Draw all figures from the stored labels, write the page, and return its path."""
    results = Results(output)
    sections = (
        circles_section(results),
        coins_section(results),
        coins_ward_section(results),
        hierarchy_section(results),
        china_section(results),
        coffee_section(results),
        digits_section(results),
        blobs_section(),
        archive_section(results),
    )
    page = output / PAGE
    write_atomically(page, _render(results, sections).encode())
    return page


def _render(results: Results, sections: Sequence[Section]) -> str:
    style = resources.files(__package__).joinpath("templates", "demo.css").read_text("utf-8")
    environment = Environment(
        loader=PackageLoader("flows", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    records = [*(results.record(case) for case in CASES), *results.archive.values()]
    states = [record.state for record in records]
    return environment.get_template("demo.html.j2").render(
        sections=sections,
        style=style,
        style_hash=f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}",
        counts={state.value: states.count(state) for state in State},
        n_results=len(records),
        seconds=sum(sum(record.seconds.values()) for record in records),
        versions=versions(),
        folder=shlex.quote(str(results.output.absolute())),
        program=shlex.quote("regionflow" if shutil.which("regionflow") else _program()),
    )


def _program() -> str:
    """Return the command's full path, for where it is not on the search path."""
    return str(Path(sys.executable).with_name("regionflow"))
