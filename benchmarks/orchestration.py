"""What orchestration costs: `regionflow run` against the same functions in a plain Dask map, whole process trees."""

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, cpu_seconds_of, photos

#: The same chain, the same batches, the same cluster settings, without Prefect, plan, lock, index and gallery.
_PLAIN = """
import sys
from pathlib import Path
from distributed import as_completed
from flows.dask_cluster import cluster_for
from flows.settings import Settings
from segmentation.io.sources import list_images
from segmentation.params import parse_recipe
from segmentation.planning import Work, batch_size
from tasks.items import Job, cluster_items, contour_items, graph_items, load_items, prepare_items, store_items

def chain(works, job, number):
    items = load_items(works, job)
    for step in (prepare_items, graph_items, cluster_items, contour_items):
        items = step(items, job)
    return store_items(items, job, number)

if __name__ == "__main__":
    source, output, method = sys.argv[1:]
    Path(output).mkdir()
    job = Job(output, "000001-plain", method, parse_recipe({"method": {"method": method}}))
    works = [Work(ref) for ref in list_images(Path(source))]
    with cluster_for(Settings(workers=2)) as client:
        size = batch_size(len(works), 2)
        batches = [works[n : n + size] for n in range(0, len(works), size)]
        numbers = [f"{n:05d}" for n in range(len(batches))]
        for future in as_completed(client.map(chain, batches, [job] * len(batches), numbers)):
            future.result()
"""


def run(*, quick: bool = False) -> list[Row]:
    """Measure 500 photographs per method (4 if `quick`), and the start-up alone with one."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        many = photos(Path(folder) / "many", 4 if quick else 500)
        one = photos(Path(folder) / "one", 1)
        plain = Path(folder) / "plain.py"
        plain.write_text(_PLAIN)
        _command(one, Path(folder) / "warm", "ward")()  # the first start of Prefect's API makes its database
        for method in ("ward",) if quick else ("ward", "kmeans", "spectral"):
            rows += _method(Path(folder), plain, one, many, method)
    return rows


def _method(folder: Path, plain: Path, one: Path, many: Path, method: str) -> list[Row]:
    count = sum(1 for _ in many.iterdir())
    start_cpu = _command(one, folder / f"start-{method}", method)()[0]
    plain_start_cpu = _plain(plain, one, folder / f"plain-start-{method}", method)()[0]
    with _PeakMemory() as memory:
        cpu, wall = _command(many, folder / f"run-{method}", method)()
    plain_cpu, plain_wall = _plain(plain, many, folder / f"plain-{method}", method)()
    growth, plain_growth = (cpu - start_cpu) / (count - 1), (plain_cpu - plain_start_cpu) / (count - 1)
    return [
        {
            "method": method, "program": program, "images": count, "CPU s": total, "of it start-up": start,
            "CPU ms an image": each * 1000, "images/s": count / seconds, **peaks,
        }
        for program, total, start, each, seconds, peaks in (
            ("regionflow run", cpu, start_cpu, growth, wall, memory.peaks()),
            ("plain Dask map", plain_cpu, plain_start_cpu, plain_growth, plain_wall, {}),
        )
    ]  # fmt: skip


def _command(source: Path, output: Path, method: str) -> Any:
    script = str(Path(sys.executable).with_name("regionflow"))
    arguments = [script, "run", str(source), str(output), "--method", method, "--workers", "2", "--quiet"]
    return lambda: cpu_seconds_of(arguments)


def _plain(script: Path, source: Path, output: Path, method: str) -> Any:
    return lambda: cpu_seconds_of([sys.executable, str(script), str(source), str(output), method])


class _PeakMemory:
    """Watches the resident memory of the command and its workers."""

    def __init__(self) -> None:
        self.flow = 0
        self.worker = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def peaks(self) -> Row:
        """Return the peaks in MiB."""
        return {"peak MiB flow": self.flow // 2**20, "peak MiB worker": self.worker // 2**20}

    def _watch(self) -> None:
        import psutil

        while not self._stop.is_set():
            for process in psutil.Process().children(recursive=True):
                try:
                    command, resident = " ".join(process.cmdline()), process.memory_info().rss
                except psutil.Error:
                    continue
                if "regionflow run" in command.replace("/bin/", " ") or command.endswith("--quiet"):
                    self.flow = max(self.flow, resident)
                elif "spawn_main" in command:
                    self.worker = max(self.worker, resident)
            time.sleep(0.2)
