"""What libraries say goes to the log, with the name of the file that it is about, and never to the terminal.

Some are logged, some warned of, and some C libraries write to standard error, whoever reads it.
"""

import faulthandler
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from segmentation.planning import display

#: Names the folder of a run's logs to the processes that it starts.
LOG_FOLDER = "REGIONFLOW_LOG_FOLDER"
#: Of what a library writes about one file, and of what a process logs.
_MOST_BYTES, _MOST_OF_A_PROCESS = 2**14, 2**24
_OURS = ("segmentation", "tasks", "flows")

log = logging.getLogger(__name__)

_file: ContextVar[str] = ContextVar("file", default="")


@contextmanager
def noted_of(name: str) -> Iterator[None]:
    """Say which file it is that libraries speak of meanwhile."""
    token = _file.set(name)
    try:
        yield
    finally:
        _words.pass_on()
        _file.reset(token)


class _Notes(logging.Handler):
    """Passes on what a library logs, as something to know, not to act on: a file that is read is read."""

    def emit(self, record: logging.LogRecord) -> None:
        # Below a warning: Python prints those of loggers that nobody has set up.
        log.info("%s: %s says: %s", _file.get() or "an image", record.name, record.getMessage())


_notes = _Notes()


def keep_off_terminal(library: str) -> None:
    """Send what a library's logger says to our log; as often as one likes.

    Examples
    --------
    >>> keep_off_terminal("tifffile")
    >>> logging.getLogger("tifffile").warning("nobody sees this, unless the log is shown")
    """
    logger = logging.getLogger(library)
    if _notes not in logger.handlers:
        logger.addHandler(_notes)
        logger.propagate = False


def keep_all_off_terminal() -> None:
    """Let nothing that is logged or warned of reach the terminal, unless somebody sets a logger up for it."""
    logging.captureWarnings(True)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


class _Words:
    """Standard output and error of this process, if they are a file of ours, taken from it line by line."""

    def __init__(self) -> None:
        self.file: int | None = None

    def pass_on(self) -> None:
        """Log what was written since, with the name of the file that is being read."""
        if self.file is None or not (size := os.fstat(self.file).st_size):
            return
        text = os.pread(self.file, min(size, _MOST_BYTES), 0)
        os.ftruncate(self.file, 0)
        for line in text.decode("utf-8", "replace").splitlines():
            log.info("%s: a library wrote: %s", _file.get(), display(line))


_words = _Words()


class _Named(logging.Filter):
    """Puts the name of the file that is being read before what is said without it."""

    def filter(self, record: logging.LogRecord) -> bool:
        name, text = _file.get(), record.getMessage()
        record.about = f"{name}: " if name and name not in text else ""
        return True


def log_handler(folder: Path) -> logging.Handler:
    """Return what writes a log of this process into a folder; nothing is made before the first line."""
    handler = logging.FileHandler(
        folder / f"{os.getpid()}.log", encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(about)s%(message)s"))
    handler.addFilter(_Named())
    return handler


@contextmanager
def logged_into(folder: Path) -> Iterator[None]:
    """Log what happens in this process, and in those that it starts, into a folder."""
    root, handler = logging.getLogger(), log_handler(folder)
    levels = {name: logging.getLogger(name).level for name in _OURS}
    before = os.environ.get(LOG_FOLDER)
    os.environ[LOG_FOLDER] = str(folder)
    root.addHandler(handler)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.removeHandler(handler)
        handler.close()
        os.environ.pop(LOG_FOLDER)
        if before is not None:
            os.environ[LOG_FOLDER] = before


def log_worker() -> None:
    """Log what happens in this worker process, what C libraries write included, if its run has a folder for that.

    What is written when it dies stays in a file of its own.
    """
    name = os.environ.get(LOG_FOLDER)
    if not name or not Path(name).is_dir():
        return
    folder = Path(name)
    keep_all_off_terminal()
    logging.getLogger().addHandler(log_handler(folder))
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    _words.file = os.open(folder / f"{os.getpid()}.words", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(_words.file, descriptor)
    faulthandler.enable(_words.file)


def gathered(folder: Path) -> bytes:
    """Join the logs of all processes, the first megabytes of each; b"" if there is nothing in them."""
    parts = [_start_of(path) for path in sorted(folder.glob("*.log"))]
    for path in sorted(folder.glob("*.words")):
        last = _start_of(path).decode("utf-8", "replace").splitlines()
        parts.append("".join(f"last words of process {path.stem}: {display(line)}\n" for line in last).encode())
    return b"".join(parts)


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MOST_OF_A_PROCESS)
        return data + b"(the rest is left out)\n" if file.read(1) else data
