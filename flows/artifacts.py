"""What the Prefect UI shows of a run: progress while it works; a summary, what was refused, and pictures afterwards."""

import base64
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from distributed import Client
from prefect import get_client, get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run

from flows.console import count_images, describe_plan
from flows.progress import Observer, observed_by, observer
from flows.report import RunReport
from segmentation.io.records import Subject
from segmentation.io.sources.passed_over import describe_passed_over
from segmentation.io.storage import Storage
from segmentation.params import Recipe
from segmentation.planning import Record, State

#: Artifacts live in Prefect's database: what is shown there is bounded, the store has it all.
_ROWS = 500
_PICTURES = 12
_PICTURE_WIDTH = 240
_PICTURES_A_ROW = 4
_WORST = 10
_REASON_CHARACTERS = 300
#: Progress is written this often at most; each update is a request to the server.
_UPDATE_EVERY_S = 2.0


class ProgressArtifact:
    """Shows a run as a bar in the UI, and hands everything on to whoever watched before."""

    def __init__(self, inner: Observer) -> None:
        self.inner = inner
        self.artifact: UUID | None = None
        self.to_do = self.done = self.refused = 0
        self.unit = "image"
        self.updated = 0.0

    def phase(self, name: str) -> None:
        """Hand on."""
        self.inner.phase(name)

    def planned(self, counts: dict[str, int], to_do: int, unit: str, passed_over: str) -> None:
        """Log the plan and make the bar."""
        self.inner.planned(counts, to_do, unit, passed_over)
        get_run_logger().info(describe_plan(counts, unit, passed_over))
        self.to_do, self.unit = to_do, unit
        if to_do:
            created: Any = create_progress_artifact(0.0, key="progress", description=self._text())
            self.artifact = created

    def finished(self, records: Sequence[Record]) -> None:
        """Move the bar by a batch, but not more often than a person looks."""
        self.inner.finished(records)
        self.done += len(records)
        self.refused += sum(record.state is not State.SEGMENTED for record in records)
        due = time.monotonic() - self.updated > _UPDATE_EVERY_S or self.done == self.to_do
        if self.artifact is not None and due:
            self.updated = time.monotonic()
            update_progress_artifact(self.artifact, 100.0 * self.done / self.to_do, description=self._text())

    def _text(self) -> str:
        return f"{self.done:,} of {self.to_do:,} {self.unit}s, {self.refused:,} refused"


@contextmanager
def shown_in_ui() -> Iterator[None]:
    """Let the UI see the runs of this block, beside whoever watches already."""
    with observed_by(ProgressArtifact(observer())):
        yield


def tag_flow_run(labels: Sequence[str], source: str, recipe: Recipe) -> None:
    """Tag the flow run by method, labels and source, so that the UI can filter nights."""
    tags = {*flow_run.tags, f"method:{recipe.method.method}", f"source:{Path(source).name}"}
    tags |= {f"label:{label}" for label in labels}
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), tags=sorted(tags))


def link_dashboard(client: Client) -> None:
    """Say where Dask's dashboard is, if it can be shown (bokeh is installed)."""
    try:
        import bokeh  # noqa: F401
    except ImportError:
        return
    create_link_artifact(
        client.dashboard_link, link_text="Dask dashboard", key="dask-dashboard", description="While the run works."
    )


def publish_artifacts(report: RunReport, records: dict[Subject, Record], storage: Storage) -> None:
    """Write what a person wants to see in the morning: summary, refused images, contact sheet."""
    own = [record for record in records.values() if record.label in report.labels]
    create_markdown_artifact(_summary(report, own), key="summary", description=f"{report.label} of {report.source}")
    refused = sorted((r for r in own if r.state is not State.SEGMENTED), key=lambda r: (r.state, r.ref.raw_name))
    if refused:
        left_out = f"; the first {_ROWS}, all are in tables/index.parquet" if len(refused) > _ROWS else ""
        create_table_artifact(
            [_refusal(record) for record in refused[:_ROWS]],
            key="refused-images",
            description=f"{count_images(len(refused), report.unit)} rejected or failed{left_out}",
        )
    sheet = _contact_sheet(storage, _worst(own, _PICTURES))
    if sheet:
        text = f"The {_PICTURES} images whose regions explain least of their variance.\n\n![contact sheet]({sheet})"
        create_markdown_artifact(text, key="contact-sheet", description="Contours, worst first")


def _summary(report: RunReport, own: Sequence[Record]) -> str:
    speed = report.computed / report.seconds if report.seconds else 0.0
    states = "".join(f"| {state.value} | {report.states[state]:,} |\n" for state in State)
    steps = "".join(
        f"| {step} | {seconds:,.1f} | {1000 * seconds / max(1, report.computed):,.1f} |\n"
        for step, seconds in report.step_seconds.items()
    )
    plan = ", ".join(f"{count:,} {name}" for name, count in report.planned.items() if count)
    worst = "".join(
        f"| {_cell(record.ref.display_name)} | {record.n_regions} | {_explained(record):.1%} |\n"
        for record in _worst(own, _WORST)
    )
    left = describe_passed_over(report.passed_over)
    plan += f". Passed over: {_cell(left)}" if left else ""
    results = f"Run `{report.run}`, results" if report.run else "Nothing was to do; results"
    return (
        f"**{report.computed:,} of {count_images(report.listed, report.unit)} computed** in {report.seconds:,.0f} s "
        f"({speed:.1f} {report.unit}s/s). Plan: {plan}.\n\n"
        f"| state | {report.unit}s |\n|---|---|\n{states}\n"
        f"| step | seconds on workers | ms each |\n|---|---|---|\n{steps}\n"
        f"### Worst ten\n\n| image | regions | variance explained |\n|---|---|---|\n{worst}\n"
        f"{results} in `{_cell(report.output)}`.\n"
    )


def _worst(records: Sequence[Record], count: int) -> list[Record]:
    segmented = [record for record in records if record.state is State.SEGMENTED]
    # Masked images last, as in the gallery.
    return sorted(segmented, key=lambda r: (bool(r.ref.mask_path), _explained(r), r.ref.raw_name))[:count]


def _explained(record: Record) -> float:
    return record.scores.get("explained_variance", 0.0)


def _refusal(record: Record) -> dict[str, str]:
    return {
        "image": record.ref.display_name,
        "state": record.state.value,
        "step": record.step,
        "reason": record.reason[:_REASON_CHARACTERS],
    }


def _cell(text: str) -> str:
    """Make text a cell of a Markdown table and nothing else: names may hold Markdown or HTML."""
    escaped = "".join(f"\\{character}" if character in "\\`*_{}[]()#+!|~" else character for character in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _contact_sheet(storage: Storage, records: Sequence[Record]) -> str:
    """Paste small contour pictures into one JPEG; return it as a data URL, which needs no file server."""
    from PIL import Image

    pictures = []
    for record in records:
        with (
            suppress(OSError),
            Image.open(io.BytesIO(storage.read(record.contour))) as stored,
        ):  # `verify` says what is missing
            picture = stored.convert("RGB")
            picture.thumbnail((_PICTURE_WIDTH, _PICTURE_WIDTH))
            pictures.append(picture)
    if not pictures:
        return ""
    columns = min(_PICTURES_A_ROW, len(pictures))
    rows = -(-len(pictures) // columns)
    step = _PICTURE_WIDTH + 8
    sheet = Image.new("RGB", (columns * step, rows * step), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        left, top = (step - picture.width) // 2, (step - picture.height) // 2
        sheet.paste(picture, (column * step + left, row * step + top))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
