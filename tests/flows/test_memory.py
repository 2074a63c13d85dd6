"""The bound on a worker's memory holds, whatever the sizes of the images."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import workers
from PIL import Image

from flows.segment_archive import segment_archive
from flows.settings import MIB, Settings
from segmentation import Recipe, Ward
from segmentation.io.records import read_records
from segmentation.planning import PLAN_STEP, State
from tests.invariants import check_store

pytestmark = pytest.mark.usefixtures("prefect_api")
WARD = Recipe(method=Ward(n_regions=5))
BOUND = Settings(workers=2, memory="700MiB")
SIDES = [300, 2400, 300, 900, 5600, 300, 2400, 900, 2400, 300, 2400, 900]


class WorkerWatch(threading.Thread):
    """Reads the peak memory of every worker process that this one starts from now on, again and again."""

    def __init__(self):
        super().__init__(daemon=True)
        self.others = {worker.pid for worker in workers(os.getpid())}  # of a cluster that tests share
        self.peaks = {}
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.05):
            for worker in workers(os.getpid()):
                if worker.pid in self.others:
                    continue
                try:
                    status = Path(f"/proc/{worker.pid}/status").read_text()
                    self.peaks[worker.pid] = int(status.split("VmHWM:")[1].split()[0]) * 1024
                except (OSError, IndexError):  # it has just ended
                    continue


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Images of 0.1 to 31 megapixels, in no order."""
    folder = tmp_path_factory.mktemp("mixed")
    tile = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    for number, side in enumerate(SIDES):
        Image.fromarray(np.tile(tile, (side // 100, side // 100, 1))).save(folder / f"{number:02d}-{side}.png")
    return folder


def check_bound(source, root):
    """Segment a folder: every image comes out or is refused by its numbers, at the first try, within the bound."""
    watch = WorkerWatch()
    watch.start()
    segment_archive(str(source), str(root), WARD, settings=BOUND)
    watch.ended.set()
    watch.join()
    check_store(root, [path.name for path in source.iterdir()], exit_code=1, source=source)
    records = {record.ref.name: record for record in read_records(root).values()}
    assert {record.step for record in records.values() if record.state is State.REJECTED} == {PLAN_STEP}
    assert {record.state for record in records.values()} == {State.SEGMENTED, State.REJECTED}
    assert [name for name, record in records.items() if record.state is State.REJECTED] == ["04-5600.png"]
    assert len(watch.peaks) == 2  # none has died
    assert {record.batch for record in records.values() if not record.batch.isdigit()} == {""}  # none was split
    assert max(watch.peaks.values()) < 700 * MIB


def test_workers_stay_below_their_bound_and_nothing_is_lost(mixed, tmp_path):
    check_bound(mixed, tmp_path / "out")


def test_without_admission_the_same_images_break_it(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.archive.image_bytes", lambda worker_bytes: 2**50)
    with pytest.raises(AssertionError):
        check_bound(mixed, tmp_path / "out")


def test_an_image_that_outgrows_its_worker_fails_alone(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.archive.image_bytes", lambda worker_bytes: 2**50)
    segment_archive(str(mixed), str(tmp_path / "out"), WARD, settings=Settings(workers=2, memory="600MiB"))
    records = {record.ref.name: record for record in read_records(tmp_path / "out").values()}
    left = {name: record.reason for name, record in records.items() if record.state is not State.SEGMENTED}
    assert list(left) == ["04-5600.png"], left
    assert records["04-5600.png"].state is State.FAILED
    assert "memory" in records["04-5600.png"].reason  # its limit stopped it, or killed the worker
