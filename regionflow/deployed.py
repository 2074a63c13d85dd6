"""The flows, for entrypoints of deployments: under names that nothing in a worker's folder can hide.

A Prefect worker lets its runs, and what they start, import from the folder that it stands in before anything else;
``flows``, ``tasks`` or ``segmentation`` may well be somebody's there.
"""

import os
import sys
from pathlib import Path

_OURS = str(Path(__file__).resolve().parents[1])


def _forget(folder: str) -> None:
    """Import nothing from a folder any more, here and in processes that are started from here."""
    while sys.path.count(folder) > 1:  # Prefect takes away the one that it has put there for this import
        sys.path.remove(folder)
    kept = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)


if str(Path.cwd()) != _OURS:
    _forget(str(Path.cwd()))
sys.path.insert(0, _OURS)
try:
    from flows.recut_archive import recut_archive
    from flows.segment_archive import segment_archive
    from flows.segment_image import segment_image
finally:
    sys.path.remove(_OURS)

__all__ = ["recut_archive", "segment_archive", "segment_image"]
