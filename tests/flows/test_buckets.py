"""A store in a bucket keeps every promise of one in a folder."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from flows.cli import run_command
from segmentation.io import objects
from segmentation.io.gallery import write_gallery
from segmentation.io.records import close_runs, publish_index, read_records
from segmentation.io.sources import list_images
from segmentation.io.storage import open_storage
from segmentation.io.store import read_labels
from segmentation.io.verify import verify_store
from segmentation.params import Recipe, Ward
from segmentation.planning import Work
from tasks import items
from tests.invariants import check_store
from tests.s3 import FaultProxy
from tests.s3 import objects as objects_in

pytestmark = pytest.mark.usefixtures("prefect_api", "s3_endpoint")

RECIPE = ["--method", "ward", "--regions", "3", "--scale", "0.5", "--sigma", "1"]
TWO = ["--method", "ward", "--regions", "2", "--scale", "0.5", "--sigma", "1"]
NAMES = ["broken.png", "colour.png", "deep.tif", "grey.png", "photo.jpg", "sub/inner.png"]


@pytest.fixture(scope="module")
def workers(s3_endpoint):
    """Address of a scheduler whose worker knows the bucket; that of the session may have started before it."""
    from distributed import LocalCluster

    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        yield cluster.scheduler_address


def run(source, output, *more, recipe=RECIPE):
    return run_command(["run", str(source), str(output), *recipe, *more])


def command(source, output, *more, **environment):
    """Start the command in a process of its own, reporting to the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    known = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), **environment}
    line = [sys.executable, "-m", "flows.cli", "run", str(source), str(output), *RECIPE, "--workers", "1", *more]
    return subprocess.Popen(line, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    _, error = process.communicate(timeout=300)
    assert "Traceback" not in error, error
    return process.returncode, error


def results(files):
    """What a store is for, without what says when it was made."""
    return {name: data for name, data in files.items() if name.split("/")[0] in ("images", "contours")} | {
        name: data for name, data in files.items() if name.startswith("tables/regions/")
    }


def test_a_bucket_takes_a_whole_run_and_every_command_reads_it(archive, bucket, tmp_path, capsys, monkeypatch):
    assert run(archive, bucket, "--workers", "2", "--quiet") == 1
    assert run(archive, tmp_path / "local", "--workers", "2", "--quiet") == 1
    files = objects_in(bucket)
    local = {
        path.relative_to(tmp_path / "local").as_posix(): path.read_bytes()
        for path in (tmp_path / "local").rglob("*")
        if path.is_file()
    }
    assert results(files) == results(local)
    assert check_store(bucket, NAMES, exit_code=1, source=archive) == {"segmented": 5, "rejected": 1}

    before = {name: data for name, data in files.items() if name != ".lock"}
    capsys.readouterr()
    assert run(archive, bucket) == 1
    assert "6 images: 6 unchanged" in capsys.readouterr().err
    assert {name: data for name, data in objects_in(bucket).items() if name != ".lock"} == before

    assert run_command(["status", bucket, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]["ward"] == {"segmented": 5, "rejected": 1, "failed": 0}
    assert run_command(["verify", bucket]) == 0
    assert "files are as recorded" in capsys.readouterr().out
    for format_name, n_files in {"geojson": 5, "csv": 1, "png": 5, "coco": 1}.items():
        assert run_command(["export", bucket, format_name]) == 0
        assert f"{n_files} files in {bucket}/export/{format_name}" in capsys.readouterr().out
    assert len(list(open_storage(bucket).files("export"))) == 12
    open_storage(bucket).delete("gallery/index.html")
    assert run_command(["gallery", bucket]) == 0
    assert objects_in(bucket)["gallery/index.html"] == files["gallery/index.html"]


def test_labels_are_read_from_a_bucket(archive, bucket, workers):
    assert run(archive / "grey.png", bucket, "--scheduler", workers, "--quiet") == 0
    (record,) = read_records(bucket).values()
    assert set(np.unique(read_labels(bucket, record.ref.id, "ward"))) == {1, 2, 3}


def test_other_parameters_and_a_changed_image_replace_what_was_there(archive, bucket, workers, tmp_path):
    more = ["--scheduler", workers, "--quiet"]
    for target in (bucket, tmp_path / "local"):
        assert run(archive, target, *more) == 1
        assert run(archive, target, *more, recipe=["--method", "kmeans", "--regions", "4"]) == 1
        assert run(archive, target, *more, recipe=TWO) == 1
    (archive / "grey.png").write_bytes((archive / "sub" / "inner.png").read_bytes())
    for target in (bucket, tmp_path / "local"):
        assert run(archive, target, *more, recipe=TWO) == 1
        check_store(target, NAMES, exit_code=1, source=archive)
        assert verify_store(target)[1] == []
    local = tmp_path / "local"
    files = {p.relative_to(local).as_posix(): p.read_bytes() for p in local.rglob("*") if p.is_file()}
    assert results(objects_in(bucket)) == results(files)


def test_trees_in_a_bucket_are_cut_as_in_a_folder_without_the_images(archive, bucket, workers, tmp_path, capsys):
    local = tmp_path / "local"
    more = ["--scheduler", workers, "--quiet"]
    for target in (bucket, local):
        assert run(archive, target, *more, recipe=["--method", "hierarchy"]) == 1
    for path in archive.rglob("*.*"):
        path.unlink()
    for cut in (["--regions", "2,auto"], ["--threshold", "0.3"]):
        for target in (bucket, local):
            assert run_command(["recut", str(target), *cut, *more]) == 1  # one image is none
    labels = {"hierarchy", "hierarchy-2", "hierarchy-auto", "hierarchy-t0_3"}
    states = {key: record.state for key, record in read_records(bucket).items()}
    assert {label for _, label in states} == labels
    assert states == {key: record.state for key, record in read_records(local).items()}
    assert verify_store(bucket)[1] == []
    files = {p.relative_to(local).as_posix(): p.read_bytes() for p in local.rglob("*") if p.is_file()}
    in_bucket = objects_in(bucket)
    assert results(in_bucket) == results(files)

    capsys.readouterr()
    assert run_command(["recut", bucket, "--regions", "2,auto", "--scheduler", workers]) == 1
    assert "12 label maps: 12 unchanged" in capsys.readouterr().err
    assert {name: data for name, data in objects_in(bucket).items() if name != ".lock"} == {
        name: data for name, data in in_bucket.items() if name != ".lock"
    }

    damaged = next(name for name in in_bucket if "/labels/hierarchy-2/0/c/" in name)
    for storage in map(open_storage, (bucket, str(local))):
        storage.delete(damaged)
        assert run(archive, storage.url, *more, "--repair", recipe=["--method", "hierarchy"]) == 0
        assert verify_store(storage)[1] == []
    assert results(objects_in(bucket)) == results(in_bucket)


def test_a_recut_of_a_bucket_that_is_held_or_has_no_trees_writes_nothing(archive, bucket, workers, capsys):
    assert run(archive, bucket, "--scheduler", workers, "--quiet") == 1
    before = objects_in(bucket)
    assert run_command(["recut", bucket, "--regions", "2"]) == 2
    assert f"{bucket} holds no trees as 'hierarchy'" in capsys.readouterr().err
    assert objects_in(bucket) == before
    assert run(archive / "grey.png", bucket, "--scheduler", workers, "--quiet", recipe=["--method", "hierarchy"]) == 0
    with open_storage(bucket).lock():
        before = objects_in(bucket)
        assert run_command(["recut", bucket, "--regions", "2", "--workers", "1"]) == 3
        assert objects_in(bucket) == before
    assert f"held by another run (process {os.getpid()} on " in capsys.readouterr().err


def test_a_second_run_ends_with_code_3_and_writes_nothing(archive, bucket, capsys):
    with open_storage(bucket).lock():
        before = objects_in(bucket)
        assert run(archive, bucket, "--workers", "1") == 3
        assert objects_in(bucket).keys() == before.keys() == {".lock"}
    assert f"held by another run (process {os.getpid()} on " in capsys.readouterr().err


def test_a_bucket_that_does_not_exist_ends_with_code_2(archive, capsys):
    assert run(archive, "s3://absent-bucket/x") == 2
    assert "the bucket absent-bucket does not exist" in capsys.readouterr().err
    assert run_command(["status", "s3://absent-bucket/x"]) == 2


def test_after_a_killed_run_the_next_takes_over_and_does_the_rest(archive, bucket):
    process = command(archive, bucket, REGIONFLOW_S3_LEASE_S="4")
    records = set()
    while not records:
        assert process.poll() is None, process.communicate()
        records = {name for name in open_storage(bucket).files("runs") if "/records/" in name}
    process.kill()
    process.communicate()
    check_store(bucket)
    code, error = ended(command(archive, bucket))
    while code == 3:
        assert "lapses in" in error
        code, error = ended(command(archive, bucket))
    assert code == 1, error
    assert check_store(bucket, NAMES, exit_code=1, source=archive) == {"segmented": 5, "rejected": 1}


class Faults:
    """Breaks the puts of results and records from number `first` on, `count` of them; the lock's are left alone."""

    def __init__(self, fault, first, count):
        self.fault, self.first, self.last, self.seen = fault, first, first + count - 1, 0

    def __call__(self, number, method, path):
        if method != "PUT" or "/.lock" in path:
            return ""
        self.seen += 1
        return self.fault if self.first <= self.seen <= self.last else ""


PERSISTENT = 10**6


@pytest.mark.parametrize(
    ("fault", "first", "count"),
    [
        ("503", 9, PERSISTENT),
        ("stall", 6, 1),
        ("reset", 1, PERSISTENT),
        ("lose", 2, 2),
        ("lose", 20, PERSISTENT),
    ],
)
def test_after_any_fault_of_the_server_the_invariants_hold(archive, bucket, s3_endpoint, fault, first, count):
    with FaultProxy(s3_endpoint, Faults(fault, first, count)) as proxy:
        patience = {"REGIONFLOW_S3_TIMEOUT_S": "2", "AWS_MAX_ATTEMPTS": "3", "AWS_ENDPOINT_URL": proxy.url}
        code, error = ended(command(archive, bucket, **patience))
    assert proxy.broken
    if count != PERSISTENT:
        assert code == 1, error
        check_store(bucket, NAMES, exit_code=1, source=archive)
        return
    assert code == 4, error
    assert f"{bucket}/" in error
    check_store(bucket)
    assert verify_store(bucket)[1] == []
    code, error = ended(command(archive, bucket))
    assert code == 1, error
    assert check_store(bucket, NAMES, exit_code=1, source=archive) == {"segmented": 5, "rejected": 1}


@pytest.fixture(scope="module")
def replacing(archive_of, tmp_path_factory, workers, prefect_api, s3_endpoint):
    """A store, and a source with one image that changed: what a run of it replaces is in the way of every crash."""
    other = archive_of(tmp_path_factory.mktemp("replacing") / "archive") / "sub" / "inner.png"
    source = tmp_path_factory.mktemp("one")
    (source / "grey.png").write_bytes((other.parents[1] / "grey.png").read_bytes())
    assert run(source, "s3://night/replacing", "--scheduler", workers, "--quiet") == 0
    (source / "grey.png").write_bytes(other.read_bytes())
    return source, objects_in("s3://night/replacing")


def computed(ref, job):
    made = items.load_items([Work(ref)], job)
    for step in (items.prepare_items, items.graph_items, items.cluster_items, items.contour_items):
        made = step(made, job)
    return made


@pytest.mark.parametrize("first", [1, 2, 3, 5, 7, 9, 11, 12, 13])
def test_whichever_change_breaks_while_an_image_is_replaced_no_mixture_counts(
    replacing, bucket, s3_endpoint, monkeypatch, first
):
    source, files = replacing
    storage = open_storage(bucket)
    for name, data in files.items():
        storage.write(name, data)
    ref = next(ref for ref in list_images(source) if ref.name == "grey.png")
    job = items.Job(bucket, "000002-x", "ward", Recipe(sigma=1, scale=0.5, method=Ward(n_regions=3)))
    made = computed(ref, job)
    seen = []

    def decide(number, method, path):
        if method not in ("PUT", "DELETE"):
            return ""
        seen.append(path)
        return "reset" if len(seen) >= first else ""

    with storage.lock() as token, monkeypatch.context() as patch, FaultProxy(s3_endpoint, decide) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        objects._client.cache_clear()
        broken = None
        try:
            items.store_items(made, replace(job, lock=token), "00000")
        except OSError as error:
            broken = error
        finally:
            objects._client.cache_clear()
            patch.undo()
    assert (broken is None) == (len(seen) < first)
    check_store(bucket)
    assert verify_store(bucket)[1] == []
    record = read_records(bucket).get((ref.id, "ward"))
    if broken is not None and len(seen) > 1:  # the first is the withdrawal itself
        assert record is None
    with storage.lock() as token:
        items.store_items(made, replace(job, run="000003-x", lock=token), "00000")
        publish_index(storage)
        write_gallery(storage)
        close_runs(storage)
    check_store(bucket, source=source)
    assert verify_store(bucket)[1] == []
    assert read_records(bucket)[ref.id, "ward"].run == "000003-x"
