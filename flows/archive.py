"""A run over listed images: plan, compute, publish. What the flows for one image and for an archive share."""

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from flows.artifacts import link_dashboard, publish_artifacts, tag_flow_run
from flows.batches import BATCHES_PER_THREAD, Lost, drive, lost_records
from flows.dask_cluster import capacity, check_certificates, cluster_for
from flows.progress import observer
from flows.repairs import Repairs, plan_repairs
from flows.report import RunReport
from flows.settings import Settings, image_bytes
from segmentation.errors import StoreError
from segmentation.io.gallery import PAGE, write_gallery
from segmentation.io.notes import gathered, logged_into
from segmentation.io.reading import image_header
from segmentation.io.records import Subject, close_runs, commit_batch, open_runs, publish_index, read_records
from segmentation.io.repair import close, make_way, restore
from segmentation.io.runs import now, read_run, start_run, was_interrupted, write_run
from segmentation.io.sources.passed_over import PassedOver, describe_passed_over
from segmentation.io.storage import Storage, open_storage
from segmentation.io.store import versions
from segmentation.io.verify import Findings, examine
from segmentation.kernels import are_compiled
from segmentation.params import Recipe, RegionCount
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
from segmentation.reasons import message_of
from tasks.items import Job

log = logging.getLogger(__name__)


def segment_images(
    refs: Sequence[ImageRef],
    source: str,
    output: str,
    recipe: Recipe,
    label: str,
    settings: Settings,
    regions: Sequence[RegionCount] = (),
    passed_over: PassedOver | None = None,
) -> RunReport:
    """Segment what of `refs` has no current record in the store `output`; see `run_works`.

    With several numbers of `regions` every image gets a label map for each, under LABEL-NUMBER.
    """
    numbers: Sequence[RegionCount] = tuple(dict.fromkeys(regions)) or (0,)
    works = [Work(ref, regions=number) for ref in refs for number in numbers]
    return run_works(works, source, output, recipe, label or recipe.method.method, settings, passed_over)


def run_works(
    asked: Sequence[Work],
    source: str,
    output: str,
    recipe: Recipe,
    label: str,
    settings: Settings,
    passed_over: PassedOver | None = None,
) -> RunReport:
    """Compute what of `asked` has no current record in the store `output`, and publish it.

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
    storage = open_storage(output)
    storage.check()
    labels = [label_for(label, number) for number in dict.fromkeys(work.regions for work in asked)] or [label]
    report = RunReport(source=source, output=output, labels=labels, listed=len(asked))
    report.passed_over = passed_over.as_dict() if passed_over else {}
    tag_flow_run(labels, source, recipe)
    watcher = observer()
    with storage.lock() as token:
        storage.sweep()
        findings = _examine(storage) if settings.repair else Findings(records=read_records(storage))
        job = Job(
            root=storage.url,
            run="",
            label=label,
            recipe=recipe,
            pixels=settings.pixels,
            max_pixels=settings.max_pixels,
            missing_chunks=settings.missing_chunks,
            lock=token,
        )
        works = _plan(asked, findings, job, report, settings)
        subjects = {(work.ref.id, job.label_of(work)) for work in asked}
        repairs = plan_repairs(storage, findings, dict.fromkeys(work.ref for work in asked), subjects, job)
        left = describe_passed_over(report.passed_over)
        watcher.planned(report.planned, len(works) + repairs.count(), report.unit, left)
        report.hopeless = repairs.described()
        records = findings.records
        if works or findings.faults or was_interrupted(storage) or open_runs(storage) or not storage.exists(PAGE):
            run = start_run(storage, _description(report, recipe, settings))
            report.run = run
            with _log_kept(storage, run), _reason_noted(storage, run):
                if findings.faults:
                    make_way(storage, findings, {work.ref.id for work in works} | repairs.images())
                _compute_again(repairs.before, run, settings, report, "repair-before")
                if works:
                    _compute(works, replace(job, run=run), settings, report)
                _compute_again(repairs.after, run, settings, report, "repair-after")
                watcher.phase("writing index and gallery")
                storage.confirm_lock(token)
                records = _publish(storage, findings, repairs, run)
                storage.sweep()  # what a worker that died had begun
            report.seconds = time.monotonic() - started
            write_run(storage, run, {**read_run(storage, run), "finished": now(), **_outcome(report)})
    report.seconds = time.monotonic() - started
    publish_artifacts(report, records, storage)
    return report


@contextmanager
def _reason_noted(storage: Storage, run: str) -> Iterator[None]:
    """Leave in the run's description why it could not go on, if it still can be written."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception):
            log.exception("the run cannot go on")
        reason = message_of(error) if isinstance(error, Exception) else "interrupted"
        with suppress(OSError):
            write_run(storage, run, {**read_run(storage, run), "stopped": now(), "reason": reason})
        raise


