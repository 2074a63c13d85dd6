"""The command in a process of its own, to be killed; and what two stores must have in common."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

#: A tenth of a second an image: a run over an archive of them can be disturbed in its middle.
RECIPE = ["--method", "spectral", "--regions", "12", "--set", "eigen_solver=arpack", "--scale", "0.5", "--sigma", "1"]
#: The slowest exact solver, at full size.
ENDLESS = {"sigma": 0, "scale": 1, "method": {"method": "spectral", "n_regions": 20, "eigen_solver": "lobpcg"}}
#: Columns that say when and in which run something was computed, not what.
_CIRCUMSTANCES = {"run", "batch", "seconds", "step_seconds"}


def make_archive(folder, count=24, side=140):
    """Write images that take a moment each, and one that is none."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).normal(120, 40, (side, side))
        noise[side // 3 : side // 2] += 60
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(folder / f"image-{number:02d}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def make_endless_archive(folder):
    """Write six images that are segmented at once with `ENDLESS`, and a larger one that takes many minutes."""
    folder.mkdir()
    for number, side in enumerate((20, 20, 20, 20, 20, 20, 400)):
        noise = np.random.default_rng(number).integers(0, 255, (side, side), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"image-{number}.png")
    return folder


def start(source, root, *more):
    """Start `regionflow run` in a process group of its own, reporting to the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "flows.cli", "run", str(source), str(root), *RECIPE, *more]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process, timeout_s=240):
    """Wait for a command; return its exit code and what it said on standard error."""
    _, error = process.communicate(timeout=timeout_s)
    return process.returncode, error


def wait_for(condition, process=None, timeout_s=120):
    """Poll until something is true."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def stored(root):
    """Count the images in a store."""
    return sum(1 for _ in root.glob("images/*/*.ome.zarr"))


def children(pid):
    """List the processes below one."""
    import psutil

    return psutil.Process(pid).children(recursive=True)


def alive(processes):
    """Tell which of some processes still run."""
    import psutil

    running = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        except psutil.NoSuchProcess:
            continue
    return running


def workers(pid):
    """List Dask's worker processes below one."""
    return [child for child in alive(children(pid)) if "spawn_main" in _command_line(child)]


def _command_line(process):
    import psutil

    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def kill(process):
    """Kill without a chance to clean up."""
    process.send_signal(signal.SIGKILL)


def results(root):
    """Everything a run is for: label arrays, pictures, region tables byte for byte; the index without its times."""
    folders = (root / "images", root / "contours", root / "tables" / "regions")
    files = {p.relative_to(root).as_posix(): p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()}
    rows = pq.read_table(root / "tables" / "index.parquet").to_pylist()
    return files, [{name: row[name] for name in row if name not in _CIRCUMSTANCES} for row in rows]
