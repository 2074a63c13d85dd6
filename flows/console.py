"""What a person sees in the terminal: progress while it runs, a summary when it is done."""

import importlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flows.embedded_server import prefect_api
from flows.progress import Silent, observed_by
from flows.report import RunReport
from segmentation.io.sources.passed_over import describe_passed_over
from segmentation.planning import Record, State, display

_WORDS = {
    "new": "new",
    "changed": "changed",
    "parameters": "with other parameters",
    "failed": "to try again",
    "damaged": "damaged",
    "verify": "to verify",
    "unchanged": "unchanged",
}


class ProgressBar:
    """Shows a run as a bar: images done, images per second, refused, time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.refused = 0
        self.unit = "image"
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("starting", total=None, rate="")

    def phase(self, name: str) -> None:
        """Show what the run does now."""
        self.progress.update(self.task, description=name)

    def planned(self, counts: dict[str, int], to_do: int, unit: str, passed_over: str) -> None:
        """Print the plan; the bar now has an end."""
        self.unit = unit
        self.console.print(describe_plan(counts, unit, passed_over), highlight=False, soft_wrap=True)
        self.progress.reset(self.task, total=to_do or None)

    def finished(self, records: Sequence[Record]) -> None:
        """Move the bar by a batch."""
        self.refused += sum(record.state is not State.SEGMENTED for record in records)
        self.progress.update(self.task, advance=len(records))
        task = self.progress.tasks[0]
        speed = task.completed / task.elapsed if task.elapsed else 0.0
        left = (task.total - task.completed) / speed if task.total and speed else 0.0
        refused = f", {self.refused} refused" if self.refused else ""
        self.progress.update(self.task, rate=f"{speed:.1f} {self.unit}s/s{refused}, {_duration(left)} left")


def run_observed(keywords: Mapping[str, Any], *, quiet: bool, as_json: bool, flow: str = "segment_archive") -> int:
    """Run a flow over an archive with a progress bar and print its summary; return the exit code."""
    console = make_console(stderr=True, quiet=quiet or as_json)
    with prefect_api(console), _watched(console):
        from prefect import tags

        run = getattr(importlib.import_module(f"flows.{flow}"), flow)
        # Dask logs what it also raises, Prefect's workers that the server went first; a person reads the error, once.
        for name in ("distributed.client", "EventsWorker", "APILogWorker"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with tags("regionflow"):  # the automation of `serve` watches runs with this tag only
            report: RunReport = run(**keywords)
    if as_json:
        print_json(report.as_dict())
    elif not quiet:
        print_report(report)
    return report.exit_code


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Make what reports are printed on: in a file or a pipe a row is a line, whole, without colours.

    In a terminal lines are as wide as that; the rest of a row goes on below.
    """
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        quiet=quiet,
        soft_wrap=True,
        highlight=False,
        force_terminal=is_terminal,
        force_interactive=is_terminal,
    )


def print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 0) -> None:
    """Print rows in columns; the last column takes what room it needs."""
    if console.is_terminal:
        table = Table(box=None, padding=(0, 2, 0, indent))
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table, soft_wrap=False)
        return
    widths = [max(cell_len(row[column]) for row in (header, *rows)) for column in range(len(header) - 1)]
    for row in (header, *rows):
        padded = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=False))
        console.print(" " * indent + "  ".join([*padded, row[-1]]), markup=False)


@contextmanager
def _watched(console: Console) -> Iterator[None]:
    if console.quiet:
        with observed_by(Silent()):
            yield
        return
    bar = ProgressBar(console)
    with bar.progress, observed_by(bar):
        yield


def describe_plan(counts: Mapping[str, int], unit: str = "image", passed_over: str = "") -> str:
    """Say the plan in one line.

    Examples
    --------
    >>> describe_plan({"new": 3, "changed": 0, "unchanged": 97}, passed_over="2 other files (.xml 2)")
    '100 images: 3 new, 97 unchanged; passed over: 2 other files (.xml 2)'
    """
    parts = [f"{count:,} {_WORDS[name]}" for name, count in counts.items() if count]
    plan = f"{count_images(sum(counts.values()), unit)}: {', '.join(parts)}"
    return f"{plan}; passed over: {passed_over}" if passed_over else plan


