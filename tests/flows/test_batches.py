import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prefect import flow

from flows.batches import Lost, drive, lost_records
from flows.dask_cluster import capacity, cluster_for
from flows.settings import Settings
from segmentation import Recipe, Ward
from segmentation.io.sources import list_images
from segmentation.planning import Batch, State, Work
from tasks.items import Job, load_items, store_items

pytestmark = pytest.mark.usefixtures("prefect_api")


def deadly_load(works, job):
    """Load images, unless one is named "colour.png": that one takes the worker with it."""
    if any(work.ref.name == "colour.png" for work in works):
        os.kill(os.getpid(), signal.SIGKILL)
    return load_items(works, job)


def unlucky_load(works, job):
    """Load images, but die once before: as under the blow of a neighbour."""
    deaths = Path(job.root, "deaths")
    with deaths.open("a") as file:
        file.write("x")
    if deaths.stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return load_items(works, job)


def stalling_load(works, job):
    """Load images, unless one is named "colour.png": of that one the last byte never comes."""
    if any(work.ref.name == "colour.png" for work in works):
        time.sleep(10**6)
    return load_items(works, job)


def hungry_store(items, job, batch):
    """Store results, unless one is of "colour.png": that one takes more memory than there is."""
    if any(item.work.ref.name == "colour.png" for item in items):
        np.empty(2**60, np.uint8)  # numpy raises a kind of MemoryError of its own
    return store_items(items, job, batch)


def failing_load(works, job):
    raise OSError(28, "No space left on device")


@pytest.fixture
def job(tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    return Job(str(root), "000001-x", "ward", Recipe(sigma=0, scale=0.5, method=Ward(n_regions=2)))


@pytest.fixture
def works(archive):
    return tuple(Work(ref) for ref in list_images(archive))


@flow
def driven(settings, job, batches, in_flight, limit_s=600):
    with cluster_for(settings) as client:
        return list(drive(client, job, batches, in_flight=in_flight, limit_s=limit_s))


def test_a_batch_that_kills_its_worker_is_split_until_the_one_image_is_found(works, job, monkeypatch):
    monkeypatch.setattr("tasks.steps.items.load_items", deadly_load)
    outcomes = driven(Settings(workers=2), job, [Batch("00000", works)], 4)
    lost = [outcome for outcome in outcomes if isinstance(outcome, Lost)]
    records = [record for outcome in outcomes if not isinstance(outcome, Lost) for record in outcome]
    assert [item.batch.works[0].ref.name for item in lost] == ["colour.png"]
    assert {record.ref.name: record.state for record in records} == {
        "broken.png": State.REJECTED,
        **dict.fromkeys(["deep.tif", "grey.png", "photo.jpg", "sub/inner.png"], State.SEGMENTED),
    }
    (record,) = lost_records(lost[0], job)
    assert (record.state, record.step, record.attempts) == (State.FAILED, "load", 1)
    (again,) = lost_records(replace(lost[0], batch=Batch("x", (Work(record.ref, record),))), job)
    assert again.attempts == 2


def test_an_image_that_died_with_a_neighbour_gets_a_try_of_its_own(works, job, monkeypatch):
    monkeypatch.setattr("tasks.steps.items.load_items", unlucky_load)
    (records,) = driven(Settings(workers=1), job, [Batch("00000", works[1:2])], 4)
    assert [record.state for record in records] == [State.SEGMENTED]


def test_a_read_that_never_ends_costs_one_image(works, job, monkeypatch):
    monkeypatch.setattr("tasks.steps.items.load_items", stalling_load)
    outcomes = driven(Settings(workers=2), job, [Batch("00000", works)], 4, limit_s=8)
    lost = [outcome for outcome in outcomes if isinstance(outcome, Lost)]
    assert [item.batch.works[0].ref.name for item in lost] == ["colour.png"]
    assert "--timeout" in lost_records(lost[0], job)[0].reason
    states = [record.state for outcome in outcomes if not isinstance(outcome, Lost) for record in outcome]
    assert sorted(states) == [State.REJECTED, *[State.SEGMENTED] * 4]


def test_an_image_whose_result_needs_too_much_memory_is_lost_alone(works, job, monkeypatch):
    monkeypatch.setattr("tasks.steps.items.store_items", hungry_store)
    outcomes = driven(Settings(workers=2), job, [Batch("00000", works)], 4)
    (lost,) = (outcome for outcome in outcomes if isinstance(outcome, Lost))
    assert (lost.batch.works[0].ref.name, lost.step) == ("colour.png", "store")
    assert "needs more memory" in lost.reason
    states = [record.state for outcome in outcomes if not isinstance(outcome, Lost) for record in outcome]
    assert sorted(states) == [State.REJECTED, *[State.SEGMENTED] * 4]


def test_trouble_of_a_whole_batch_ends_the_run(works, job, monkeypatch, dask_scheduler):
    monkeypatch.setattr("tasks.steps.items.load_items", failing_load)
    with pytest.raises(OSError, match="No space left"):
        driven(Settings(scheduler=dask_scheduler), job, [Batch("00000", works)], 2)


def test_no_more_batches_are_drawn_than_may_be_in_flight(works, job, dask_scheduler):
    drawn = []

    def batches():
        for number, work in enumerate(works):
            drawn.append(number)
            yield Batch(f"{number:05d}", (work,))

    @flow
    def counting():
        with cluster_for(Settings(scheduler=dask_scheduler)) as client:
            ahead = []
            for finished, _ in enumerate(drive(client, job, batches(), in_flight=2, limit_s=600), start=1):
                ahead.append(len(drawn) - finished)
            return ahead

    assert max(counting()) <= 2
    assert len(drawn) == len(works)


def test_the_cluster_forgets_batches_that_are_done(works, job, dask_scheduler):
    @flow
    def finishing():
        with cluster_for(Settings(scheduler=dask_scheduler)) as client:
            batches = [Batch(f"{number:05d}", (work,)) for number, work in enumerate(works)]
            list(drive(client, job, batches, in_flight=2, limit_s=600))
            for _ in range(100):
                held = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
                if not held:
                    break
                time.sleep(0.1)
            return held

    assert finishing() == 0


def test_local_workers_listen_on_loopback_only_and_have_one_thread():
    settings = Settings(workers=2)
    with cluster_for(settings) as client:
        info = client.scheduler_info(n_workers=-1)
        addresses = [info["address"], *info["workers"]]
        services = [str(worker["host"]) for worker in info["workers"].values()]
        assert all("127.0.0.1" in address for address in addresses + services)
        assert capacity(client, settings).n_threads == 2 == len(info["workers"])
