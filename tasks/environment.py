"""What runs here: the code and the versions that labels depend on. Imported on workers, therefore no Prefect."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

#: Where two of these differ, two workers may give two results for one image.
_LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "scikit-image",
    "zarr",
    "pillow",
    "tifffile",
    "imagecodecs",
    "distributed",
)


@cache
def environment() -> dict[str, str]:
    """Return the Python version, a digest of this project's code, and the versions of the libraries below it."""
    found = {"python": platform.python_version(), "regionflow code": _code_digest()}
    return {**found, **{name: version(name) for name in _LIBRARIES}}


def differences(here: dict[str, str], there: dict[str, str]) -> list[str]:
    """Say what differs, one phrase each.

    Examples
    --------
    >>> differences({"numpy": "2.4.6", "zarr": "3.1.6"}, {"numpy": "2.3.0", "zarr": "3.1.6"})
    ['numpy 2.3.0 (2.4.6 here)']
    """
    return [f"{name} {there.get(name, 'absent')} ({here[name]} here)" for name in here if here[name] != there.get(name)]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for package in ("segmentation", "tasks"):
        folder = Path(str(files(package)))
        for source in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{source.relative_to(folder)}\n".encode() + source.read_bytes())
    return digest.hexdigest()[:12]
