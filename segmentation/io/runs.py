"""The folder of a run: what it was asked, with which versions, and how it ended."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from segmentation.errors import StoreError
from segmentation.io.storage import Location, Storage, open_storage
from segmentation.reasons import reason_of

#: What the files of a store mean; counts up when an older version would misread them.
FORMAT = 1


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second. For people to read; nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def start_run(root: Location, description: dict[str, Any]) -> str:
    """Begin the next run by writing its description; return the run's name.

    Names count up (``000012-20260430T020000Z``), so that they sort by age whatever the clock does.
    """
    storage = open_storage(root)
    stamp = now().replace("-", "").replace(":", "")
    numbers = [int(run.split("-")[0]) for run in run_names(storage)]
    run = f"{max(numbers, default=0) + 1:06d}-{stamp}"
    write_run(storage, run, {**description, "run": run, "format": FORMAT, "started": now()})
    return run


def write_run(root: Location, run: str, description: dict[str, Any]) -> None:
    """Write a run's description, replacing the one before."""
    text = json.dumps(description, indent=2, ensure_ascii=True, allow_nan=False)
    open_storage(root).write(f"runs/{run}/run.json", text.encode())


def read_run(root: Location, run: str) -> dict[str, Any]:
    """Read a run's description; no more than its name if the run died before it was written.

    Raises
    ------
    StoreError
        It is damaged.
    """
    storage = open_storage(root)
    name = f"runs/{run}/run.json"
    try:
        description = json.loads(storage.read(name))
    except FileNotFoundError:
        return {"run": run}
    except ValueError as error:
        raise StoreError(f"{storage.url}/{name}: damaged ({reason_of(error)})") from error
    if not isinstance(description, dict):
        raise StoreError(f"{storage.url}/{name}: damaged (no description)")
    return description


def run_names(root: Location) -> list[str]:
    """List the names of all runs, oldest first."""
    return [run for run in open_storage(root).folders("runs") if re.match(r"[0-9]+-", run)]


def list_runs(root: Location, last: int = 0) -> list[dict[str, Any]]:
    """Return the descriptions of all runs, or of the `last` ones, oldest first."""
    storage = open_storage(root)
    return [read_run(storage, run) for run in run_names(storage)[-last:]]


def was_interrupted(root: Location) -> bool:
    """Tell whether the newest run did not come to its end, or has not yet."""
    newest = _newest(open_storage(root))
    return bool(newest) and "finished" not in newest


def check_format(root: Location) -> None:
    """Refuse a store that this version might misread, before anything in it is touched.

    Raises
    ------
    StoreError
        A newer version wrote it.
    """
    storage = open_storage(root)
    found = _newest(storage).get("format", FORMAT)
    if found > FORMAT:
        raise StoreError(
            f"{storage.url} was written by a newer regionflow (format {found}, this one knows {FORMAT}); update it"
        )


def _newest(storage: Storage) -> dict[str, Any]:
    """Read the description of the newest run; empty if there is none."""
    runs = run_names(storage)
    return read_run(storage, runs[-1]) if runs else {}
