"""What libraries say of a file goes to the log, with the file's name, and never to the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger(__name__)

_file: ContextVar[str] = ContextVar("file", default="an image")


@contextmanager
def noted_of(name: str) -> Iterator[None]:
    """Say which file it is that libraries speak of meanwhile."""
    token = _file.set(name)
    try:
        yield
    finally:
        _file.reset(token)


class _Notes(logging.Handler):
    """Passes on what a library logs, as something to know, not to act on: a file that is read is read."""

    def emit(self, record: logging.LogRecord) -> None:
        # Below a warning: Python prints those of loggers that nobody has set up.
        log.info("%s: %s says: %s", _file.get(), record.name, record.getMessage())


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