def print_report(report: RunReport) -> None:
    """Print how a run ended, the first images it refused, and where to look."""
    console = make_console()
    states = report.states
    refused = states[State.REJECTED] + states[State.FAILED]
    if not report.run:
        listed = count_images(report.listed, report.unit)
        console.print(f"Nothing to do: {listed} already done as [bold]{escape(report.label)}[/].")
    else:
        rate = f", {report.computed / report.seconds:.1f} {report.unit}s/s" if report.computed else ""
        console.print(
            f"[bold]{report.computed:,}[/] of {count_images(report.listed, report.unit)} computed as "
            f"[bold]{escape(report.label)}[/] in {_duration(report.seconds)}{rate}."
        )
    if refused:
        console.print(
            f"{states[State.SEGMENTED]:,} segmented, [yellow]{states[State.REJECTED]:,} rejected[/], "
            f"[red]{states[State.FAILED]:,} failed[/]:"
        )
        _print_problems(console, report.problems)
        if refused > len(report.problems):
            console.print(f"… and {refused - len(report.problems):,} more: regionflow status {escape(report.output)}")
    if report.passed_over:
        console.print(f"Passed over: {escape(describe_passed_over(report.passed_over))}.")
    if report.repaired:
        console.print(f"{count_images(report.repaired, 'damaged result')} of other labels computed again.")
    for result in report.hopeless:
        name = escape(f"{result['id']} ({result['label']}): {result['reason']}")
        console.print(f"[red]Damaged, and not repaired:[/] {name}")
    console.print(f"Look at {escape(report.output)}/gallery/index.html")


def print_status(summary: Mapping[str, Any]) -> None:
    """Print what a store holds."""
    console = make_console()
    console.print(f"[bold]{escape(str(summary['output']))}[/]: {count_images(summary['images'])}")
    labels = [(name, *(f"{counts[state.value]:,}" for state in State)) for name, counts in summary["labels"].items()]
    print_table(console, ("label", *(state.value for state in State)), labels)
    if summary["refused"]:
        console.print("\n[bold]Refused[/]")
        _print_problems(console, summary["refused"])
    console.print("\n[bold]Last runs[/]")
    for run in summary["runs"]:
        console.print(_run_line(run))


def print_faults(checked: int, faults: Sequence[Any], notes: Sequence[Any]) -> None:
    """Print what verification found: faults, then what no record answers for."""
    console = make_console()
    for title, found in (("fault", faults), ("note", notes)):
        if found:
            print_table(console, ("file", title), [(display(each.path), display(each.problem)) for each in found])
    if faults:
        console.print(Text(f"{len(faults)} faults, {checked:,} files checked. Mend: run … --repair", style="red"))
    else:
        console.print(f"{checked:,} files are as recorded.")


def print_json(value: object) -> None:
    """Print a value as JSON that any parser reads."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def _print_problems(console: Console, problems: Sequence[Mapping[str, str]]) -> None:
    rows = [(problem["source"], problem["state"], problem["reason"]) for problem in problems]
    print_table(console, ("image", "state", "reason"), rows, indent=2)


def _run_line(run: Mapping[str, Any]) -> str:
    if "finished" not in run:
        reason = f": {escape(run['reason'])}" if "reason" in run else ""
        return f"  {escape(str(run.get('run', '?')))}  did not finish{reason}"
    states = ", ".join(f"{count:,} {state}" for state, count in run["states"].items() if count)
    done = f"{run['computed']:,} computed in {_duration(run['seconds'])}"
    passed_over = describe_passed_over(run.get("passed_over", {}))
    left = f"; passed over: {escape(passed_over)}" if passed_over else ""
    return f"  {run['run']}  {escape(run['label'])}: {done}; {states}{left}"


def count_images(count: int, unit: str = "image") -> str:
    """Say a number of images, or of something else, in words.

    Examples
    --------
    >>> count_images(1), count_images(12000)
    ('1 image', '12,000 images')
    """
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d} h"
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.1f} s"
