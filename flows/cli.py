"""The `regionflow` command: its commands put together, and the exit code and message that each error has.

Heavy imports wait until a command needs them, so that `--help` answers at once.
"""

import os
import re
import sys
from contextlib import suppress

from cyclopts import App, CycloptsError

from flows.command.demo import demo
from flows.command.recut import recut
from flows.command.results import export, gallery, status, verify
from flows.command.run import run
from flows.command.serve import serve
from flows.exit_codes import BROKEN, INTERRUPTED, LOCKED, OK, USAGE
from flows.interrupts import MESSAGE, received
from segmentation.errors import ParameterError, SegmentationError
from segmentation.reasons import known_reason, message_of


def _version() -> str:
    from importlib.metadata import version

    return version("regionflow")


#: Characters of what a library says that go into one line.
_LINE = 300

app = App(
    name="regionflow",
    version=_version,
    help="Segment image archives: labels in OME-Zarr, contours to look at, tables to analyse.",
    version_flags=["--version"],
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # an interrupted run has a message and an exit code of its own
)
for _command in (run, recut, demo, status, verify, gallery, export, serve):
    app.command(_command)


def main() -> None:
    """Run the command; end with the exit code that its outcome has."""
    code = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error is one line on standard error."""
    from segmentation.io.lock import StoreLockedError
    from segmentation.io.notes import keep_all_off_terminal

    keep_all_off_terminal()
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, ParameterError) as error:
        return _say(USAGE, error)
    except StoreLockedError as error:
        return _say(LOCKED, error)
    except KeyboardInterrupt:
        return _say(INTERRUPTED, MESSAGE)
    except Exception as error:  # code 1 is for images that were refused, and a person reads one line
        if received():
            return _say(INTERRUPTED, MESSAGE)
        is_known = isinstance(error, SegmentationError | OSError) and known_reason(error)
        return _say(BROKEN, message_of(error) if is_known else _unforeseen(error, arguments))
    return code if isinstance(code, int) else OK


def _unforeseen(error: Exception, arguments: list[str]) -> str:
    """Leave the traceback in a file; return the line that names it."""
    import platform
    import tempfile
    import traceback

    said = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:_LINE] or "no message"
    line = f"unforeseen {type(error).__name__}: {said}"
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="regionflow-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file,
    ):
        file.write(f"regionflow {_version()}, Python {platform.python_version()}, arguments {arguments!r}\n\n")
        file.write("".join(traceback.format_exception(error)))
        return f"{line} (the traceback is in {file.name}; please report it)"
    return line


def _say(code: int, error: object) -> int:
    from rich.console import Console

    text = " ".join(str(error).split())
    console = Console(stderr=True, soft_wrap=True, force_terminal=sys.stderr.isatty())
    console.print(f"regionflow: {text}", markup=False, highlight=False, style="red")
    return code


if __name__ == "__main__":
    main()
