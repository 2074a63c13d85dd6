"""An archive of many small images in one run: time per image, memory of flow, workers and server, the night after."""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.measure import Row

_SIDE = 64
_SAMPLE_EVERY_S = 2.0
#: Rows of the curve: images that were done when it was sampled. The first batches only mark where it begins.
_MARKS = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def run(*, quick: bool = False, count: int = 100_000) -> list[Row]:
    """Make the images, segment them in one run, sample it from outside, and run again with nothing to do."""
    count = 40 if quick else count
    with tempfile.TemporaryDirectory() as folder:
        source, output = make_images(Path(folder) / "images", count), Path(folder) / "out"
        samples = _sampled(_command(source, output), output)
        again = _wall(_command(source, output))
    rows = [_row(samples, mark) for mark in _MARKS if mark < count] + [_row(samples, count)]
    return [*rows, {"images": count, "seconds": again, "what": "second run, nothing changed"}]


def make_images(folder: Path, count: int) -> Path:
    """Write small images, 1,000 a folder: two discs in noise, each its own."""
    from PIL import Image

    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        picture = rng.normal(60, 6, (_SIDE, _SIDE))
        for level in (140, 200):
            row, column, radius = rng.uniform((15, 15, 6), (50, 50, 13))
            picture[np.hypot(rows - row, columns - column) < radius] = level
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(place / f"{number:06d}.png", compress_level=1)
    return folder


def figure(rows: list[Row]) -> Figure:
    """Draw the curve: what an image costs, and how much memory the processes hold, as the run goes on."""
    curve = [row for row in rows if not row["what"]]
    done = [row["images"] for row in curve]
    drawing = Figure(figsize=(9, 3.4), layout="constrained")
    time_axis, memory_axis = drawing.subplots(1, 2)
    total = np.array([row["CPU ms an image"] for row in curve])
    time_axis.plot(done, total, "o-", label="all processes")
    time_axis.plot(done, total * [row["orchestration"] for row in curve], "o-", label="flow and Prefect's API")
    time_axis.set(xlabel="images done", ylabel="CPU ms an image", xscale="log", ylim=0)
    for kind, label in (("flow", "flow process"), ("workers", "largest worker"), ("server", "Prefect's API")):
        memory_axis.plot(done, [row[f"MiB {kind}"] for row in curve], "o-", label=label)
    memory_axis.set(xlabel="images done", ylabel="resident memory, MiB", xscale="log", ylim=0)
    for axis in (time_axis, memory_axis):
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    return drawing


def _command(source: Path, output: Path) -> list[str]:
    script = str(Path(sys.executable).with_name("regionflow"))
    recipe = ["--method", "ward", "--regions", "4", "--scale", "0.25", "--sigma", "1"]
    return [script, "run", str(source), str(output), *recipe, "--workers", "2", "--quiet"]


def _wall(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - started


def _sampled(command: list[str], output: Path) -> list[Row]:
    """Run a command; every two seconds note images done, CPU seconds and memory of its processes."""
    samples: list[Row] = []
    process = subprocess.Popen(command)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, output, samples, stop))
    watcher.start()
    code = process.wait()
    stop.set()
    watcher.join()
    if code:
        raise RuntimeError(f"{command} ended with code {code}")
    return samples


def _watch(pid: int, output: Path, samples: list[Row], stop: threading.Event) -> None:
    import psutil
    import pyarrow.parquet as pq

    started = time.monotonic()
    counted: dict[Path, int] = {}
    while not stop.wait(_SAMPLE_EVERY_S):
        for path in output.glob("runs/*/records/*.parquet"):
            counted[path] = counted.get(path) or pq.read_metadata(path).num_rows
        try:
            flow = psutil.Process(pid)
            sample = _usage(flow, flow.children(recursive=True))
        except psutil.Error:
            continue
        samples.append({"done": sum(counted.values()), "seconds": time.monotonic() - started, **sample})


def _usage(flow: object, children: list[object]) -> Row:
    kinds = {"flow": [flow], "workers": [], "server": []}
    for child in children:
        command = " ".join(child.cmdline())
        if "spawn_main" in command:
            kinds["workers"].append(child)
        elif "prefect" in command or "uvicorn" in command:
            kinds["server"].append(child)
    usage: Row = {}
    for kind, processes in kinds.items():
        usage[f"MiB {kind}"] = max((p.memory_info().rss for p in processes), default=0) / 2**20
        usage[f"CPU s {kind}"] = sum(sum(p.cpu_times()[:2]) for p in processes)
    return usage


def _row(samples: list[Row], mark: int) -> Row:
    """Describe the run at the moment when `mark` images were done, and its pace up to there."""
    working = [sample for sample in samples if sample["MiB workers"]]  # not while it starts, or writes the index
    begun = next(sample for sample in working if sample["done"])
    at = next((sample for sample in working if sample["done"] >= mark), working[-1])
    done = max(1, at["done"] - begun["done"])
    orchestration = sum(at[f"CPU s {kind}"] - begun[f"CPU s {kind}"] for kind in ("flow", "server"))
    total = orchestration + at["CPU s workers"] - begun["CPU s workers"]
    return {
        "images": at["done"],
        "seconds": at["seconds"],
        "ms an image": 1000 * (at["seconds"] - begun["seconds"]) / done,
        "CPU ms an image": 1000 * total / done,
        "orchestration": orchestration / total if total else 0.0,
        **{name: round(at[name]) for name in ("MiB flow", "MiB workers", "MiB server")},
        "what": "",
    }
