"""Whatever is killed, whenever: the next run does the rest, and the store equals that of an uninterrupted run."""

import os
import signal
import time

import pytest
from commands import (
    RECIPE,
    alive,
    children,
    finish,
    kill,
    make_archive,
    results,
    start,
    stored,
    wait_for,
    workers,
)

from flows.cli import run_command
from segmentation.io.records import read_records
from segmentation.io.verify import verify_store
from tests.invariants import check_store

NAMES = ["broken.png", *(f"image-{number:02d}.png" for number in range(24))]
pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("resume") / "archive")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory, prefect_api, dask_scheduler):
    """The results of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "out"
    assert run_command(["run", str(source), str(root), *RECIPE, "--scheduler", dask_scheduler, "--quiet"]) == 1
    return results(root)


def resume(source, root, dask_scheduler):
    """Run again; return the number of images that this run computed."""
    before = {subject for subject, record in read_records(root).items() if record.key}
    assert run_command(["run", str(source), str(root), *RECIPE, "--scheduler", dask_scheduler, "--quiet"]) == 1
    assert verify_store(root)[1] == []
    check_store(root, NAMES, exit_code=1, source=source)
    return len(set(read_records(root)) - before)


def recorded(root):
    return len(read_records(root)) if root.exists() else 0


@pytest.mark.parametrize("moment", [1, 9, 20])
def test_after_the_flow_was_killed_only_what_has_no_record_is_computed(source, whole, tmp_path, dask_scheduler, moment):
    root = tmp_path / "out"
    process = start(source, root, "--workers", "1")
    wait_for(lambda: stored(root) >= moment, process)
    family = children(process.pid)
    kill(process)
    finish(process)
    wait_for(lambda: not alive(family))
    done = recorded(root)
    assert done < 25
    assert verify_store(root)[1] == []
    check_store(root)
    assert resume(source, root, dask_scheduler) == 25 - done
    assert results(root) == whole


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_within_seconds_and_the_next_goes_on(
    source, whole, tmp_path, dask_scheduler, signal_, send
):
    root = tmp_path / "out"
    process = start(source, root, "--workers", "1")
    wait_for(lambda: stored(root) >= 3, process)
    family = children(process.pid)
    asked = time.monotonic()
    send(process.pid, signal_)
    code, error = finish(process)
    assert time.monotonic() - asked < 30
    assert code == 130
    assert "run again to go on" in error
    assert "Traceback" not in error
    wait_for(lambda: not alive(family), timeout_s=10)
    check_store(root)
    resume(source, root, dask_scheduler)
    assert results(root) == whole


def test_a_killed_worker_costs_nothing(source, whole, tmp_path):
    root = tmp_path / "out"
    process = start(source, root, "--workers", "2")
    wait_for(lambda: stored(root) >= 3 and len(workers(process.pid)) == 2, process)
    kill(workers(process.pid)[0])
    half_written = root / ".staging" / "killed" / "new" / "0" / "c" / "0" / "0"  # as if it had been writing just then
    half_written.parent.mkdir(parents=True)
    half_written.write_bytes(b"begun")
    code, error = finish(process)
    assert code == 1, error
    assert results(root) == whole
    assert verify_store(root)[1] == []
    check_store(root, NAMES, exit_code=1, source=source)


def test_two_runs_on_one_store_do_not_meet(source, whole, tmp_path):
    root = tmp_path / "out"
    first = start(source, root, "--workers", "1")
    wait_for(lambda: stored(root) >= 1, first)
    first.send_signal(signal.SIGSTOP)  # so that it does not finish while the second starts
    second = start(source, root, "--workers", "1")
    code, error = finish(second)
    first.send_signal(signal.SIGCONT)
    assert (code, str(first.pid) in error) == (3, True)
    assert finish(first)[0] == 1
    assert results(root) == whole
    check_store(root, NAMES, exit_code=1, source=source)


def test_nothing_outlives_a_run(source, tmp_path):
    process = start(source, tmp_path / "out", "--workers", "2")
    wait_for(lambda: stored(tmp_path / "out") >= 1, process)
    family = children(process.pid)
    assert finish(process)[0] == 1
    wait_for(lambda: not alive(family), timeout_s=10)