@contextmanager
def _log_kept(storage: Storage, run: str) -> Iterator[None]:
    """Leave what is logged meanwhile beside the run's description, if it is anything."""
    with tempfile.TemporaryDirectory(prefix="regionflow-log-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            with logged_into(folder):
                yield
        finally:
            if text := gathered(folder):
                with suppress(OSError):
                    storage.write(f"runs/{run}/log.txt", text)


def _examine(storage: Storage) -> Findings:
    observer().phase("verifying what is stored")
    return examine(storage)


def _publish(storage: Storage, findings: Findings, repairs: Repairs, run: str) -> dict[Subject, Record]:
    """Make everything that is made from records, and close the runs."""
    if findings.faults:
        records = restore(storage, findings, run, findings.without_record & repairs.hopeless.keys())
        write_gallery(storage)
        close(storage, run)
    else:
        records = publish_index(storage)
        write_gallery(storage)
        close_runs(storage)
    return records


def _compute_again(
    groups: Sequence[tuple[Job, list[Work]]], run: str, settings: Settings, report: RunReport, name: str
) -> None:
    """Compute damaged results of other labels, as they were made before."""
    for number, (job, works) in enumerate(groups):
        own = RunReport(report.source, report.output, [job.label], run, listed=len(works))
        _compute(works, replace(job, run=run), settings, own, prefix=f"{name}-{number}-")
        report.repaired += own.computed


def _plan(asked: Iterable[Work], findings: Findings, job: Job, report: RunReport, settings: Settings) -> list[Work]:
    works = []
    reasons = []
    for work in asked:
        subject = (work.ref.id, job.label_of(work))
        previous = findings.records.get(subject)
        reason = decide(
            work.ref,
            previous,
            job.recipe_of(work),
            retry_failed=settings.retry_failed,
            # Accepted in an earlier run, a chunk that was filled would be refused now.
            verify_sources=settings.verify_sources or (work.ref.is_zarr and settings.missing_chunks == "refuse"),
        )
        damaged = subject in findings.damaged
        reasons.append(reason or ("damaged" if damaged else ""))
        if reasons[-1]:
            works.append(replace(work, previous=None if damaged else previous))
        elif previous is not None:
            report.count([previous])
    report.planned = count_reasons(reasons)
    return works


def _compute(works: Sequence[Work], job: Job, settings: Settings, report: RunReport, prefix: str = "") -> None:
    """Compute works and commit their records; `prefix` keeps their batches apart from others of the run."""
    watcher = observer()
    watcher.phase("starting workers")
    with cluster_for(settings) as client:
        link_dashboard(client)
        workers = capacity(client, settings)
        room = image_bytes(workers.worker_bytes)
        grouped = make_batches(
            (_with_header(work, settings.max_pixels) for work in works),
            job.recipe,
            limit_bytes=room // (BATCHES_PER_THREAD * workers.threads_per_worker),
            worker_bytes=room,
            max_images=batch_size(len(works), workers.n_threads),
        )
        refused: list[Record] = []
        watcher.phase("segmenting" if are_compiled() else "compiling, once on this machine; then segmenting")
        batches = (replace(each, number=prefix + each.number) for each in _only_batches(grouped, job, refused))
        in_flight = settings.batches_in_flight or BATCHES_PER_THREAD * workers.n_threads
        for outcome in drive(client, job, batches, in_flight=in_flight, limit_s=60 * settings.timeout_minutes):
            records = _commit_lost(outcome, job) if isinstance(outcome, Lost) else outcome
            report.count_computed(records)
            watcher.finished(records)
    if refused:
        commit_batch(job.root, job.run, f"{prefix}refused", refused, None)
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
    commit_batch(job.root, job.run, lost.batch.number, records, None)
    return records


def _with_header(work: Work, max_pixels: int) -> Work:
    """Read the header; if that fails, the loading step finds the same fault and says why."""
    if work.ref.problem or work.header is not None:
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
        "passed_over": report.passed_over,
    }


def _outcome(report: RunReport) -> dict[str, object]:
    values = report.as_dict()
    names = ("computed", "repaired", "hopeless", "states", "seconds", "step_seconds", "problems", "exit_code")
    return {name: values[name] for name in names}
