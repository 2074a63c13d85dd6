"""Compiled loops. Nothing imports them until they run: numba takes half a second to load.

``python -m segmentation.kernels`` compiles them all, once for a machine; else each waits for its first call.
"""

from pathlib import Path


def are_compiled() -> bool:
    """Tell whether loops were compiled here before, as far as can be told without numba."""
    return any(Path(__file__).with_name("__pycache__").glob("*.nbi"))
