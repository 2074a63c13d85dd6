"""What `regionflow serve` registers with its Prefect server, and how it tidies up after an earlier one.

The deployments are those of prefect.yaml; a test compares the two.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    StateType,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.states import Cancelled, Cancelling, Crashed
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from flows.nights import Night
from flows.recut_archive import recut_archive
from flows.segment_archive import segment_archive
from flows.segment_image import segment_image
from flows.server import HEARTBEAT_S, SILENCE_S
from segmentation.errors import ParameterError

POOL = "regionflow"
TAG = "regionflow"
NIGHTLY = "nightly"
AUTOMATION = "regionflow: a run that falls silent has crashed"
STOPPED = "regionflow serve was stopped"
#: A night that was missed or broken off is caught up this long, once; older ones are left to the next night.
CATCH_UP = timedelta(days=1)

_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled")
_HEARTBEAT = "prefect.flow-run.heartbeat"
_NIGHTS = 20
_POLL_S = 0.3

_DESCRIPTIONS = {
    NIGHTLY: "Every night: segment what is new, changed or broken since the last one.",
    "segment-archive": "Segment every image of a folder that has no current result yet.",
    "segment-image": "Segment one image file.",
    "recut-archive": "Cut the trees that hierarchy left in a store elsewhere: new label maps, without the images.",
}


def check_schedule(cron: str, timezone: str) -> None:
    """Refuse a cron line or a time zone that is none.

    Raises
    ------
    ParameterError
        Says which of the two, and what is expected.
    """
    try:
        CronSchedule(cron="0 2 * * *", timezone=timezone)
    except ValidationError as error:
        raise ParameterError(
            f"--timezone: got {timezone!r}; a name such as Europe/Berlin or UTC is expected"
        ) from error
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except (ValidationError, ValueError) as error:
        raise ParameterError(
            f"--cron: got {cron!r}; minute, hour, day, month and weekday are expected, as in '0 2 * * *'"
        ) from error


async def register(night: Night | None, working_dir: Path) -> None:
    """Make work pool, automation and deployments as they should be; end what an earlier `serve` left."""
    async with get_client() as client:
        await _make_pool(client)
        await _make_automation(client)
        owed = await _tidy(client)
        await _deploy(segment_archive, "segment-archive", working_dir)
        await _deploy(segment_image, "segment-image", working_dir)
        await _deploy(recut_archive, "recut-archive", working_dir)
        if night is not None:
            known = await _nightly(client)
            active = known is None or all(schedule.active for schedule in known.schedules)
            nightly = await _deploy(segment_archive, NIGHTLY, working_dir, night, active=active)
            if owed:
                await client.create_flow_run_from_deployment(
                    nightly, name=f"continued-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
                )


async def next_night(patience_s: float) -> datetime | None:
    """Return when the next night is; None if it is paused.

    Raises
    ------
    TimeoutError
        The server has scheduled none.
    """
    async with get_client() as client, asyncio.timeout(patience_s):
        nightly = await _nightly(client)
        if nightly is None or nightly.paused or not any(schedule.active for schedule in nightly.schedules):
            return None
        while True:
            runs = await client.read_flow_runs(
                deployment_filter=_is(nightly),
                flow_run_filter=_expected(after=datetime.now(UTC)),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=1,
            )
            if runs:
                return runs[0].expected_start_time
            await asyncio.sleep(_POLL_S)


async def cancel_runs() -> list[UUID]:
    """Ask what the worker runs to end; return which runs that are."""
    async with get_client() as client:
        runs = await _runs_in_pool(client, _UNFINISHED)
        for run in runs:
            await client.set_flow_run_state(run.id, Cancelling(message=STOPPED), force=True)
        return [run.id for run in runs]


async def close_runs(runs: list[UUID]) -> None:
    """Leave runs that `cancel_runs` broke off as cancelled, with the reason, however they ended."""
    async with get_client() as client:
        for run in runs:
            state = (await client.read_flow_run(run)).state
            if state is None or not (state.is_completed() or state.is_failed()):
                await client.set_flow_run_state(run, Cancelled(message=STOPPED), force=True)


async def _make_pool(client: PrefectClient) -> None:
    try:
        await client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


async def _make_automation(client: PrefectClient) -> None:
    """Let the server mark a run as crashed that has sent no heartbeat for a while and has not ended."""
    wanted = AutomationCore(
        name=AUTOMATION,
        description=f"Flow runs send a heartbeat every {HEARTBEAT_S} s; one without for {SILENCE_S} s is dead.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # Only of runs with this tag it is known that they send heartbeats often enough.
            match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{state}" for state in _ENDS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {SILENCE_S} s: it was killed")],
    )
    existing = await client.read_automations_by_name(AUTOMATION)
    for surplus in existing[1:]:
        await client.delete_automation(surplus.id)
    if existing:
        await client.update_automation(existing[0].id, wanted)
    else:
        await client.create_automation(wanted)


async def _tidy(client: PrefectClient) -> bool:
    """End what an earlier `serve` left: runs without a process, and starts that were missed while none was up.

    Returns
    -------
    bool
        Whether a night is owed: the last one, not long ago, was missed or broken off. Its run is not used again,
        as it would have the parameters of the earlier start.
    """
    for run in await _runs_in_pool(client, _UNFINISHED):
        await client.set_flow_run_state(run.id, Crashed(message=f"{STOPPED} while this ran"), force=True)
    now = datetime.now(UTC)
    nightly = await _nightly(client)
    owed = False
    if nightly is not None:
        nights = await client.read_flow_runs(
            deployment_filter=_is(nightly),
            flow_run_filter=_expected(before=now),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_NIGHTS,
        )
        # A night that found another one at work was cancelled before it began: the other one counts.
        last = next((run for run in nights if run.state_name != "Cancelled" or _was_stopped(run)), None)
        owed = last is not None and _is_owed(last, now)
    for run in await _runs_in_pool(client, [StateType.SCHEDULED], _expected(before=now)):
        of_a_night = nightly is not None and run.deployment_id == nightly.id
        if of_a_night or _age(run, now) > CATCH_UP:
            await client.set_flow_run_state(
                run.id, Cancelled(message="missed: regionflow serve was not up"), force=True
            )
    return owed


def _is_owed(run: FlowRun, now: datetime) -> bool:
    missed_or_crashed = run.state is not None and (run.state.is_scheduled() or run.state.is_crashed())
    return _age(run, now) <= CATCH_UP and (missed_or_crashed or _was_stopped(run))


def _was_stopped(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_cancelled() and run.state.message == STOPPED


def _age(run: FlowRun, now: datetime) -> timedelta:
    return now - run.expected_start_time if run.expected_start_time else timedelta()


async def _deploy(
    flow: Flow[..., Any], name: str, working_dir: Path, night: Night | None = None, *, active: bool = True
) -> UUID:
    strategy = ConcurrencyLimitStrategy.CANCEL_NEW if night else ConcurrencyLimitStrategy.ENQUEUE
    deployment = await flow.ato_deployment(
        name=name,
        description=_DESCRIPTIONS[name],
        tags=[TAG],
        parameters=night.parameters() if night else None,
        schedules=[Schedule(cron=night.cron, timezone=night.timezone, active=active)] if night else [],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=strategy),
        work_pool_name=POOL,
        job_variables={
            "working_dir": str(working_dir),
            "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S), "PYTHONSAFEPATH": "1"},
        },
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment.entrypoint = f"regionflow.deployed.{flow.fn.__name__}"
    return await deployment.aapply()


async def _nightly(client: PrefectClient) -> DeploymentResponse | None:
    try:
        return await client.read_deployment_by_name(f"{segment_archive.name}/{NIGHTLY}")
    except ObjectNotFound:
        return None


async def _runs_in_pool(
    client: PrefectClient, states: list[StateType], which: FlowRunFilter | None = None
) -> list[FlowRun]:
    chosen = (which or FlowRunFilter()).model_copy(
        update={"state": FlowRunFilterState(type=FlowRunFilterStateType(any_=states))}
    )
    return await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])), flow_run_filter=chosen
    )


def _expected(*, before: datetime | None = None, after: datetime | None = None) -> FlowRunFilter:
    return FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=before, after_=after))


def _is(deployment: DeploymentResponse) -> DeploymentFilter:
    return DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
