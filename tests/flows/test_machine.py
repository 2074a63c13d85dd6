"""Machines as people have them: behind proxies, without a home, with few file handles, with folders of their own."""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.cli import run_command
from flows.machine import bypass_proxies, check_open_files
from segmentation.errors import MachineError

REGIONFLOW = str(Path(sys.executable).with_name("regionflow"))
NO_HOME = "/proc/1/no-home"  # nobody can make a folder there, not even root


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


@pytest.fixture
def proxy():
    """A proxy that nobody should ask: its address, and the list of those who did."""
    asked = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen():
        while True:
            try:
                asked.append(listener.accept()[1])
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def command(*arguments, limit=None, before=(), **environment):
    """Run the command as on a machine where nobody has configured Prefect."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "PYTHON", "REGIONFLOW", "XDG"))
    }
    return subprocess.run(
        [*before, REGIONFLOW, *map(str, arguments)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
    )


def segment(photos, output, **more):
    options = ["--method", "ward", "--regions", "4", "--scale", "1", "--workers", "1"]
    return command("run", photos, output, *options, **more)


def test_a_run_never_asks_a_proxy_for_its_own_machine(photos, proxy, tmp_path):
    address, asked = proxy
    proxies = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "WS_PROXY"), f"http://{address}")
    proxies |= {"ALL_PROXY": f"socks5h://{address}", "all_proxy": f"socks5://{address}"}
    done = segment(photos, tmp_path / "out", PREFECT_HOME=str(tmp_path / "new" / "prefect"), **proxies)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert asked == []
    assert (tmp_path / "new" / "prefect").is_dir()  # its parent was missing


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"http_proxy": "http://proxy:3128"}, {"http_proxy": "http://proxy:3128"}),
        ({"HTTPS_PROXY": "proxy:3128"}, {"HTTPS_PROXY": "proxy:3128"}),
        ({"ALL_PROXY": "socks5://proxy"}, {}),
        ({"all_proxy": "socks4://proxy:1080", "HTTP_PROXY": "ftp://proxy"}, {}),
        ({"http_proxy": "http://proxy:port", "https_proxy": "http://"}, {}),
        ({"http_proxy": ""}, {"http_proxy": ""}),
    ],
)
def test_only_proxies_that_can_work_are_left(given, left):
    bypass_proxies(given)
    assert {name: value for name, value in given.items() if name.lower() != "no_proxy"} == left
    assert given["no_proxy"] == given["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_exceptions_of_the_user_stay():
    given = {"NO_PROXY": ".example.org, localhost"}
    bypass_proxies(given)
    assert given["no_proxy"] == ".example.org,localhost,127.0.0.1,::1"
    everything = {"no_proxy": "*"}
    bypass_proxies(everything)
    assert everything == {"no_proxy": "*"}


def test_a_user_without_a_home_that_can_be_written_can_run(photos, tmp_path):
    (tmp_path / "temporary").mkdir()
    done = segment(photos, tmp_path / "out", HOME=NO_HOME, TMPDIR=str(tmp_path / "temporary"))
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "temporary").glob("regionflow*"))


def test_serve_without_a_home_names_the_remedy():
    done = command("serve", HOME=NO_HOME)
    assert done.returncode == 2
    assert re.search(r"--home: .* cannot be made .* REGIONFLOW_HOME\n$", done.stderr)


def test_a_prefect_home_that_can_be_none_is_named(photos, tmp_path):
    (tmp_path / "file").write_text("")
    done = segment(photos, tmp_path / "out", PREFECT_HOME=str(tmp_path / "file" / "prefect"))
    assert done.returncode == 4
    assert re.fullmatch(r"regionflow: PREFECT_HOME: '.*/file/prefect' cannot be written .*\n", done.stderr)
    assert not (tmp_path / "out").exists()


def test_too_few_open_files_are_said_at_once(photos, tmp_path):
    done = segment(photos, tmp_path / "out", limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)))
    assert done.returncode == 4
    assert re.fullmatch(r"regionflow: a process may have 60 open files here; .* needs 116: .*\n", done.stderr)


def test_a_low_soft_limit_of_open_files_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        check_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 4096)
        with pytest.raises(MachineError, match=r"with 1000000 workers needs 16,000,100: .* fewer --workers"):
            check_open_files(1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_machine_without_a_loopback_interface_is_said_at_once(photos, tmp_path):
    unshare = [shutil.which("unshare") or "unshare", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    done = segment(photos, tmp_path / "out", before=unshare)
    assert done.returncode == 4
    assert re.fullmatch(r"regionflow: this machine cannot reach itself at 127\.0\.0\.1 .* lo: .*\n", done.stderr)


@pytest.mark.parametrize("name", ["flows/__init__.py", "tasks.py", "segmentation/__init__.py"])
def test_a_package_of_the_user_that_hides_one_of_ours_is_named(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('imported')")
    done = command("--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 4
    assert done.stderr.startswith(f"regionflow: {file} hides its package")
    assert command("--version", before=["env", "-C", str(tmp_path)]).returncode == 0


def test_an_unforeseen_error_is_one_line_and_code_4_and_its_traceback_is_in_a_file(photos, tmp_path):
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "broken.yaml").write_text("distributed: [")
    done = segment(photos, tmp_path / "out", DASK_CONFIG=str(tmp_path / "dask"), TMPDIR=str(tmp_path))
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "broken.yaml" in line
    (file,) = re.findall(r"the traceback is in (\S+);", line)
    assert Path(file).parent == tmp_path
    assert "Traceback (most recent call last)" in Path(file).read_text()


def test_a_current_folder_that_is_gone_is_said(photos, tmp_path):
    (tmp_path / "gone").mkdir()
    leave = ["bash", "-c", 'cd "$0" && rmdir "$0" && "$@"', str(tmp_path / "gone")]
    done = segment(photos, tmp_path / "out", before=leave)
    assert done.returncode == 4
    assert re.fullmatch(r"regionflow: the current folder: .* change into another one\n", done.stderr)


def test_a_path_with_a_nul_is_refused(tmp_path, capsys):
    assert run_command(["run", "photos\0", str(tmp_path / "out")]) == 2
    assert run_command(["run", str(tmp_path), "out\0"]) == 2
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == [" SOURCE", " OUTPUT"]


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(f"{REGIONFLOW} --help | head -n 1", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
