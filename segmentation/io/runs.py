"""The folder of a run: what it was asked, with which versions, and how it ended."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segmentation.errors import StoreError
from segmentation.io.files import write_atomically

#: What the files of a store mean; counts up when an older version would misread them.
FORMAT = 1


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second. For people to read; nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def start_run(root: Path, description: dict[str, Any]) -> str:
    """Make the folder of the next run and write its description; return the run's name.

    Names count up (``000012-20260430T020000Z``), so that they sort by age whatever the clock does.
    """
    stamp = now().replace("-", "").replace(":", "")
    numbers = [int(path.name.split("-")[0]) for path in (root / "runs").glob("[0-9]*-*")]
    run = f"{max(numbers, default=0) + 1:06d}-{stamp}"
    (root / "runs" / run).mkdir(parents=True)
    write_run(root, run, {**description, "run": run, "format": FORMAT, "started": now()})
    return run


def write_run(root: Path, run: str, description: dict[str, Any]) -> None:
    """Write a run's description, replacing the one before."""
    text = json.dumps(description, indent=2, ensure_ascii=True, allow_nan=False)
    write_atomically(root / "runs" / run / "run.json", text.encode())


def read_run(root: Path, run: str) -> dict[str, Any]:
    """Read a run's description; no more than its name if the run died before it was written.

    Raises
    ------
    StoreError
        It is damaged.
    """
    path = root / "runs" / run / "run.json"
    try:
        description: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"run": run}
    except ValueError as error:
        raise StoreError(f"{path}: damaged ({error})") from error
    return description


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Return the descriptions of all runs, oldest first."""
    return [read_run(root, path.name) for path in sorted((root / "runs").glob("[0-9]*-*"))]


def was_interrupted(root: Path) -> bool:
    """Tell whether the newest run did not come to its end, or has not yet."""
    newest = _newest(root)
    return bool(newest) and "finished" not in newest


def check_format(root: Path) -> None:
    """Refuse a store that this version might misread, before anything in it is touched.

    Raises
    ------
    StoreError
        A newer version wrote it.
    """
    found = _newest(root).get("format", FORMAT)
    if found > FORMAT:
        raise StoreError(
            f"{root} was written by a newer regionflow (format {found}, this one knows {FORMAT}); update it"
        )


def _newest(root: Path) -> dict[str, Any]:
    """Read the description of the newest run; empty if there is none."""
    newest = max((path.name for path in (root / "runs").glob("[0-9]*-*")), default="")
    return read_run(root, newest) if newest else {}
