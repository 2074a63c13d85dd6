"""A Dask cluster that others started: scheduler and workers in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import RECIPE, finish, kill, make_archive, results, start, stored, wait_for

from flows.cli import run_command
from segmentation.io.verify import verify_store
from tests.invariants import check_store

pytestmark = pytest.mark.usefixtures("prefect_api")
DASK = str(Path(sys.executable).with_name("dask"))


class Cluster:
    """`dask scheduler` and `dask worker`, started by hand."""

    def __init__(self, folder, *, path=None, security=()):
        self.file = folder / "scheduler.json"
        self.security = security
        self.environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
        self.folder = folder
        self.processes = []
        protocol = ["--protocol", "tls"] if security else []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *protocol)
        wait_for(self.file.exists, self.scheduler)

    def worker(self, **keywords):
        options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder)]
        return self._start("worker", "--host", "127.0.0.1", *options, **keywords)

    def address(self):
        import json

        return json.loads(self.file.read_text())["address"]

    def _start(self, kind, *options):
        command = [DASK, kind, "--scheduler-file", str(self.file), *options, *self.security]
        quiet = subprocess.DEVNULL
        self.processes.append(subprocess.Popen(command, env=self.environment, stdout=quiet, stderr=quiet))
        return self.processes[-1]

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=30)


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "cluster").mkdir()
    started = Cluster(tmp_path / "cluster")
    yield started
    started.stop()


@pytest.fixture
def source(tmp_path):
    return make_archive(tmp_path / "archive")


def test_workers_on_other_machines_give_the_same_results(source, cluster, tmp_path, dask_scheduler):
    cluster.worker()
    cluster.worker()
    for root, scheduler in ((tmp_path / "a", cluster.address()), (tmp_path / "b", dask_scheduler)):
        assert run_command(["run", str(source), str(root), *RECIPE, "--scheduler", scheduler, "--quiet"]) == 1
    assert results(tmp_path / "a") == results(tmp_path / "b")


def test_a_worker_with_other_code_is_refused_by_name(source, tmp_path, capsys):
    other = tmp_path / "other"
    for package in ("segmentation", "tasks", "flows"):
        shutil.copytree(Path(__file__).resolve().parents[2] / package, other / package)
    changed = other / "segmentation" / "kernels" / "ward.py"
    changed.write_text(changed.read_text() + "# another release\n")
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster", path=other)
    try:
        cluster.worker()
        assert run_command(["run", str(source), str(tmp_path / "out"), *RECIPE, "--scheduler", cluster.address()]) == 4
    finally:
        cluster.stop()
    assert "differs: regionflow code" in capsys.readouterr().err


def test_an_encrypted_scheduler_without_certificates_is_refused_before_anything_is_written(source, tmp_path, capsys):
    command = ["run", str(source), str(tmp_path / "out"), *RECIPE, "--scheduler", "tls://127.0.0.1:8786"]
    assert run_command(command) == 2
    assert "tls://127.0.0.1:8786 needs certificates; set distributed.comm.tls.ca-file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_dies_ends_the_run_and_the_next_goes_on(source, cluster, tmp_path, dask_scheduler):
    root = tmp_path / "out"
    cluster.worker()
    process = start(source, root, "--scheduler", cluster.address())
    wait_for(lambda: stored(root) >= 3, process)
    kill(cluster.scheduler)
    code, error = finish(process)
    assert code == 4, error
    assert "Traceback" not in error
    check_store(root)
    for output in (root, tmp_path / "whole"):
        assert run_command(["run", str(source), str(output), *RECIPE, "--scheduler", dask_scheduler, "--quiet"]) == 1
        check_store(output, [path.name for path in source.iterdir()], exit_code=1, source=source)
    assert verify_store(root)[1] == []
    assert results(root) == results(tmp_path / "whole")
