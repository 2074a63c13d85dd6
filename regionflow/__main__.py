"""Start the command, or say what stands in its way."""

import sys
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("flows", "tasks", "segmentation")
#: As in `flows.exit_codes`, which cannot be imported yet: 1 would mean that images were refused.
_BROKEN = 4


def main() -> None:
    """Run the command; end with the exit code that its outcome has."""
    if problem := _shadowed():
        sys.stderr.write(f"regionflow: {problem}\n")
        sys.exit(_BROKEN)
    from flows.cli import main as run

    run()


def _shadowed() -> str:
    """Say which file is imported in place of one of ours; the names of our packages are common ones."""
    ours = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            return f"its package {name!r} is missing; install regionflow again"
        found = Path(spec.origin)
        if found.resolve().parent != ours / name:
            place = found.parents[1] if found.name == "__init__.py" else found.parent
            return f"{found} hides its package {name!r}; take {place} out of PYTHONPATH, or rename that file"
    return ""


if __name__ == "__main__":
    main()
