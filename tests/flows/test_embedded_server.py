"""Prefect's API as the command starts it for itself: it ends with the command, and its death costs nothing."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from commands import RECIPE, alive, children, finish, kill, make_archive, results, stored, wait_for

from flows.cli import run_command
from flows.embedded_server import EmbeddedServer
from segmentation.errors import ServerError
from segmentation.io.verify import verify_store
from tests.invariants import check_store


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_archive(tmp_path_factory.mktemp("embedded") / "archive")


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory):
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def run_here(source, prefect_home, tmp_path):
    """Start the command as on a machine where no Prefect server is configured, unless `url` names one."""

    def start(url="", **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
        environment = {**kept, "PREFECT_HOME": str(prefect_home), **more, **({"PREFECT_API_URL": url} if url else {})}
        command = [sys.executable, "-m", "flows.cli", "run", source, tmp_path / "out", *RECIPE, "--workers", "1"]
        return subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory, prefect_api, dask_scheduler):
    """The results of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "out"
    assert run_command(["run", str(source), str(root), *RECIPE, "--scheduler", dask_scheduler, "--quiet"]) == 1
    return results(root)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A current folder with modules in it that must not be taken for ours, or for Python's."""
    (tmp_path / "here" / "flows").mkdir(parents=True)
    for name in ("flows/__init__.py", "prefect.py", "socket.py"):
        (tmp_path / "here" / name).write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path / "here")


def test_nothing_is_imported_from_the_folder_that_one_stands_in(elsewhere, prefect_home, archive, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_API", "PYTHONSAFE"))}
    script = Path(sys.executable).with_name("regionflow")
    command = [str(script), "run", str(archive), str(tmp_path / "out"), *RECIPE, "--workers", "1"]
    done = subprocess.run(command, env={**kept, "PREFECT_HOME": str(prefect_home)}, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "imported from the current folder" not in done.stderr
    assert stored(tmp_path / "out") == 5


def servers(process):
    found = []
    for child in alive(children(process.pid)):
        with suppress(psutil.Error):  # it ended just now
            if "--fd" in child.cmdline():
                found.append(child)
    return found


def test_a_run_whose_server_is_killed_gets_a_new_one_and_ends_as_if_nothing_had_been(run_here, whole, tmp_path):
    process = run_here()
    wait_for(lambda: stored(tmp_path / "out") >= 1, process)
    (server,) = servers(process)
    kill(server)
    wait_for(lambda: servers(process) not in ([], [server]), process)
    family = children(process.pid)
    code, error = finish(process)
    assert code == 1, error
    assert results(tmp_path / "out") == whole
    assert verify_store(tmp_path / "out")[1] == []
    check_store(tmp_path / "out")
    wait_for(lambda: not alive(family), timeout_s=10)


def test_nothing_of_a_killed_command_goes_on(run_here, tmp_path):
    process = run_here()
    wait_for(lambda: stored(tmp_path / "out") >= 1, process)
    family = children(process.pid)
    assert servers(process)
    kill(process)
    finish(process)
    wait_for(lambda: not alive(family), timeout_s=30)


def test_a_run_whose_configured_server_is_gone_ends_with_code_4_and_the_next_goes_on(
    run_here, whole, prefect_home, tmp_path, monkeypatch
):
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    server = EmbeddedServer()
    try:
        server.wait_until_healthy()
        process = run_here(server.url, PREFECT_CLIENT_MAX_RETRIES="0")
        wait_for(lambda: stored(tmp_path / "out") >= 1, process)
        kill(server.process)
    finally:
        server.stop()
    code, error = finish(process)
    assert code == 4, error
    assert "does not answer any more" in error
    assert "Traceback" not in error
    assert verify_store(tmp_path / "out")[1] == []
    check_store(tmp_path / "out")
    code, error = finish(run_here())
    assert code == 1, error
    assert verify_store(tmp_path / "out")[1] == []
    check_store(tmp_path / "out")
    assert results(tmp_path / "out") == whole


def test_a_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file where a folder is expected")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    server = EmbeddedServer()
    with pytest.raises(ServerError, match=r"did not start: .*Error.*home"):
        server.wait_until_healthy()
    server.stop()
