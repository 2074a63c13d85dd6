"""Faults of the archive and of the disk; after each, the invariants, and a next run that makes the store whole.

Those that need root, strace, or minutes carry the mark `faults`: `make test-faults` runs them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import RECIPE, finish, make_archive, results, start, stored, wait_for
from PIL import Image

import flows.segment_archive
from flows.cli import run_command
from segmentation.io.records import read_records
from segmentation.io.store import read_labels
from segmentation.planning import State
from tests.conftest import discs
from tests.invariants import check_store

pytestmark = pytest.mark.usefixtures("prefect_api")
WARD = ["--method", "ward", "--regions", "3", "--scale", "0.5", "--sigma", "1"]
OTHER = ["--method", "ward", "--regions", "2", "--scale", "0.5", "--sigma", "1"]
NAMES = ["broken.png", "colour.png", "deep.tif", "grey.png", "photo.jpg", "sub/inner.png"]


def run(source, root, dask_scheduler, *more, recipe=WARD):
    return run_command(["run", str(source), str(root), *recipe, "--scheduler", dask_scheduler, "--quiet", *more])


def after_listing(monkeypatch, disturb):
    """Have something happen to the archive when all of it is listed and nothing is read yet."""
    listing = flows.segment_archive.list_images

    def listed(*arguments, **keywords):
        yield from listing(*arguments, **keywords)
        disturb()

    monkeypatch.setattr("flows.segment_archive.list_images", listed)


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _folder(path):
    path.unlink()
    path.mkdir()


def _link(path):
    outside = path.parent.parent / "outside.png"
    path.replace(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("disturb", [Path.unlink, _pipe, _folder, _link], ids=["deleted", "pipe", "folder", "link"])
def test_an_image_that_is_gone_after_listing_is_a_row_and_costs_nobody_else(
    archive, tmp_path, dask_scheduler, monkeypatch, disturb
):
    after_listing(monkeypatch, lambda: disturb(archive / "grey.png"))
    assert run(archive, tmp_path / "out", dask_scheduler) == 1
    counts = check_store(tmp_path / "out", NAMES, exit_code=1)
    assert counts[State.SEGMENTED] == 4
    (row,) = [record for record in read_records(tmp_path / "out").values() if record.ref.name == "grey.png"]
    assert row.state is not State.SEGMENTED
    assert row.reason


def test_an_image_that_changes_after_listing_is_stored_as_it_was_read_and_seen_again(
    archive, tmp_path, dask_scheduler, monkeypatch
):
    after_listing(monkeypatch, lambda: Image.fromarray(discs(60, 80, seed=9)).save(archive / "grey.png"))
    assert run(archive, tmp_path / "out", dask_scheduler) == 1
    check_store(tmp_path / "out", NAMES, exit_code=1)
    monkeypatch.undo()
    assert run(archive, tmp_path / "out", dask_scheduler) == 1
    check_store(tmp_path / "out", NAMES, exit_code=1, source=archive)
    (row,) = [record for record in read_records(tmp_path / "out").values() if record.ref.name == "grey.png"]
    assert read_labels(tmp_path / "out", row.ref.id, "ward").shape == (60, 80)


def test_names_that_differ_only_in_what_identifiers_leave_out_are_images_of_their_own(tmp_path, dask_scheduler):
    source = tmp_path / "twins"
    names = ["twin.bmp", "twin.png", "Twin.png", "tw_in.png", "tw in.png", "sub/twin.png"]
    (source / "sub").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(discs(40 + number, 50, seed=number)).save(source / name)
    assert run(source, tmp_path / "out", dask_scheduler) == 0
    assert check_store(tmp_path / "out", names, exit_code=0, source=source) == {State.SEGMENTED: 6}
    heights = {
        record.ref.name: len(read_labels(tmp_path / "out", record.ref.id, "ward"))
        for record in read_records(tmp_path / "out").values()
    }
    assert heights == {name: 40 + number for number, name in enumerate(names)}


def test_other_parameters_in_mid_archive_leave_no_mixture(tmp_path, dask_scheduler):
    source = make_archive(tmp_path / "archive")
    root = tmp_path / "out"
    process = start(source, root, "--workers", "1", "--label", "cut")
    wait_for(lambda: stored(root) >= 5, process)
    process.kill()
    finish(process)
    check_store(root)
    for store in (root, tmp_path / "fresh"):
        assert run(source, store, dask_scheduler, "--label", "cut") == 1
        check_store(store, [path.name for path in source.iterdir()], exit_code=1, source=source)
    assert results(root) == results(tmp_path / "fresh")


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, in memory, to be filled or made read-only."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "regionflow-test", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk, *options):
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), disk], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("kib", [16, 64, 150, 300, 450])
def test_a_full_disk_ends_the_run_and_room_lets_the_next_go_on(disk, tmp_path, dask_scheduler, capfd, kib):
    source = make_archive(tmp_path / "archive", count=12)
    names = [path.name for path in source.iterdir()]
    remount(disk, f"size={kib}k")
    assert run(source, disk / "out", dask_scheduler, recipe=RECIPE) == 4
    assert "no space left on the device" in capfd.readouterr().err
    check_store(disk / "out")
    remount(disk, "size=64m")
    for root in (disk / "out", tmp_path / "fresh"):
        assert run(source, root, dask_scheduler, recipe=RECIPE) == 1
        check_store(root, names, exit_code=1, source=source)
    assert results(disk / "out") == results(tmp_path / "fresh")


@pytest.mark.faults
def test_a_read_only_disk_ends_the_run_and_changes_nothing(disk, archive, dask_scheduler, capfd):
    assert run(archive, disk / "out", dask_scheduler, "--limit", "3") == 1
    before = results(disk / "out")
    remount(disk, "ro")
    assert run(archive, disk / "out", dask_scheduler) == 4
    assert "the file system is read-only" in capfd.readouterr().err
    assert results(disk / "out") == before
    remount(disk, "rw")
    assert run(archive, disk / "out", dask_scheduler) == 1
    check_store(disk / "out", NAMES, exit_code=1, source=archive)


_ONE_NIGHT = """
import sys
from pathlib import Path
from segmentation.io.records import close_runs, publish_index
from segmentation.io.gallery import write_gallery
from segmentation.io.runs import start_run, write_run, read_run
from segmentation.io.sources import list_images
from segmentation.io.storage import open_storage
from segmentation.params import parse_recipe
from segmentation.planning import Work
from segmentation.io.records import read_records
from tasks import items
source, root, n_regions = sys.argv[1:]
storage = open_storage(root)
storage.check()
with storage.lock() as token:
    storage.sweep()
    recipe = parse_recipe({"scale": 0.5, "sigma": 1, "method": {"method": "ward", "n_regions": int(n_regions)}})
    known = read_records(storage)
    run = start_run(storage, {"source": source, "label": "ward"})
    job = items.Job(root=storage.url, run=run, label="ward", recipe=recipe, lock=token)
    works = [Work(ref, previous=known.get((ref.id, "ward"))) for ref in list_images(Path(source))]
    state = works
    for step in (items.load_items, items.prepare_items, items.graph_items, items.cluster_items, items.contour_items):
        state = step(state, job)
    items.store_items(state, job, "00000")
    publish_index(storage)
    write_gallery(storage)
    close_runs(storage)
"""


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_a_crash_at_any_rename_leaves_a_store_that_the_next_run_makes_whole(archive, tmp_path, dask_scheduler):
    """Results are replaced by those of another recipe, and the process is killed at its 1st, 2nd, … rename."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    first, whole = tmp_path / "first", tmp_path / "whole"
    assert run(archive, first, dask_scheduler) == 1
    assert run(archive, whole, dask_scheduler, recipe=OTHER) == 1
    expected = results(whole)
    calls = "rename,renameat,renameat2"
    for number in range(1, 200):
        root = tmp_path / f"crash-{number}"
        shutil.copytree(first, root)
        inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={number}"]
        night = [sys.executable, "-c", _ONE_NIGHT, str(archive), str(root), "2"]
        crashed = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", *inject, *night], check=False, capture_output=True, text=True
        )
        check_store(root)
        assert run(archive, root, dask_scheduler, recipe=OTHER) == 1
        check_store(root, NAMES, exit_code=1, source=archive)
        assert results(root) == expected, f"after a crash at call {number}"
        if crashed.returncode == 0:
            break
        assert "Error" not in crashed.stderr, crashed.stderr
        shutil.rmtree(root)
    assert number > 15  # so many calls there are at least: six images, records, tables, gallery
