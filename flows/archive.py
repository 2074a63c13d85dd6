"""A run over listed images: plan, compute, publish. What the flows for one image and for an archive share."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from flows.artifacts import link_dashboard, publish_artifacts, tag_flow_run
from flows.batches import Lost, drive, lost_records
from flows.dask_cluster import capacity, check_certificates, cluster_for
from flows.progress import observer
from flows.report import RunReport
from flows.settings import Settings
from segmentation.errors import StoreError
from segmentation.io.gallery import page_of, write_gallery
from segmentation.io.lock import store_lock
from segmentation.io.reading import image_header
from segmentation.io.records import Subject, close_runs, commit_batch, open_runs, publish_index, read_records
from segmentation.io.runs import now, read_run, start_run, was_interrupted, write_run
from segmentation.io.store import sweep_staging, versions
from segmentation.kernels import are_compiled
from segmentation.params import Recipe
from segmentation.planning import (
    PLAN_STEP,
    Batch,
    ImageRef,
    Record,
    State,
    Work,
    batch_size,
    count_reasons,
    decide,
    label_for,
    label_key,
    make_batches,
)
from tasks.items import Job


def segment_images(
    refs: Sequence[ImageRef],
    source: str,
    output: str,
    recipe: Recipe,
    label: str,
    settings: Settings,
    regions: Sequence[int] = (),
) -> RunReport:
    """Segment what of `refs` has no current record in the store `output`.

    With several numbers of `regions` every image gets a label map for each, under LABEL-NUMBER.

    Raises
    ------
    ParameterError
        The scheduler wants certificates that are not configured; nothing was written.
    StoreLockedError
        Another run holds the store; nothing was written.
    OSError
        The store cannot take results any more. What was committed stays; the next run goes on from there.
    """
    started = time.monotonic()
    check_certificates(settings)
    root = Path(output).absolute()
    label = label or recipe.method.method
    numbers = tuple(dict.fromkeys(regions)) or (0,)
    labels = [label_for(label, number) for number in numbers]
    report = RunReport(source=source, output=output, labels=labels, listed=len(refs) * len(numbers))
    tag_flow_run(labels, source, recipe)
    watcher = observer()
    with store_lock(root):
        records = read_records(root)
        sweep_staging(root)
        job = Job(
            root=str(root), run="", label=label, recipe=recipe, pixels=settings.pixels, max_pixels=settings.max_pixels
        )
        asked = [Work(ref, regions=number) for ref in refs for number in numbers]
        works = _plan(asked, records, job, report, settings)
        watcher.planned(report.planned, len(works), report.unit)
        if works or was_interrupted(root) or open_runs(root) or not page_of(root).exists():
            run = start_run(root, _description(report, recipe, settings))
            report.run = run
            with _reason_noted(root, run):
                if works:
                    _compute(works, replace(job, run=run), settings, report)
                watcher.phase("writing index and gallery")
                records = publish_index(root)
                write_gallery(root)
                close_runs(root)
            report.seconds = time.monotonic() - started
            write_run(root, run, {**read_run(root, run), "finished": now(), **_outcome(report)})
    report.seconds = time.monotonic() - started
    publish_artifacts(report, records, root)
    return report


@contextmanager
def _reason_noted(root: Path, run: str) -> Iterator[None]:
    """Leave in the run's description why it could not go on, if it still can be written."""
    try:
        yield
    except BaseException as error:
        reason = str(error) or type(error).__name__ if isinstance(error, Exception) else "interrupted"
        with suppress(OSError):
            write_run(root, run, {**read_run(root, run), "stopped": now(), "reason": reason})
        raise


def _plan(
    asked: Iterable[Work], known: dict[Subject, Record], job: Job, report: RunReport, settings: Settings
) -> list[Work]:
    works = []
    reasons = []
    for work in asked:
        previous = known.get((work.ref.id, job.label_of(work)))
        reason = decide(
            work.ref,
            previous,
            job.recipe_of(work),
            retry_failed=settings.retry_failed,
            verify_sources=settings.verify_sources,
        )
        reasons.append(reason)
        if reason:
            works.append(replace(work, previous=previous))
        elif previous is not None:
            report.count([previous])
    report.planned = count_reasons(reasons)
    return works


def _compute(works: Sequence[Work], job: Job, settings: Settings, report: RunReport) -> None:
    watcher = observer()
    watcher.phase("starting workers")
    with cluster_for(settings) as client:
        link_dashboard(client)
        n_workers, worker_bytes = capacity(client, settings)
        limit = settings.batch_bytes(worker_bytes or settings.worker_bytes())
        grouped = make_batches(
            (_with_header(work, settings.max_pixels) for work in works),
            job.recipe,
            limit_bytes=limit,
            max_images=batch_size(len(works), n_workers),
        )
        refused: list[Record] = []
        watcher.phase("segmenting" if are_compiled() else "compiling, once on this machine; then segmenting")
        batches = _only_batches(grouped, job, refused)
        for outcome in drive(client, job, batches, in_flight=settings.batches_in_flight or 2 * n_workers):
            records = _commit_lost(outcome, job) if isinstance(outcome, Lost) else outcome
            report.count_computed(records)
            watcher.finished(records)
    if refused:
        commit_batch(Path(job.root), job.run, "refused", refused, None)
        report.count_computed(refused)
        watcher.finished(refused)
    _check_complete(report)


def _only_batches(grouped: Iterable[Batch | tuple[Work, str]], job: Job, refused: list[Record]) -> Iterator[Batch]:
    """Pass batches on; images that fit in none become records."""
    for group in grouped:
        if isinstance(group, Batch):
            yield group
        else:
            work, reason = group
            key = label_key("", "", job.recipe_of(work))
            label = job.label_of(work)
            refused.append(Record(work.ref, label, State.REJECTED, key=key, step=PLAN_STEP, reason=reason, run=job.run))


def _commit_lost(lost: Lost, job: Job) -> list[Record]:
    records = lost_records(lost, job)
    commit_batch(Path(job.root), job.run, lost.batch.number, records, None)
    return records


def _with_header(work: Work, max_pixels: int) -> Work:
    """Read the header; if that fails, the loading step finds the same fault and says why."""
    if work.ref.problem:
        return work
    try:
        return replace(work, header=image_header(work.ref, max_pixels=max_pixels))
    except Exception:  # also of what remote stores raise
        return work


def _check_complete(report: RunReport) -> None:
    """Hold the records against the list: a run that lost one is not complete, whatever else it says."""
    ended = sum(report.states.values())
    if ended != report.listed:
        raise StoreError(f"{report.listed} label maps are asked for, {ended} have a record; run again")


def _description(report: RunReport, recipe: Recipe, settings: Settings) -> dict[str, object]:
    return {
        "source": report.source,
        "label": report.label,
        "recipe": recipe.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "versions": versions(),
        "listed": report.listed,
        "planned": report.planned,
    }


def _outcome(report: RunReport) -> dict[str, object]:
    values = report.as_dict()
    return {name: values[name] for name in ("computed", "states", "seconds", "step_seconds", "problems", "exit_code")}
