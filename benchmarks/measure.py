"""Measuring on a shared machine: CPU time, candidates interleaved, medians."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def interleaved(candidates: Mapping[str, Callable[[], Any]], *, repeats: int = 5) -> dict[str, float]:
    """Time callables in turn; return the median CPU milliseconds of each.

    One unmeasured round comes first: imports, caches and first-touch memory are nobody's speed.
    """
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(repeats + 1):
        for name, run in candidates.items():
            started = time.process_time()
            run()
            if round_:
                spent[name].append((time.process_time() - started) * 1000)
    return {name: statistics.median(times) for name, times in spent.items()}


def cpu_seconds_of(command: Sequence[str], **keywords: Any) -> tuple[float, float]:
    """Run a program; return CPU seconds of it and all its descendants, and its wall seconds.

    Raises
    ------
    RuntimeError
        It did not end with code 0: then there is nothing to measure.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(
        command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **keywords
    )
    wall = time.monotonic() - started
    if done.returncode:
        said = "\n".join(done.stderr.splitlines()[-5:])
        raise RuntimeError(f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def markdown(rows: Sequence[Row]) -> str:
    """Lay rows out as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "–" if value is None else str(value)


def photos(folder: Path, count: int) -> Path:
    """Fill a folder with photographs of 481×321 pixels: BSDS500's where it lies beside the project, else crops."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / "bsds500" / "images"
    sources = sorted(shared.glob("*/*.jpg")) or None
    for number in range(count):
        target = folder / f"photo-{number:05d}.jpg"
        if sources is None:
            picture = _crop(number)
        else:
            picture = Image.open(sources[number % len(sources)])
            if number >= len(sources):
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(target, quality=95)
    return folder


def _crop(number: int) -> Any:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    china = Image.fromarray(load_sample_image("china.jpg" if number % 2 else "flower.jpg"))
    left, top = number * 7 % (china.width - 481), number * 13 % (china.height - 321)
    return china.crop((left, top, left + 481, top + 321))


def versions() -> dict[str, str]:
    """Versions of everything compared."""
    from importlib.metadata import version

    names = (
        "regionflow",
        "numpy",
        "scipy",
        "scikit-learn",
        "scikit-image",
        "opencv-python-headless",
        "prefect",
        "dask",
    )
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}
